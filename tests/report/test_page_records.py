import json
from pathlib import Path

from harness.report.page_records import command, record_cards
from harness.run.store import ResultStore
from tests.records import record

ROOT = Path(__file__).parents[2]


def test_the_command_of_a_record_makes_it_again(harness, photos: Path) -> None:
    words = ("--datasets", "photos", "--grey", "as-rgb", "--border", "symmetric", "--tile", "16")
    harness("run", "--models", "bicubic", *words, "--self-ensemble", "--scale", "3")
    (record,) = ResultStore(Path("results/local")).records()
    program, *again = command(record).split()
    shown = harness(*again, "--json", "--results", "other")
    assert program == "harness" and shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)[0]["id"] == record.identity.id


def test_it_names_the_weights() -> None:
    made = record("srcnn", "set5", tag="repro")
    assert command(made) == "harness run --models srcnn:repro --datasets set5"
    given = record("srcnn", "set5", tag="file")
    assert command(given).endswith("--models srcnn --datasets set5 --weights srcnn=w.mat")


def test_a_card_holds_the_record_but_for_its_images() -> None:
    records = list(ResultStore(ROOT / "results/reference").records())
    cards = record_cards(records, {"vdsr": "VDSR"})
    assert [card.id for card in cards] == [record.identity.id for record in records]
    card = next(card for card in cards if card.title == "VDSR on Set5, BI-x4/y")
    shown = json.loads(card.text)
    assert shown["id"] == card.id and shown["identity"]["model"] == "vdsr"
    assert "images" not in shown
    facts = dict(card.facts)
    assert facts["test set's SHA-256"] == shown["identity"]["dataset_sha256"]
    assert (ROOT / "results/reference" / facts["file"]).exists()
