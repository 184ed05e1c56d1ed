"""One number, one verdict: it follows from print and runs, and the check says the same."""

import math
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from harness.errors import UsageError
from harness.paper.check import against_paper
from harness.paper.findings import Findings
from harness.paper.schema import Doubt, Paper, Table, paper
from harness.paper.verdicts import JudgedCell, JudgedRow, Judgement, decide, judge_row
from harness.record import EarlierIdentity, RunRecord, WeightsInfo
from harness.registry import load_plugins
from harness.report.legend import dagger
from harness.run.store import ResultStore
from tests.records import frame, record, with_metric

STORE = ResultStore(Path(__file__).parents[2] / "results" / "reference")
PAPER = paper("drfn2020")
FINDINGS = Findings(STORE.read().table(), PAPER)
CELLS = {(cell.model, cell.dataset, cell.metric): cell for cell in FINDINGS.cells}


def seen(kind: str) -> list[JudgedCell]:
    return [cell for cell in CELLS.values() if cell.doubt and cell.doubt.seen == kind]


class TestRule:
    def test_what_print_contradicts_is_inconsistent_whatever_was_measured(self) -> None:
        for measured, can_refute in product((None, True, False), (True, False)):
            assert decide(False, measured, can_refute) == "inconsistent in print"

    def test_what_was_not_measured_is_not_measured(self) -> None:
        assert decide(True, None, True) == decide(True, None, False) == "not measured"

    def test_what_holds_is_reproduced(self) -> None:
        assert decide(True, True, True) == decide(True, True, False) == "reproduced"

    def test_what_does_not_hold_is_refuted_by_what_can_refute_it(self) -> None:
        assert decide(True, False, True) == "refuted"
        assert decide(True, False, False) == "undecided"


def test_every_printed_number_has_one_verdict() -> None:
    assert len(FINDINGS.cells) == len(CELLS) == 2 * 58
    assert Counter(cell.verdict for cell in CELLS.values()) == {
        "reproduced": 48,
        "inconsistent in print": 3,
        "undecided": 11,
        "not measured": 54,
    }
    undecided = {cell for cell in CELLS if CELLS[cell].verdict == "undecided"}
    # VDSR's luma was always rounded on Urban100; DRFN's weights are not the authors', and the
    # published images of MSRN are not those of the paper's network.
    assert {one for one in undecided if one[0] not in ("drfn", "msrn")} == {
        ("vdsr", "urban100", "ssim")
    }
    for cell in CELLS.values():
        assert (cell.measured is None) == (not cell.options)
        assert cell.measured is None or cell.measured in cell.options
        assert cell.verdict != "not measured" or cell.measured is None


def test_what_contradicts_other_printed_numbers_is_inconsistent() -> None:
    assert {cell.verdict for cell in seen("print")} == {"inconsistent in print"}


def test_what_is_only_odd_is_not_decided() -> None:
    assert {(cell.model, cell.verdict) for cell in seen("unusual")} == {
        ("edsr", "not measured"),
        ("msrn", "not measured"),
        ("msrn", "undecided"),
    }


def test_what_other_rules_give_is_reproduced_under_them_and_not_under_the_default() -> None:
    cells = seen("measurement")
    assert cells and {cell.verdict for cell in cells} == {"reproduced"}
    assert {cell.standing for cell in cells} == {"reproduced under other rules"}
    assert all(cell.measured and cell.measured.rules for cell in cells)
    elsewhere = [cell for cell in CELLS.values() if cell.measured and cell.measured.rules]
    assert elsewhere == cells


def printing(cells: str, *doubted: str, rules: str = "usual") -> Paper:
    """A paper with one table; the doubted cells contradict others in print."""
    table = Table(id="t", title="Table", columns=("set5", "set14"), cells=cells, rules=rules)
    doubts = tuple(Doubt(cell=cell, seen="print", reason="a slip") for cell in doubted)
    methods = {**PAPER.methods, "VDSR+": "vdsr+"}
    return changed(PAPER, methods=methods, tables=(table,), plots=(), doubts=doubts, claims=())


