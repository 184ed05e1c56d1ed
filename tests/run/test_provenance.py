import json
from pathlib import Path

from harness.run.provenance import command, joint, provenance
from harness.run.store import ResultStore
from tests.records import record


def test_what_machines_have_in_common_is_said_once_and_the_rest_is_listed() -> None:
    here = provenance("cpu") | {"utc": "2020-01-01T00:00:00+00:00"}
    there = here | {"cpu": "another", "utc": "2020-01-02T00:00:00+00:00"}
    told = joint([here, there, here])
    assert told["cpu"] == [here["cpu"], "another"]
    assert {key for key in here if told[key] != here[key]} == {"cpu", "utc"}
    assert told["utc"] > "2026", "it is when the work ended"


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
