"""The papers that the harness knows beside the default one, and the document on how to add one."""

import re
import tomllib
from pathlib import Path

import pytest
import torch

from harness.errors import UsageError
from harness.paper.findings import Findings
from harness.paper.literature import documents
from harness.paper.schema import Claim, paper
from harness.paper.vocabulary import TESTS
from harness.registry import MODELS, PAPERS, load_plugins
from harness.report.ablation import readings
from harness.run.store import ResultStore
from tests.records import frame

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/papers.md").read_text()
IMDN = ROOT / "docs/imdn.py"


def found(name: str | Path) -> Findings:
    """The findings of the committed runs for a paper."""
    runs = ResultStore(ROOT / "results/reference").read().table()
    return Findings(runs, paper(str(name)))


def verdicts(findings: Findings) -> dict[str, str]:
    return {one.claim: one.verdict for one in findings.claims}


def test_four_papers_are_known() -> None:
    assert list(PAPERS) == ["drfn2020", "imdn2019", "msrn2018", "rdn2018"]


@pytest.mark.parametrize("name", ["imdn2019", "msrn2018", "rdn2018"])
def test_a_table_read_from_a_known_document_has_its_numbers(name: str) -> None:
    known = {
        (source.where, scale, model, place): value
        for source in reversed(documents())
        for scale, model, numbers in source.lines()
        for place, value in numbers.items()
        if "later" not in source.name
    }
    for row in paper(name).rows:
        assert row.table.read_from
        if row.table.id == "later":
            continue
        for place, value in row.printed.items():
            inside = [known.get((one, row.scale, row.word, place)) for one in row.table.read_from]
            assert {value} == set(inside) - {None}, (row.method, place)


class TestMSRN:
    def test_the_registered_network_does_not_speak_for_the_numbers_on_luma(self) -> None:
        rows = {(row.table.id, row.scale): row.model for row in paper("msrn2018").rows}
        assert rows == {**{("authors", scale): "" for scale in (2, 3, 4)}, ("later", 4): "msrn"}

    def test_the_published_images_of_its_later_network_give_their_row(self) -> None:
        given = verdicts(found("msrn2018"))
        assert given.pop("later-msrn") == "reproduced" and set(given.values()) == {"not measured"}


class TestRDN:
    def test_its_published_images_give_its_set5(self) -> None:
        given = verdicts(found("rdn2018"))
        rows = {"log-x4-rdn", "copies-rdn"}
        assert {name for name, one in given.items() if one == "reproduced"} == rows
        assert {one for name, one in given.items() if name not in rows} == {"not measured"}

    def test_in_the_log_self_ensemble_is_better(self) -> None:
        evidence = next(c.evidence for c in found("rdn2018").claims if c.claim == "self-ensemble")
        assert "0.141346 dB on Set5" in evidence and "0.001311 of SSIM on Set5" in evidence


class TestIMDN:
    @pytest.mark.parametrize(("scale", "count"), [(2, 694_404), (3, 703_059), (4, 715_176)])
    def test_its_network_has_as_many_parameters_as_the_paper_says(
        self, scale: int, count: int
    ) -> None:
        """It says 694K, 703K and 715K."""
        load_plugins([IMDN])
        network = MODELS.get("imdn").build(scale=scale)
        assert sum(one.numel() for one in network.parameters()) == count

    def test_its_network_keeps_the_contract(self, harness) -> None:
        shown = harness("check-model", "imdn", "--plugin", IMDN)
        assert shown.exit_code == 0, shown.output
        assert "FAIL" not in shown.output

    def test_weights_in_its_published_layout_run_under_its_rules_in_one_command(
        self, harness, photos: Path, tmp_path: Path
    ) -> None:
        block = {"c1": (64, 64, 3), "c2": (64, 48, 3), "c3": (64, 48, 3), "c4": (16, 48, 3)}
        block |= {"cca.conv_du.0": (4, 64, 1), "cca.conv_du.2": (64, 4, 1), "c5": (64, 64, 1)}
        layers = {f"IMDB{k}.{name}": shape for k in range(1, 7) for name, shape in block.items()}
        layers |= {"fea_conv": (64, 3, 3), "c.0": (64, 384, 1), "LR_conv": (64, 64, 3)}
        layers |= {"upsampler.0": (48, 64, 3)}
        generator, tensors = torch.Generator().manual_seed(1), {}
        for name, (outputs, inputs, side) in layers.items():
            shape = (outputs, inputs, side, side)
            tensors[f"{name}.weight"] = 0.02 * torch.randn(shape, generator=generator)
            tensors[f"{name}.bias"] = torch.zeros(outputs)
        torch.save(tensors, tmp_path / "IMDN_x4.pth")
        words = ("run", "--plugin", IMDN, "--models", "imdn", "--datasets", photos)
        words += ("--weights", f"imdn={tmp_path / 'IMDN_x4.pth'}")
        shown = harness(*words, "--like", "imdn")
        assert shown.exit_code == 0, shown.output
        (record,) = ResultStore(Path("results/local")).records()
        assert record.identity.protocol == "BI-x4/rgb+symmetric"
        assert (record.status, record.parameters) == ("finished", 715_176)
        assert "already finished" in harness(*words, "--border", "symmetric").output

    def test_its_count_is_confirmed_with_the_plug_in_alone(self) -> None:
        assert verdicts(found("imdn2019"))["parameters"] == "not measured"
        load_plugins([IMDN])
        assert verdicts(found("imdn2019"))["parameters"] == "reproduced"

    def test_the_rows_beside_it_are_judged_at_the_scale_that_was_run(self) -> None:
        load_plugins([IMDN])
        rows = {one: verdict for one, verdict in verdicts(found("imdn2019")).items() if "-x" in one}
        assert {one for one, verdict in rows.items() if verdict == "reproduced"} == {
            f"copies-x4-{model}" for model in ("srcnn", "fsrcnn", "vdsr", "lapsrn", "srmdnf")
        }
        assert rows["copies-x4-edsr-baseline"] == "undecided"
        assert rows["copies-x4-imdn"] == rows["copies-x2-vdsr"] == "not measured"