VDSR = "x4 | VDSR | 31.35/0.8000 | -"


def row_of(cells: str, *runs: RunRecord, doubted: tuple[str, ...] = ()) -> JudgedRow:
    (judged, *_) = Findings(frame(*runs), printing(cells, *doubted)).rows
    return judged


def cell_of(*runs: RunRecord, cells: str = VDSR, rules: str = "usual") -> JudgedCell:
    """VDSR's PSNR on Set5."""
    return Findings(frame(*runs), printing(cells, rules=rules)).cells[0]


def on_set5(psnr: float, protocol: str = "BI-x4/y", **options) -> RunRecord:  # type: ignore[no-untyped-def]
    return record("vdsr", "set5", (psnr, psnr), protocol=protocol, **options)


class TestRows:
    CELLS = "x4 | VDSR | 31.35/0.8000 | 28.02/0.7000"
    SLIPS = ("VDSR | set5 | psnr", "VDSR | set5 | ssim")

    def judged(self, *runs: RunRecord, doubted: tuple[str, ...]) -> Judgement:
        return judge_row(row_of(self.CELLS, *runs, doubted=doubted), "row")

    def test_misprints_alone_reproduce_nothing(self) -> None:
        found = self.judged(on_set5(27.0), doubted=self.SLIPS)
        assert found.verdict == "not measured" and "0 of 2 numbers" in found.evidence
        both = on_set5(27.0), record("vdsr", psnr=(28.02, 28.02), ssim=0.7)
        assert self.judged(*both, doubted=self.SLIPS).verdict == "reproduced"

    def test_a_row_of_misprints_is_inconsistent_in_print(self) -> None:
        every = (*self.SLIPS, "VDSR | set14 | psnr", "VDSR | set14 | ssim")
        for runs in ((), (on_set5(31.35),)):
            assert self.judged(*runs, doubted=every).verdict == "inconsistent in print"


class TestWhichRunsCount:
    def test_weights_that_lack_the_metric_hide_none_that_have_it(self) -> None:
        official = on_set5(31.35, whole=0.81)
        bare = replace(official, identity=replace(official.identity, metrics=("psnr", "ssim")))
        trained = on_set5(31.0, tag="repro", weights="r", whole=0.8203)
        table = Table(id="t", title="T", columns=("set5",), scores={"ssim-whole": 4}, cells="")
        table = changed(table, cells="x4 | VDSR | 0.8200")
        (cell,) = Findings(frame(bare, trained), changed(printing(VDSR), tables=(table,))).cells
        assert cell.shown and cell.shown.identity.id == trained.identity.id
        assert (cell.value, cell.verdict) == (0.8203, "reproduced")

    def test_the_authors_weights_count_under_either_border(self) -> None:
        off, near = on_set5(31.32), on_set5(31.34, "BI-x4/y+symmetric")
        others = [on_set5(31.32, "BI-x4/y+float-y")]
        assert cell_of(off, *others).verdict == "refuted", "another border need not be tried"
        cell = cell_of(off, near, *others)
        assert (cell.verdict, cell.standing) == ("reproduced", "reproduced under other rules")
        assert cell.measured and cell.measured.rules_text == "symmetric border of imresize"
        assert cell.value == pytest.approx(31.32)

    def test_without_the_table_s_own_rules_nothing_is_refuted(self) -> None:
        runs = on_set5(31.0, "BI-x4/y+symmetric"), on_set5(31.0, "BI-x4/y+symmetric+float-y")
        assert cell_of(*runs).verdict == "undecided"

    def test_the_authors_weights_of_an_earlier_version_come_before_retrained_ones(self) -> None:
        made = on_set5(31.35)
        stored = made.identity.to_json()
        stored.pop("inference")
        old = replace(made, identity=EarlierIdentity.from_json(stored))
        cell = cell_of(old, on_set5(29.0, tag="repro", weights="r"))
        assert cell.verdict == "reproduced" and cell.shown is old


class TestRuleSets:
    """LapSRN's printed SSIM of Set14, 0.7720, is reached by two rules together and by none alone.

    From the committed records: 0.7688, as-rgb 0.7703, luma not rounded 0.7695, both 0.7711.
    """

    AS_RGB, BOTH = "BI-x4/y+as-rgb", "BI-x4/y+as-rgb+float-y"

    def cell(self, *protocols: str, whole: bool = False) -> JudgedCell:
        def shown(run: RunRecord) -> RunRecord:
            if whole and run.identity.protocol == "BI-x4/y":
                return with_metric(run, "ssim-whole", [0.76943] * len(run.images))
            return run

        runs = {
            one.identity.protocol: shown(
                replace(one, identity=replace(one.identity, metrics=("psnr", "ssim")))
            )
            for one in STORE.records()
            if (one.identity.model, one.identity.dataset) == ("lapsrn", "set14")
        }
        cells = Findings(frame(*(runs[name] for name in protocols)), PAPER).cells
        place = ("lapsrn", "set14", "ssim")
        return next(one for one in cells if (one.model, one.dataset, one.metric) == place)

    def test_each_rule_by_itself_does_not_refute(self) -> None:
        cell = self.cell("BI-x4/y", self.AS_RGB, "BI-x4/y+float-y", whole=True)
        assert [round(one.value, 4) for one in cell.options] == [0.7688, 0.7694, 0.7703, 0.7695]
        assert cell.verdict == "undecided" and cell.tried == "4 of 8 rule sets tried"
        assert "grey images as-rgb with luma not rounded" in cell.not_tried

    def test_both_together_reproduce_it(self) -> None:
        cell = self.cell("BI-x4/y", self.BOTH)
        assert (cell.verdict, cell.standing) == ("reproduced", "reproduced under other rules")
        assert cell.tried == "2 of 8 rule sets tried"

    def test_the_evidence_names_the_command_that_settles_it(self) -> None:
        rows = Findings(frame(*self.cell("BI-x4/y").runs), PAPER).rows
        judged = next(one for one in rows if one.row.method == "LapSRN")
        told = judge_row(judged, "row").evidence
        assert "PSNR of Set14 28.085 for 28.19 (undecided, 1 of 4 rule sets tried)" in told
        command = "harness run --models lapsrn:official --datasets set14 --all-rules."
        assert told.count("harness run") == told.count(command) == 1


def test_the_evidence_says_where_two_numbers_need_different_rules() -> None:
    """SRMDNF's PSNR on Set14 is printed full-range, its SSIM as RGB."""
    rows = Findings(frame(*STORE.records()), PAPER).rows
    told = {one.row.method: judge_row(one, "row").evidence for one in rows if one.row.printed}
    words = "no single set of rules reproduces all its numbers on Set14"
    assert [method for method, evidence in told.items() if words in evidence] == ["SRMDNF"]


@pytest.mark.parametrize(("psnr", "verdict"), [(31.34, "reproduced"), (31.32, "refuted")])
def test_print_with_one_decimal_is_judged_by_its_own_rounding(psnr: float, verdict: str) -> None:
    """31.4 dB is printed: 31.35 at least, with 0.015 dB for other protocols."""
    one_decimal = changed(
        printing("x4 | VDSR | 31.40/0.8000 | -"),
        tables=(
            Table(
                id="t",
                title="Table",
                columns=("set5", "set14"),
                cells="x4 | VDSR | 31.4/0.800 | -",
                scores={"psnr": 1, "ssim": 3},
            ),
        ),
    )
    runs = (on_set5(psnr), on_set5(psnr, "BI-x4/y+float-y"))
    assert Findings(frame(*runs), one_decimal).cells[0].verdict == verdict