class TestDocument:
    @pytest.fixture
    def example(self, tmp_path: Path) -> Path:
        """Its complete paper, as a file."""
        text, _ = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
        path = tmp_path / "example.toml"
        path.write_text(text)
        return path

    def test_its_paper_has_a_table_and_every_kind_of_verdict_it_speaks_of(
        self, example: Path
    ) -> None:
        findings = found(example)
        assert [one.row.method for one in findings.rows if one.row.printed] == [
            *("Bicubic", "SRCNN", "LapSRN", "Another method", "VDSR")
        ]
        assert verdicts(findings) == {
            "better": "reproduced",
            "parameters": "reproduced",
            "best": "inconsistent in print",
            "beautiful": "not measured",
            "table1-bicubic": "reproduced",
            "table1-srcnn": "reproduced",
            "table1-lapsrn": "refuted",
            "table1-another-method": "not measured",
            "table1-vdsr": "reproduced",
        }

    def test_with_fewer_decimals_in_print_every_number_gets_the_same_verdict(
        self, example: Path
    ) -> None:
        text = example.read_text()
        rounded = re.sub(
            r"(\d\d\.\d\d)/(0\.\d{4})",
            lambda cell: f"{float(cell[1]):.1f}/{float(cell[2]):.3f}",
            text,
        )
        example.write_text(rounded)
        with pytest.raises(
            UsageError, match=r"28\.4 has 1 decimal.* scores = \{ psnr = 1, ssim = 3"
        ):
            paper(str(example))
        example.write_text(rounded.replace("cells", "scores = { psnr = 1, ssim = 3 }\ncells"))
        before = verdicts(found(example))
        example.write_text(text)
        assert before == verdicts(found(example))

    def test_its_commands_work(self, harness, example: Path, tmp_path: Path) -> None:
        reference = ROOT / "results/reference"
        shown = harness("claims", "--paper", example, "--results", reference)
        assert shown.exit_code == 0, shown.output
        assert "half a dB" in shown.output
        words = ("--paper", example, "--results", reference, "--out", tmp_path / "example")
        shown = harness("report", "table1", *words)
        assert shown.exit_code == 0, shown.output
        written = (tmp_path / "example/table1.md").read_text()
        assert re.search("28.42 ✓/0.8104 ✓", written)

    def test_it_shows_every_test_and_each_can_be_read(self) -> None:
        shown = [
            tomllib.loads(f"test = {text}")["test"]
            for text in re.findall(r"`test = (\{.*\})`", DOCUMENT)
        ]
        claims = [Claim(key="one", where="", quote="", test=one) for one in shown]
        assert [type(one.parsed()) for one in claims] == list(TESTS.values())

    def test_its_open_question_has_counts(self, example: Path) -> None:
        paper_of, question = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
        example.write_text(paper_of + question)
        (table,) = readings(found(example))
        assert [line[-1] for line in table.lines] == [
            "Taken: 20 (vdsr, 665,921 parameters).",
            "Or: 10 (vdsr, depth=10, 296,641 parameters).",
            "Or: 20, the first of them 5x5 (666,945 parameters).",
        ]

    def test_its_plug_in_registers_the_paper(self, example: Path) -> None:
        (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
        (example.parent / "mine.py").write_text(code)
        load_plugins([example.parent / "mine.py"])
        assert paper("example2026").subject == "VDSR"


def test_two_methods_of_one_name_are_refused(tmp_path: Path) -> None:
    """Reports call a row by its network, or by a word made from the method."""
    text = (ROOT / "harness/paper/papers/msrn2018.toml").read_text()
    path = tmp_path / "twice.toml"
    path.write_text(
        text.replace(
            "x4 | MSRN, RGB |", "x4 | MSRN | -/- | -/- | -/- | -/- | -/-\nx4 | MSRN, RGB |"
        )
    )
    with pytest.raises(UsageError, match="have one name, later-msrn"):
        paper(str(path))


def test_a_paper_without_runs_is_judged_all_the_same() -> None:
    for name in PAPERS:
        assert Findings(frame(), paper(name)).claims