class TestWhatRefutes:
    RUNS = (on_set5(31.0), on_set5(31.0, "BI-x4/y+float-y"))

    def test_published_images_do(self) -> None:
        assert cell_of(*self.RUNS).verdict == "refuted"

    @pytest.mark.parametrize(("psnr", "verdict"), [(31.325, "undecided"), (31.315, "refuted")])
    def test_a_miss_that_the_border_of_imresize_can_make_up_for_does_not(
        self, psnr: float, verdict: str
    ) -> None:
        """31.35 dB is printed: the tolerance is 0.02 dB, and the border changes up to 0.01."""
        assert cell_of(on_set5(psnr), on_set5(psnr, "BI-x4/y+float-y")).verdict == verdict

    def test_other_images_of_a_known_set_do_not(self) -> None:
        runs = [replace(run, verified=False) for run in self.RUNS]
        runs.append(replace(on_set5(31.0, "BI-x4/y+as-rgb"), verified=False))
        assert cell_of(*runs).verdict == "undecided"
        # Other images may be grey: the two rules are told apart.
        assert {one.rules for one in cell_of(*runs).options} == {
            (),
            ("luma not rounded",),
            ("grey images as-rgb",),
        }

    @pytest.mark.parametrize("tag", ["official", "repro", "file"])
    @pytest.mark.parametrize("earlier", [False, True])
    @pytest.mark.parametrize("rest", [31.35, 33.0, 20.0])
    def test_an_infinite_score_decides_nothing(self, tag: str, earlier: bool, rest: float) -> None:
        def infinite(protocol: str) -> RunRecord:
            run = record("vdsr", "set5", (math.inf, rest), protocol=protocol, tag=tag)
            stored = run.identity.to_json()
            stored.pop("inference")
            return replace(run, identity=EarlierIdentity.from_json(stored)) if earlier else run

        findings = Findings(frame(infinite("BI-x4/y"), infinite("BI-x4/y+float-y")), printing(VDSR))
        psnr, _ = findings.cells
        assert psnr.verdict == "undecided"
        checked, _ = against_paper(findings, findings)
        assert (checked.verdict, checked.image) == ("undecided", "img_000")
        assert not checked.violates(require=True)


@pytest.mark.parametrize(
    ("model", "protocol"),
    [
        *((model, "BI-x4/rgb") for model in ("drfn", "edsr", "rdn", "msrn")),
        ("srmdnf", "BI-x4/rgb+full-range"),
        *((model, "BI-x4/y") for model in ("bicubic", "srcnn", "fsrcnn", "vdsr", "lapsrn")),
    ],
)
def test_on_set14_a_printed_number_is_held_against_its_grey_rule(model: str, protocol: str) -> None:
    """RGB networks against as-rgb, but SRMDNF, and networks on luma against full-range."""
    pipeline = protocol.partition("+")[0]
    both = {pipeline, f"{pipeline}+{'full-range' if pipeline == 'BI-x4/rgb' else 'as-rgb'}"}
    findings = Findings(frame(*(record(model, protocol=one) for one in both)), PAPER)
    cells = [cell for cell in findings.cells if (cell.model, cell.dataset) == (model, "set14")]
    assert [cell.metric for cell in cells] == ["psnr", "ssim"]
    for cell in cells:
        assert cell.shown and cell.shown.identity.protocol == protocol
        assert [one.run.identity.protocol for one in cell.options if not one.rules] == [protocol]


class TestAnotherNetworkOfTheSameAuthors:
    """The weights that MSRN's authors published in 2019 are of a network on RGB."""

    @staticmethod
    def msrn(psnr: float, paper_id: str, table: str) -> JudgedCell:
        info = WeightsInfo("official", "MSRN_x4.pt", "file", "w")
        runs = [
            replace(
                record("msrn", "set5", (psnr,), protocol=f"BI-x4/rgb{rules}", weights="w"),
                weights=info,
            )
            for rules in ("", "+float-lr")
        ]
        cells = Findings(frame(*runs), paper(paper_id)).cells
        place = (table, "msrn", "set5", "psnr")
        return next(
            one for one in cells if (one.row.table.id, one.model, one.dataset, one.metric) == place
        )

    def test_decides_nothing_about_the_number_of_the_earlier_one(self) -> None:
        for psnr in (32.25, 32.07, 31.0):
            cell = self.msrn(psnr, "drfn2020", "table2")
            assert (cell.printed, cell.verdict) == (32.07, "undecided")
            assert cell.value == pytest.approx(psnr)

    def test_has_a_mark_and_says_whose_it_is(self) -> None:
        for paper_id, table, marked in (("drfn2020", "table2", True), ("msrn2018", "later", False)):
            cell = self.msrn(32.25, paper_id, table)
            findings = Findings(frame(*cell.runs), paper(paper_id))
            (judged,) = (one for one in findings.rows if one.row == cell.row)
            told = judge_row(judged, "row").evidence
            assert told.startswith("Measured with the authors' weights") is not marked
            assert told.startswith("Measured with weights of another network") is marked
            assert dagger(cell.runs[0], cell.row) == "†" * marked

    def test_comes_after_the_weights_of_the_printed_one(self) -> None:
        later = self.msrn(32.25, "drfn2020", "table2").runs[0]
        later = replace(later, provenance={"utc": "2026-02-01"})
        theirs = record("msrn", "set5", (32.07,), protocol="BI-x4/rgb")
        assert cell_of(later, theirs, cells="x4 | MSRN | 32.07/0.8903 | -").value == 32.07

    def test_decides_about_its_own_number(self) -> None:
        assert self.msrn(32.25, "msrn2018", "later").verdict == "reproduced"
        assert self.msrn(32.20, "msrn2018", "later").verdict == "refuted"


class TestWords:
    def told(self, *runs: RunRecord, cells: str = VDSR, rules: str = "usual") -> str:
        judged = Findings(frame(*runs), printing(cells, rules=rules)).rows[0]
        return judge_row(judged, "row").evidence

    def test_other_weights_are_named_with_their_training(self) -> None:
        told = self.told(on_set5(31.0, tag="repro"))
        assert told.startswith("Measured with other weights than the authors' (")
        assert "PSNR of Set5 31.000 for 31.35 (undecided)" in told
        assert "; other weights than the authors' cannot refute it" in told
        assert self.told(on_set5(31.0)).startswith("Measured with the authors' weights: ")

    def test_why_the_authors_weights_do_not_refute_is_said(self) -> None:
        assert "; not tried: luma not rounded" in self.told(on_set5(31.0))
        other = self.told(*(replace(run, verified=False) for run in TestWhatRefutes.RUNS))
        assert "; the images are not the published ones" in other

    def test_a_number_that_only_other_rules_give_names_them(self) -> None:
        told = self.told(on_set5(31.0), on_set5(31.35, "BI-x4/y+float-y"))
        assert "; PSNR of Set5 31.350 for 31.35 under luma not rounded (reproduced)" in told

    def test_a_row_is_measured_with_its_options(self) -> None:
        fetched = "To measure it: harness weights fetch vdsr, then harness run --models vdsr"
        assert f"{fetched} --scale 4." in self.told()
        assert "To measure it: harness run --models bicubic" in self.told(
            cells="x4 | Bicubic | 28.42/0.8104 | -"
        )
        later = self.told(cells="x4 | MSRN | 32.07/0.8903 | -")
        assert later.endswith("These weights are of a later network of the same authors, on RGB.")
        imdn = self.told(rules="imdn")
        assert "harness run --models vdsr --scale 4 --grey as-rgb --border symmetric." in imdn
        assert "--models rdn --scale 4 --like imdn." in self.told(
            cells="x4 | RDN | 32.47/0.8990 | -", rules="imdn"
        )
        assert "--self-ensemble" in self.told(cells="x4 | VDSR+ | 31.35/0.8000 | -")

    def test_a_network_of_a_plug_in_is_measured_with_it(self) -> None:
        plugin = Path(__file__).parents[2] / "docs/imdn.py"
        load_plugins([plugin])
        cells = Findings(frame(), paper("imdn2019")).rows
        (row,) = (one for one in cells if (one.row.model, one.row.scale) == ("imdn", 4))
        told = judge_row(row, "row").evidence
        assert "then harness run --models imdn --scale 4 --plugin imdn.py --like imdn." in told


class TestTheCommandThatSettlesANumber:
    @pytest.mark.parametrize("grey", [False, True])
    def test_it_settles_it_on_a_set_of_one_s_own(self, harness, photos: Path, grey: bool) -> None:
        """Whether such a set has grey images is known of its runs alone."""
        if not grey:
            (photos / "c.png").unlink()
        table = Table(id="t", title="T", columns=("photos",), cells="x4 | Bicubic | 50.00/0.9900")
        printed = changed(PAPER, tables=(table,), plots=(), doubts=(), claims=())

        def row() -> Judgement:
            records = ResultStore(Path("results/local")).read().table()
            return judge_row(Findings(records, printed).rows[0], "row")

        assert harness("run", "--models", "bicubic", "--datasets", photos.name).exit_code == 0
        told = row()
        assert told.verdict == "undecided"
        _, words = told.evidence.split("To settle it: harness ")
        assert harness(*words.removesuffix(".").split()).exit_code == 0
        assert row().verdict == "refuted" and "To settle it" not in row().evidence

    def test_a_record_that_does_not_say_is_made_again(self, harness, photos: Path) -> None:
        told = self.told(record("bicubic", "manga109", weights=None))
        assert told == "harness run --models bicubic --datasets manga109 --all-rules --force."
        run = record("bicubic", "manga109", weights=None)
        known = replace(run, provenance=run.provenance | {"grey_images": []})
        assert self.told(known) == "harness run --models bicubic --datasets manga109 --all-rules."

    @staticmethod
    def told(*runs: RunRecord) -> str:
        """The command that the evidence of the runs' row names."""
        network = (runs[0].identity.model, runs[0].identity.scale)
        (row,) = (
            one
            for one in Findings(frame(*runs), PAPER).rows
            if (one.row.model, one.row.scale) == network
        )
        told = judge_row(row, "row").evidence.split("To settle it: ")[1]
        return told.split(" Not measured: ")[0]

    def test_it_has_the_weights_and_plug_ins_of_the_run(self) -> None:
        run = record("vdsr", "set5", (30.0, 30.0), whole=0.7)
        run = replace(run, plugins={"set5": {"file": "sets.py", "sha256": "0"}})
        known = run.provenance | {"weights_file": "theirs/vdsr.mat"}
        command = "harness run --models vdsr --datasets set5 --weights vdsr=theirs/vdsr.mat"
        assert self.told(replace(run, provenance=known)) == (
            f"{command} --all-rules --plugin sets.py."
        )
        assert "--models vdsr:official --datasets set5,set14 --all-rules" in self.told(
            run, record("vdsr", "set14", (27.0, 27.0))
        )


class TestARowIsOfOneCheckpoint:
    """31.35 dB on Set5 and 28.02 dB on Set14 are printed for VDSR."""

    CELLS = "x4 | VDSR | 31.35/0.8000 | 28.02/0.7000"

    def rows(self, *runs: RunRecord, weights_of: tuple[str, ...] = ()) -> dict[str, list[object]]:
        """The PSNR of each row on the two sets, by the name of the row."""
        findings = Findings(frame(*runs), printing(self.CELLS), weights_of=weights_of)
        return {
            one.row.method: [cell.value for cell in one.cells if cell.metric == "psnr"]
            for one in findings.rows
        }

    @staticmethod
    def run(weights: str, dataset: str, psnr: float, model: str = "vdsr", **more: Any) -> RunRecord:
        return record(model, dataset, (psnr, psnr), weights=weights, tag=weights, **more)

    def test_a_set_that_only_other_weights_have_is_a_row_below(self) -> None:
        official = self.run("official", "set5", 31.35)
        trained = [self.run("repro", "set5", 30.0), self.run("repro", "set14", 27.0)]
        assert self.rows(official, *trained) == {"VDSR": [31.35, None], "VDSR:repro": [30.0, 27.0]}
        findings = Findings(frame(official, *trained), printing(self.CELLS))
        assert [cell.verdict for cell in findings.cells if cell.metric == "psnr"] == [
            "reproduced",
            "not measured",
        ]

    def test_other_weights_with_no_further_set_have_no_row(self) -> None:
        official = [self.run("official", "set5", 31.35), self.run("official", "set14", 28.0)]
        assert self.rows(*official, self.run("repro", "set5", 30.0)) == {"VDSR": [31.35, 28.0]}

    def test_of_weights_that_are_not_the_authors_those_with_most_numbers_count(self) -> None:
        runs = [self.run("a", "set5", 30.0), self.run("b", "set5", 29.0)]
        runs.append(self.run("b", "set14", 27.0))
        runs[1:] = [replace(run, provenance={"utc": "2025-01-01"}) for run in runs[1:]]
        assert self.rows(*runs) == {"VDSR": [29.0, 27.0]}

    def test_then_the_newest(self) -> None:
        old = replace(self.run("b", "set5", 29.0), provenance={"utc": "2025-01-01"})
        new = self.run("a", "set5", 30.0)
        assert self.rows(old, new) == self.rows(new, old) == {"VDSR": [30.0, None]}

    def test_runs_under_other_rules_are_those_of_the_same_weights(self) -> None:
        """Of the authors' first file no rule gives the number; of another of theirs, one does."""
        first = [record("vdsr", one, (30.0, 30.0), weights="a") for one in ("set5", "set14")]
        other = record("vdsr", "set5", (31.35, 31.35), weights="b", protocol="BI-x4/y+float-y")
        findings = Findings(frame(*first, other), printing(self.CELLS))
        assert {one.run.identity.weights_sha256 for one in findings.cells[0].options} == {"a"}

    def test_weights_can_be_chosen_and_have_rows_of_their_own(self) -> None:
        runs = [self.run("a", "set5", 30.0), self.run("b", "set5", 29.0)]
        for name in ("vdsr:b", "VDSR:B"):
            assert self.rows(*runs, weights_of=(name,)) == {"VDSR": [29.0, None]}
        every = self.rows(*runs, weights_of=("vdsr:b", "vdsr:*"))
        assert every == {"VDSR": [29.0, None], "VDSR:a": [30.0, None]}

    def test_a_network_of_one_s_own_is_named_with_its_tag_if_it_has_several_weights(self) -> None:
        one = self.run("a", "set5", 30.0, "mine")
        assert self.rows(one)["mine"] == [30.0, None]
        other = self.run("b", "set14", 27.0, "mine")
        found = self.rows(one, other)
        assert (found["mine:a"], found["mine:b"]) == ([30.0, None], [None, 27.0])

    def test_two_weights_with_one_tag_are_told_apart_by_their_hash(self) -> None:
        runs = [
            record("mine", dataset, (30.0, 30.0), tag="last", weights=sha256)
            for dataset, sha256 in (("set5", "1" * 64), ("set14", "2" * 64))
        ]
        assert {"mine:last-11111111", "mine:last-22222222"} <= self.rows(*runs).keys()
        with pytest.raises(UsageError, match="stands for 2 checkpoints: name one of mine:last-"):
            self.rows(*runs, weights_of=("mine:last",))

    def test_weights_that_no_run_has_are_an_error_that_names_those_there_are(self) -> None:
        with pytest.raises(UsageError, match="there are runs of vdsr:a and vdsr:b"):
            self.rows(
                self.run("a", "set5", 1.0), self.run("b", "set5", 1.0), weights_of=("vdsr:c",)
            )

    def test_images_of_unknown_origin_in_one_folder_are_of_one_network(self) -> None:
        runs = []
        for dataset in ("set5", "set14"):
            run = record("mine", dataset, (30.0, 30.0), weights=None)
            identity = replace(run.identity, sr_sha256=dataset)
            runs.append(replace(run, identity=identity, provenance={"sr_images": "out"}))
        assert self.rows(*runs)["mine"] == [30.0, 30.0]

    def test_a_run_that_failed_with_other_weights_is_not_hidden(self) -> None:
        failed = replace(self.run("b", "set14", 1.0), status="error", images=(), error="broke")
        findings = Findings(frame(self.run("a", "set5", 30.0), failed), printing(self.CELLS))
        (row,) = findings.rows
        assert [bool(cell.failed) for cell in row.cells if cell.metric == "psnr"] == [False, True]
