"""Verdicts follow from the evidence, and change with it."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.errors import HarnessError
from harness.models.cost import measure_complexity, measure_depth
from harness.paper.claims import judge_claim
from harness.paper.findings import Findings
from harness.paper.schema import Doubt, Paper, paper
from harness.paper.verdicts import Judgement
from harness.record import RunRecord
from harness.registry import MODELS, PAPERS, REPORTS, load_plugins
from harness.run.store import ResultStore
from harness.text import listed, ordinal
from tests.papers import changed
from tests.records import frame, record

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
PAPER = paper("drfn2020")
SUPERIOR = '[[claim]]\nkey = "superior"'
COMPUTING_POWER = 'test = { pareto = "macs" }'
PAPER_TEXT = PAPERS.get("drfn2020").read_text()
FULL = "BI-x4/rgb+full-range"
ODD = """
from torch import nn
from harness.registry import register_model

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image):
        return self.conv(image) if image.sum() > 0 else image

@register_model("odd", pipeline="y", input="bicubic", scales=(4,))
def odd(scale=4):
    return Odd()
"""
AUTHORS = ("bicubic", "bicubic-rgb", "srcnn", "vdsr")


def judged(*records: RunRecord, of: Paper = PAPER) -> dict[str, Judgement]:
    return {one.claim: one for one in Findings(frame(*records), of).claims}


def of_one(key: str, *records: RunRecord, of: Paper = PAPER) -> Judgement:
    """The verdict on one claim; to judge all of them takes seconds."""
    (claim,) = (one for one in of.claims if one.key == key)
    return judge_claim(claim, of.tests[key], Findings(frame(*records), of))


def figures(evidence: str) -> set[str]:
    """The numbers of a text, with their signs and units as they are printed."""
    return set(re.findall(r"[+-]?\b\d[\d,]*(?:\.\d+)?(?:[%MG]|\b)", evidence))


@pytest.fixture(scope="module")
def committed() -> list[RunRecord]:
    """All committed runs."""
    return list(ResultStore(REFERENCE).read().table()["record"])


@pytest.fixture(scope="module")
def measured(committed: Sequence[RunRecord]) -> list[RunRecord]:
    """The committed runs of four methods that scored grey images full-range."""
    rules = ["BI-x4/y", "BI-x4/rgb", "BI-x4/rgb+full-range"]
    return [
        run for run in committed if run.identity.model in AUTHORS and run.identity.protocol in rules
    ]


def test_every_claim_and_every_row_is_judged_even_without_runs() -> None:
    found = Findings(frame(), PAPER).claims
    rows = [f"table2-{row.model}" for row in PAPER.rows]
    assert {one.claim for one in found} == {*(one.key for one in PAPER.claims), *rows}
    assert len(found) == len(PAPER.claims) + len(rows)
    for one in found:
        assert one.statement and one.where and one.evidence and one.runs == (), one.claim


def test_the_subject_and_its_comparisons_come_first_and_counts_last() -> None:
    names = Findings(frame(), PAPER).claim_names
    rows = [f"table2-{row.model}" for row in PAPER.rows]
    assert names[:6] == (
        *("table2-drfn", "similar-performance", "fewer-parameters"),
        *("computing-power", "superior", "highest"),
    )
    assert names[6:8] == ("feature-fusion", "connections")
    assert [name for name in names if name in rows] == ["table2-drfn", *rows[:-1]]
    assert names[-8:] == (
        *("training-time", "upscaling", "visual-quality"),
        *("parameters", "rdn-parameters", "depth", "receptive-field", "downscaling-filters"),
    )


def test_a_paper_names_its_subject_with_self_ensemble_too() -> None:
    """RDN 2018 prints RDN and RDN+, and the two share a network."""
    names = Findings(frame(), paper("rdn2018")).claim_names
    assert names.index("log-x4-rdn+") < names.index("self-ensemble") < names.index("favorable")


def test_a_claim_is_judged_when_it_is_asked_for(monkeypatch) -> None:
    """So the first is printed before the last is judged."""
    asked: list[str] = []
    monkeypatch.setattr(
        "harness.paper.findings.judge_claim", lambda claim, *_: asked.append(claim.key)
    )
    found = Findings(frame(), PAPER)
    assert found.claim_names and asked == []
    found.judge("superior"), found.judge("superior")
    assert asked == ["superior"]


def test_the_committed_runs_give_these_verdicts(committed: Sequence[RunRecord]) -> None:
    found = Findings(frame(*committed), PAPER)
    verdicts: dict[str, set[str]] = {}
    for one in found.claims:
        verdicts.setdefault(one.verdict, set()).add(one.claim)
    assert verdicts == {
        "reproduced": {
            *("parameters", "rdn-parameters", "receptive-field", "downscaling-filters"),
            *("table2-bicubic", "table2-srcnn", "table2-fsrcnn"),
            *("table2-lapsrn", "table2-srmdnf", "table2-rdn"),
        },
        "inconsistent in print": {
            *("similar-performance", "fewer-parameters", "table1-table2", "figures"),
            *("vdsr-b100", "dcsr-urban100", "one-pipeline", "grey-image"),
        },
        "undecided": {
            *("depth", "computing-power", "superior", "highest", "feature-fusion"),
            *("connections", "table2-drfn", "table2-vdsr", "table2-msrn"),
        },
        "not measured": {
            *("training-time", "upscaling", "other-results", "visual-quality"),
            *("table2-memnet", "table2-edsr", "table2-dcsr"),
        },
    }
    (ablation,) = found.ablations
    assert ablation.verdicts == {
        **dict.fromkeys(("none", "ff", "lsc"), "undecided"),
        "both": "inconsistent in print",
    }


def test_without_runs_print_and_networks_decide_what_they_can() -> None:
    open_ = {one.claim for one in judged().values() if one.verdict == "not measured"}
    assert judged().keys() - open_ == {
        *("parameters", "rdn-parameters", "depth", "receptive-field", "downscaling-filters"),
        *("similar-performance", "fewer-parameters", "table1-table2", "figures"),
        *("vdsr-b100", "dcsr-urban100"),
    }


class TestNetworks:
    def test_the_count_holds_with_one_convolution_a_block(self) -> None:
        found = judged()["parameters"]
        assert found.verdict == "reproduced"
        assert "5,207,203" in found.evidence and "9,933,987" in found.evidence

    def test_a_network_that_was_read_from_a_text_refutes_no_count(self, tmp_path: Path) -> None:
        for about, verdict in (
            ("5.3M", "undecided"),
            ("9.9M", "reproduced"),
            ("5207k", "reproduced"),
        ):
            other = changed(tmp_path, ('about = "5.2M"', f'about = "{about}"'))
            assert judged(of=other)["parameters"].verdict == verdict

    def test_no_reading_has_400_convolutions_in_a_row(self) -> None:
        found = judged()["depth"]
        assert found.verdict == "undecided", "the text says that it can be designed to have more"
        assert {"182", "310", "401"} <= figures(found.evidence)

    @pytest.mark.parametrize(("network", "verdict"), [("vdsr", "refuted"), ("memnet", "undecided")])
    def test_one_that_the_authors_weights_fit_does(
        self, tmp_path: Path, network: str, verdict: str
    ) -> None:
        claim = f'test = {{ count = "parameters", of = "{network}", about = "677k" }}'
        with_claim = f'[[claim]]\nkey = "size"\nwhere = "x"\nquote = "x"\n{claim}\n\n{SUPERIOR}'
        assert of_one("size", of=changed(tmp_path, (SUPERIOR, with_claim))).verdict == verdict

    def test_no_other_depth_of_the_network_itself_is_reproduced(self, tmp_path: Path) -> None:
        for test, verdict in (("401", "undecided"), ("311", "undecided"), ("310", "reproduced")):
            claimed = ("at_least = 401, leaves_room = true", f"at_least = {test}")
            assert judged(of=changed(tmp_path, claimed))["depth"].verdict == verdict

    def test_the_readings_of_a_layer_are_named(self) -> None:
        operations = [
            measure_depth(MODELS.get(one), 4, {}).operations for one in ("drfn", "drfn-2conv")
        ]
        assert operations == [360, 488]
        assert set(map(str, operations)) <= figures(judged()["depth"].evidence)

    def test_it_looks_farther_than_all_it_is_compared_with(self, tmp_path: Path) -> None:
        evidence = judged()["receptive-field"].evidence
        assert {"229", "11"} <= figures(evidence) and "DRFN is 1st" in evidence
        assert "EDSR 69, RDN 134" in evidence
        of_another = ('rank = "first", by', 'method = "MSRN", rank = "first", by')
        found = judged(of=changed(tmp_path, of_another))["receptive-field"]
        assert found.verdict == "undecided" and "MSRN is 4th of 11" in found.evidence
        half = ('rank = "first", by', 'method = "MSRN", rank = "upper half", by')
        assert judged(of=changed(tmp_path, half))["receptive-field"].verdict == "reproduced"

    def test_the_attention_narrows_to_four_filters(self, tmp_path: Path) -> None:
        found = judged()["downscaling-filters"]
        assert found.verdict == "reproduced" and "4" in figures(found.evidence)
        other = changed(tmp_path, ('"narrowest_1x1", about = "4"', '"narrowest_1x1", about = "8"'))
        assert judged(of=other)["downscaling-filters"].verdict == "undecided"

    def test_rdn_has_its_22_million(self) -> None:
        found = judged()["rdn-parameters"]
        assert found.verdict == "reproduced" and "22,271,107" in found.evidence

    def test_an_epoch_of_a_thousand_steps_does_not_fit_into_80_seconds(self) -> None:
        # 320x180 LR pixels give 1280x720; a step is 16 x 48 x 48 pixels, forward and backward.
        macs = measure_complexity(MODELS.get("drfn"), 4, {}).macs
        assert macs == 325_804_040_192
        flops = 3 * 2 * macs * 16 * 48**2 / (320 * 180)
        peak = 2 * 3584 * 1582e6
        found = judged()["training-time"]
        assert found.verdict == "not measured"
        shares = {f"{steps * flops / 80 / peak:.0%}" for steps in (50, 1000)}
        known = {f"{flops / 1e12:.2f}", f"{peak / 1e12:.2f}", f"{80 * peak / flops:.0f}", *shares}
        assert known == {"1.25", "11.34", "725", "7%", "138%"} and known <= figures(found.evidence)

    def test_who_needs_fewer_multiplications_is_nowhere_better_in_print(self) -> None:
        found = judged()["computing-power"]
        assert found.verdict == "not measured" and "DRFN 326" in found.evidence
        counts = [measure_complexity(MODELS.get(one), 4, {}).macs for one in ("drfn-2conv", "msrn")]
        assert counts[1] < counts[0] == pytest.approx(598e9, rel=0.001), "as the note says"
        assert "598 G" in found.evidence and "MSRN would beat it on Urban100" in found.evidence

    def test_a_better_network_with_less_work_contradicts_it(self, tmp_path: Path) -> None:
        """If the work of both is known: DRFN's is that of a reading of its text."""
        better = ("SRCNN   | 30.48/0.8628", "SRCNN   | 32.50/0.9000")
        found = judged(of=changed(tmp_path, better))["computing-power"]
        assert found.verdict == "undecided" and "SRCNN on Set5" in found.evidence
        of_vdsr = (COMPUTING_POWER, 'test = { pareto = "macs", method = "VDSR", sets = ["set5"] }')
        found = judged(of=changed(tmp_path, better, of_vdsr))["computing-power"]
        assert found.verdict == "inconsistent in print" and "SRCNN on Set5" in found.evidence

    @pytest.mark.parametrize(("method", "verdict"), [("VDSR", "refuted"), ("DRFN", "undecided")])
    def test_a_method_does_not_have_fewer_parameters_than_a_smaller_one(
        self, tmp_path: Path, method: str, verdict: str
    ) -> None:
        """That both score alike stands in print; how large they are was counted."""
        new = f'test = {{ within = ["SRCNN"], of = 0, fewer = "parameters", method = "{method}" }}'
        found = judged(of=changed(tmp_path, (COMPUTING_POWER, new)))["computing-power"]
        assert found.verdict == verdict and "SRCNN has 0." in found.evidence

    def test_a_better_network_of_unknown_work_leaves_it_open(self, tmp_path: Path) -> None:
        reached = record("drfn", psnr=(28.62, 28.62), ssim=0.7797, protocol="BI-x4/rgb")
        for cells, verdict in (("30.48/0.8628", "reproduced"), ("32.50/0.9000", "not measured")):
            other = changed(
                tmp_path,
                ('SRCNN = "srcnn"\nFSRCNN', 'SRCNN = ""\nFSRCNN'),
                ("SRCNN   | 30.48/0.8628", f"SRCNN   | {cells}"),
            )
            found = judged(reached, of=other)["computing-power"]
            assert found.verdict == verdict
            assert ("no network for SRCNN" in found.evidence) == (verdict == "not measured")

    def test_an_unknown_network_may_take_the_first_place(self, tmp_path: Path) -> None:
        unknown = ('RDN = "rdn"', 'RDN = ""')
        assert judged(of=changed(tmp_path, unknown))["receptive-field"].verdict == "not measured"

    def test_where_the_networks_are_absent_the_claims_stay_open(self, monkeypatch) -> None:
        monkeypatch.setattr(MODELS, "_built_in", {})
        found = judged()
        for claim in ("parameters", "depth", "downscaling-filters", "computing-power"):
            assert found[claim].verdict == "not measured" and "drfn" in found[claim].evidence
        for claim in ("rdn-parameters", "receptive-field", "fewer-parameters"):
            assert found[claim].verdict == "not measured"

    @staticmethod
    def broken(monkeypatch, error: Exception) -> None:
        def count(*_: object) -> None:
            raise error

        counts = "measure_complexity", "measure_depth", "receptive_radius", "convolution_shapes"
        for name in counts:
            monkeypatch.setattr(f"harness.models.cost.{name}", count)

    def test_a_network_that_cannot_be_counted_refutes_nothing_and_says_why(
        self, monkeypatch
    ) -> None:
        self.broken(monkeypatch, HarnessError("drfn cannot be built (no file)."))
        found = judged()
        for claim in ("parameters", "depth", "receptive-field", "computing-power"):
            assert found[claim].verdict == "not measured"
            assert "drfn cannot be built (no file)." in found[claim].evidence, claim

    def test_a_network_without_a_1x1_convolution_has_no_filters_in_it(self, tmp_path: Path) -> None:
        counted = (
            'count = "parameters", of = "rdn", about = "22M"',
            'count = "narrowest_1x1", of = "vdsr", about = "4"',
        )
        assert judged(of=changed(tmp_path, counted))["rdn-parameters"].verdict == "refuted"

    def test_a_mistake_of_the_harness_is_not_taken_for_a_network_that_cannot_be_counted(
        self, monkeypatch
    ) -> None:
        self.broken(monkeypatch, RuntimeError("a mistake"))
        with pytest.raises(RuntimeError, match="a mistake"):
            judged()

    @pytest.mark.parametrize(
        ("quantity", "reason"),
        [
            ("depth", r"torch.fx cannot trace odd \(TraceError: symbolically traced"),
            ("macs", r"odd cannot be counted \(.*meta"),
        ],
    )
    def test_a_network_that_looks_at_values_says_so(
        self, tmp_path: Path, quantity: str, reason: str
    ) -> None:
        (tmp_path / "odd.py").write_text(ODD)
        load_plugins([tmp_path / "odd.py"])
        counted = ('count = "parameters", of = "rdn"', f'count = "{quantity}", of = "odd"')
        found = judged(of=changed(tmp_path, counted))["rdn-parameters"]
        assert found.verdict == "not measured" and re.search(reason, found.evidence)


class TestPrint:
    def test_ranks_are_counted_in_every_column(self) -> None:
        evidence = judged()["superior"].evidence
        assert "3rd of 12 by PSNR on Set5, Set14 and B100" in evidence
        assert "5th of 12 by PSNR on Urban100" in evidence
        assert "2nd of 10 by PSNR on Manga109; 3rd of 10 by SSIM on Manga109" in evidence

    def test_without_the_doubtful_cell_it_has_the_rank_that_the_note_gives(
        self, tmp_path: Path
    ) -> None:
        evidence = judged()["superior"].evidence
        assert "Without DCSR's doubtful cell it is the 4th of 11 on Urban100." in evidence
        doubts = PAPER_TEXT[PAPER_TEXT.index('[[doubt]]\ncell = "DCSR | urban100 | psnr"') :]
        without = changed(
            tmp_path,
            ("27.24/0.8308 | -/-", "-/- | -/-"),
            ("".join(doubts.partition('[[doubt]]\ncell = "MSRN')[:1]), ""),
            ('outlier = "urban100"', 'outlier = "set5"'),
        )
        ranks = judged(of=without)["superior"].evidence
        assert all(f"4th of 11 by {metric} on Urban100" in ranks for metric in ("PSNR", "SSIM"))

    def test_what_nobody_measured_holds_in_print_at_most(self) -> None:
        found = judged()["superior"]
        assert found.verdict == "not measured" and "3rd of 12" in found.evidence
        reached = record("drfn", psnr=(28.62, 28.62), ssim=0.7797, protocol="BI-x4/rgb")
        again = judged(reached)
        assert again["table2-drfn"].verdict == "reproduced"
        assert again["superior"].verdict == again["computing-power"].verdict == "reproduced"
        assert again["superior"].runs == (reached.identity.id,)

    def test_what_print_contradicts_is_not_left_open(self, tmp_path: Path) -> None:
        worse = changed(tmp_path, ("DRFN    | 32.16/0.8936", "DRFN    | 30.00/0.8500"))
        assert judged(of=worse)["superior"].verdict == "inconsistent in print"

    def test_the_other_results_cannot_all_be_of_rdn(self) -> None:
        found = judged()["other-results"]
        assert found.verdict == "not measured"
        assert "MSRN (ECCV 2018)" in found.evidence and "RDN (CVPR 2018)" in found.evidence

    def test_the_gaps_to_edsr_are_given(self) -> None:
        evidence = judged()["fewer-parameters"].evidence
        gaps = "EDSR minus DRFN is 0.30 dB on Set5, 0.18 dB on Set14, 0.16 dB on B100 and 0.72 dB"
        assert gaps in evidence
        assert "RDN has 4.3 times and EDSR has 8.3 times the parameters" in evidence
        assert "0.09, DRFN's largest lead over MSRN" in evidence

    def test_the_two_tables_are_083_db_apart(self) -> None:
        found = judged()["table1-table2"]
        assert found.verdict == "inconsistent in print"
        assert {"27.79", "28.62", "0.83"} <= figures(found.evidence)

    def test_scores_are_the_same_if_all_their_printed_decimals_are(self, tmp_path: Path) -> None:
        for other, verdict in (("0.7750", "inconsistent in print"), ("0.7797", "not measured")):
            printed = changed(
                tmp_path,
                ('"table1 | both", "DRFN | set14 | psnr"', '"MSRN|set14|ssim", "DRFN|set14|ssim"'),
                ("28.60/0.7750", f"28.60/{other}"),
            )
            assert judged(of=printed)["table1-table2"].verdict == verdict

    def test_equal_numbers_in_both_tables_contradict_nothing(self, tmp_path: Path) -> None:
        other = changed(tmp_path, ("27.70, 27.79]\nreadings", "27.70, 28.62]\nreadings"))
        assert judged(of=other)["table1-table2"].verdict == "not measured"
        (ablation,) = Findings(frame(), other).ablations
        assert ablation.verdicts["both"] == "not measured"

    def test_what_is_called_similar_is_more_than_what_is_called_superior(self) -> None:
        found = judged()["similar-performance"]
        assert found.verdict == "inconsistent in print"
        assert {"0.74", "0.09"} <= figures(found.evidence)

    def test_a_lead_as_large_as_the_gap_would_make_it_similar(self, tmp_path: Path) -> None:
        for psnr, verdict in (("31.43", "inconsistent in print"), ("31.41", "not measured")):
            other = changed(tmp_path, ("MSRN    | 32.07", f"MSRN    | {psnr}"))
            assert judged(of=other)["similar-performance"].verdict == verdict

    def test_similar_to_a_smaller_network_is_no_merit(self, tmp_path: Path) -> None:
        small = changed(
            tmp_path, ('within = ["RDN"], lead_over = "MSRN"', 'within = ["SRCNN"], of = 0.0')
        )
        found = judged(of=small)["similar-performance"]
        assert found.verdict == "undecided" and "SRCNN has 0.0 times" in found.evidence

    def test_dcsr_is_out_of_line_on_urban100(self, tmp_path: Path) -> None:
        found = judged()["dcsr-urban100"]
        assert found.verdict == "inconsistent in print"
        assert {"0.60", "0.0275"} <= figures(found.evidence)
        for cell, verdict in (("26.64/0.8033", "not measured"), ("26.65/0.8033", found.verdict)):
            other = changed(tmp_path, ("27.24/0.8308 | -/-", f"{cell} | -/-"))
            assert judged(of=other)["dcsr-urban100"].verdict == verdict

    def test_the_lost_digit_is_measured_where_vdsr_was_run(
        self, measured: Sequence[RunRecord]
    ) -> None:
        found = judged(*measured)["vdsr-b100"]
        assert found.verdict == "inconsistent in print"
        assert "0.7251" in figures(found.evidence) and len(found.runs) == 1
        assert judged()["vdsr-b100"].runs == ()

    def test_with_the_digit_vdsr_is_in_line_and_measured(
        self, measured: Sequence[RunRecord], tmp_path: Path
    ) -> None:
        printed = ("27.29/0.0726", "27.29/0.7260")
        doubt = ('seen = "print"\nreason = "A lost digit', 'seen = "unusual"\nreason = "A lost')
        other = changed(tmp_path, printed, doubt)
        assert judged(of=other)["vdsr-b100"].verdict == "not measured"
        assert judged(*measured, of=other)["vdsr-b100"].verdict == "reproduced"

    def test_figures_that_the_text_names_right_contradict_nothing(self, tmp_path: Path) -> None:
        assert judged()["figures"].verdict == "inconsistent in print"
        other = changed(tmp_path, ("{ value = [3, 4]", "{ value = [4, 5]"))
        assert judged(of=other)["figures"].verdict == "not measured"


class TestMeasured:
    """The claim that DRFN is in the upper half of every column, by what was measured."""

    @staticmethod
    def low(protocols: Sequence[str], tag: str = "official") -> list[RunRecord]:
        score = {"psnr": (27.0, 27.0), "ssim": 0.74, "whole": 0.741, "tag": tag}
        return [record("drfn", protocol=f"BI-x4/rgb{one}", **score) for one in protocols]

    EVERY_RULE = ("", "+full-range", "+float-lr", "+full-range+float-lr")

    def test_the_authors_weights_refute_it_under_every_rule_in_use(self) -> None:
        found = judged(*self.low(self.EVERY_RULE))
        assert found["superior"].verdict == "refuted" and len(found["superior"].runs) == 1
        assert found["table2-drfn"].verdict == "refuted"

    @pytest.mark.parametrize("untried", EVERY_RULE)
    def test_while_one_was_not_tried_they_do_not(self, untried: str) -> None:
        found = judged(*self.low([one for one in self.EVERY_RULE if one != untried]))
        assert found["superior"].verdict == found["table2-drfn"].verdict == "undecided"

    def test_nor_if_it_holds_under_one_of_them(self) -> None:
        """On Set14, 28.9 dB put DRFN in the upper half, and 27.0 dB do not."""
        score = {"ssim": 0.7797, "whole": 0.7797}
        *most, last = (f"BI-x4/rgb{one}" for one in self.EVERY_RULE)
        runs = [record("drfn", psnr=(27.0, 27.0), protocol=one, **score) for one in most]
        runs.append(record("drfn", psnr=(30.5, 30.5), protocol=last, **score))
        cells = {
            cell.metric: cell.verdict
            for cell in Findings(frame(*runs), PAPER).cells
            if (cell.model, cell.dataset) == ("drfn", "set14")
        }
        assert cells == {"psnr": "refuted", "ssim": "reproduced"}
        assert of_one("superior", *runs).verdict == "undecided"

    def test_a_misprint_of_its_own_refutes_nothing_before_all_rules_are_tried(self) -> None:
        doubts = (*PAPER.doubts, Doubt(cell="DRFN | set14 | psnr", seen="print", reason="a slip"))
        doubted = replace(PAPER, doubts=doubts)
        for rules, verdict in ((self.EVERY_RULE[:1], "undecided"), (self.EVERY_RULE, "refuted")):
            runs = [
                record("drfn", psnr=(27.0,), ssim=0.7797, whole=0.7797, protocol=f"BI-x4/rgb{one}")
                for one in rules
            ]
            assert of_one("superior", *runs, of=doubted).verdict == verdict

    def test_weights_trained_here_do_not(self) -> None:
        found = judged(*self.low(self.EVERY_RULE, tag="repro"))
        assert found["superior"].verdict == found["table2-drfn"].verdict == "undecided"

    def test_only_a_rival_whose_print_is_refuted_lends_its_place(self, tmp_path: Path) -> None:
        first = changed(
            tmp_path,
            ('rank = "upper half", metrics = ["psnr", "ssim"]', 'rank = "first", sets = ["set14"]'),
            ("28.62/0.7797", "28.82/0.7797"),
        )
        # In print, DRFN with 28.82 is the first; with 28.70 it is behind RDN's 28.81, as printed.
        own = record("drfn", psnr=(28.7, 28.7), ssim=0.7797, protocol="BI-x4/rgb", tag="repro")

        def verdict(protocols: Sequence[str], tag: str) -> str:
            score = {"psnr": (27.0, 27.0), "whole": 0.8, "tag": tag}
            rivals = [
                record(model, protocol=f"BI-x4/rgb{one}", **score)
                for model in ("rdn", "edsr")
                for one in protocols
            ]
            return judged(own, *rivals, of=first)["superior"].verdict

        assert verdict([], "official") == "undecided"
        assert verdict(self.EVERY_RULE, "repro") == verdict([""], "official") == "undecided"
        assert verdict(self.EVERY_RULE, "official") == "reproduced"

    def test_measuring_the_printed_number_on_one_set_takes_nothing_from_the_margin(
        self, tmp_path: Path
    ) -> None:
        similar = changed(tmp_path, ("MSRN    | 32.07", "MSRN    | 31.00"))
        own = record("drfn", psnr=(28.62, 28.62), ssim=0.7797, protocol="BI-x4/rgb")
        assert judged(own, of=similar)["similar-performance"].verdict == "reproduced"

    def test_other_weights_of_a_rival_replace_no_doubtful_print(self, tmp_path: Path) -> None:
        superior = changed(
            tmp_path,
            (
                'rank = "upper half", metrics = ["psnr", "ssim"]',
                'beats = ["VDSR"], sets = ["b100"], metrics = ["ssim"]',
            ),
        )
        own = record("drfn", "b100", psnr=(40, 40), ssim=0.9, protocol="BI-x4/rgb", tag="repro")
        for tag, verdict in (("repro", "reproduced"), ("official", "undecided")):
            rival = record("vdsr", "b100", ssim=0.95, tag=tag)
            assert judged(own, rival, of=superior)["superior"].verdict == verdict


class TestLikeForLike:
    """LapSRN and VDSR on Set14: 0.17 dB in print, and 0.065 under each rule for grey images."""

    def verdict(self, folder: Path, runs: Sequence[RunRecord], by: float) -> Judgement:
        claim = f'test = {{ beats = ["VDSR"], method = "LapSRN", by = {by}, sets = ["set14"] }}'
        with_claim = f'[[claim]]\nkey = "lead"\nwhere = "x"\nquote = "x"\n{claim}\n\n{SUPERIOR}'
        return of_one("lead", *runs, of=changed(folder, (SUPERIOR, with_claim)))

    def test_a_lead_that_needs_two_rules_for_grey_images_is_not_reproduced(
        self, tmp_path: Path, committed: Sequence[RunRecord]
    ) -> None:
        """The printed 28.19 of LapSRN is reproduced as RGB, the 28.02 of VDSR full-range."""
        cells = {
            cell.row.method: cell.standing
            for cell in Findings(frame(*committed), PAPER).cells
            if (cell.dataset, cell.metric) == ("set14", "psnr")
        }
        assert cells["LapSRN"] == "reproduced under other rules" and cells["VDSR"] == "reproduced"
        found = self.verdict(tmp_path, committed, 0.15)
        assert found.verdict == "undecided" and len(found.runs) == 2
        assert self.verdict(tmp_path, committed, 0.06).verdict == "reproduced"

    RULES = ("", "+as-rgb", "+float-y", "+as-rgb+float-y")

    def runs(self, model: str, psnr: float, rules: Sequence[str] = RULES) -> list[RunRecord]:
        score = {"ssim": 0.7, "whole": 0.7}
        return [
            record(model, psnr=(psnr, psnr), protocol=f"BI-x4/y{one}", **score) for one in rules
        ]

    @pytest.mark.parametrize(("by", "verdict"), [(0.1, "reproduced"), (0.125, "undecided")])
    def test_it_is_not_refuted_while_the_measured_numbers_alone_give_it(
        self, tmp_path: Path, by: float, verdict: str
    ) -> None:
        """LapSRN with 28.13 misses its 28.19; VDSR's 28.00 is its 28.02: 0.11 or 0.13 dB."""
        runs = [*self.runs("lapsrn", 28.13), *self.runs("vdsr", 28.0)]
        assert self.verdict(tmp_path, runs, by).verdict == verdict
        assert self.verdict(tmp_path, runs, 0.15).verdict == "refuted"

    def test_runs_of_the_rival_on_other_sets_do_not_matter(self, tmp_path: Path) -> None:
        runs = [*self.runs("lapsrn", 28.13), *self.runs("vdsr", 28.0)]
        other = record("vdsr", "set5", (31.0, 31.0), protocol="BI-x4/y")
        assert self.verdict(tmp_path, [*runs, other], 0.15).verdict == "refuted"

    def test_an_infinite_score_gives_no_lead(self, tmp_path: Path) -> None:
        infinite = record("lapsrn", psnr=(math.inf, 28.0), protocol="BI-x4/y+float-y")
        runs = [infinite, *self.runs("vdsr", 28.02, ["+float-y"])]
        assert self.verdict(tmp_path, runs, 0.0).verdict == "undecided"

    def test_methods_that_ran_under_different_rules_are_not_compared(self, tmp_path: Path) -> None:
        runs = [*self.runs("lapsrn", 28.19, ["+as-rgb"]), *self.runs("vdsr", 28.02, [""])]
        found = self.verdict(tmp_path, runs, 0.1)
        assert found.verdict == "undecided" and found.evidence.count("harness run") == 2

    def test_a_rival_that_lacks_the_rule_is_to_be_run_under_it(
        self, tmp_path: Path, committed: Sequence[RunRecord]
    ) -> None:
        runs = [
            run
            for run in committed
            if run.identity.model == "lapsrn"
            or (run.identity.model, run.identity.protocol) == ("vdsr", "BI-x4/y")
        ]
        found = self.verdict(tmp_path, runs, 0.15)
        assert found.verdict == "undecided"
        assert "To settle it: harness run --models vdsr" in found.evidence


class TestSelfEnsemble:
    @staticmethod
    def pair(
        plain: float, ensemble: float, weights: str = "", tag: str = "repro"
    ) -> list[RunRecord]:
        scores = {"protocol": "BI-x4/rgb", "tag": tag}
        return [
            record("drfn", psnr=(plain, plain), **scores),
            record("drfn", psnr=(ensemble,) * 2, self_ensemble=True, weights=weights, **scores),
        ]

    @pytest.mark.parametrize(
        ("plain", "ensemble", "tag", "verdict"),
        [
            (28.62, 28.82, "repro", "reproduced"),  # above RDN's 28.81
            (28.62, 28.82, "official", "reproduced"),
            (28.62, 28.72, "official", "undecided"),  # under one of four sets of rules
            (28.62, 28.72, "repro", "undecided"),
            (28.62, 28.81, "repro", "undecided"),  # as high as RDN's is not higher
            (27.10, 27.20, "repro", "undecided"),  # not trained long enough to judge
        ],
    )
    def test_the_verdict(self, plain: float, ensemble: float, tag: str, verdict: str) -> None:
        found = judged(*self.pair(plain, ensemble, tag=tag))["highest"]
        assert found.verdict == verdict and len(found.runs) == 2
        assert f"adds {ensemble - plain:.2f} dB on Set14" in found.evidence

    @pytest.mark.parametrize(("other", "verdict"), [(28.72, "refuted"), (28.82, "undecided")])
    def test_it_is_refuted_only_if_no_rules_in_use_give_enough(self, other, verdict) -> None:
        runs = self.pair(28.62, 28.72, tag="official")
        rules = ("+full-range", "+float-lr", "+full-range+float-lr")
        runs += [
            record("drfn", psnr=(other, other), self_ensemble=True, protocol=f"BI-x4/rgb{one}")
            for one in rules
        ]
        assert of_one("highest", *runs).verdict == verdict

    def test_what_is_needed_is_said_without_runs(self) -> None:
        found = judged()["highest"]
        assert found.verdict == "not measured"
        assert "0.31 dB on Set5, 0.19 dB on Set14" in found.evidence
        assert "1.32 dB on Urban100" in found.evidence

    def test_the_grey_rule_of_the_tables_that_are_shown_changes_nothing(self) -> None:
        runs = frame(*self.pair(28.62, 28.82))
        for rule in (None, "full-range", "as-rgb"):
            found = {one.claim: one.verdict for one in Findings(runs, PAPER, rule).claims}
            assert found["highest"] == "reproduced", rule

    def test_infinite_scores_decide_nothing(self) -> None:
        found = judged(*self.pair(math.inf, math.inf))
        assert found["highest"].verdict == "not measured"
        one = record("drfn", psnr=(math.inf, 29.0), tag="repro", protocol="BI-x4/rgb")
        assert judged(one)["superior"].verdict == "undecided"

    def test_runs_of_other_weights_are_no_pair(self) -> None:
        found = judged(*self.pair(28.62, 28.82, weights="others"))["highest"]
        assert found.runs == () and found.verdict == "not measured"


class TestRules:
    def test_bicubic_moves_little_between_pipelines_and_follows_both(
        self, measured: Sequence[RunRecord]
    ) -> None:
        found = judged(*measured)["one-pipeline"]
        assert found.verdict == "inconsistent in print" and len(found.runs) == 8
        assert {"0.0007", "0.0011"} <= figures(found.evidence)
        assert "bicubic (Set5 and B100) and bicubic-rgb (Set14 and Urban100)" in found.evidence

    @staticmethod
    def both_pipelines(**printed: float) -> list[RunRecord]:
        """Bicubic gives the printed SSIM in the pipeline y, and another in rgb."""
        return [
            run
            for dataset, ssim in printed.items()
            for run in (
                record("bicubic", dataset, ssim=ssim, weights=None),
                record("bicubic-rgb", dataset, ssim=ssim + 0.05, protocol=FULL, weights=None),
            )
        ]

    def test_a_row_that_follows_one_pipeline_is_consistent(self) -> None:
        runs = self.both_pipelines(set5=0.8104, set14=0.7027)
        assert judged(*runs)["one-pipeline"].verdict == "reproduced"

    def test_one_number_is_no_row(self) -> None:
        runs = self.both_pipelines(set14=0.7027)
        assert judged(*runs)["one-pipeline"].verdict == "undecided"

    def test_a_number_that_follows_neither_leaves_it_open(self) -> None:
        runs = self.both_pipelines(set5=0.8104, set14=0.6)
        assert judged(*runs)["one-pipeline"].verdict == "undecided"

    def test_a_pipeline_that_was_not_run_leaves_it_open(self) -> None:
        runs = self.both_pipelines(set5=0.8104, set14=0.7027)
        assert judged(*runs[::2])["one-pipeline"].verdict == "not measured"

    @staticmethod
    def both_rules(model: str, full: float, as_rgb: float) -> list[RunRecord]:
        return [
            record(model, psnr=(full, full)),
            record(model, psnr=(as_rgb, as_rgb), protocol="BI-x4/y+as-rgb"),
        ]

    def test_the_grey_rule_is_worth_more_than_the_lead(self) -> None:
        found = judged(*self.both_rules("bicubic", 26.003, 26.097))["grey-image"]
        assert found.verdict == "undecided"
        assert {"0.094", "0.02"} <= figures(found.evidence)
        assert "full-range (Bicubic)" in found.evidence

    def test_rows_that_follow_one_rule_agree(self) -> None:
        runs = self.both_rules("vdsr", 28.020, 28.119) + self.both_rules("lapsrn", 28.19, 28.30)
        assert judged(*runs)["grey-image"].verdict == "reproduced"

    def test_rows_that_follow_different_rules_contradict_each_other(self) -> None:
        runs = self.both_rules("vdsr", 28.020, 28.119) + self.both_rules("lapsrn", 28.085, 28.181)
        found = judged(*runs)["grey-image"]
        assert found.verdict == "inconsistent in print" and len(found.runs) == 4
        assert "full-range (VDSR) and as-rgb (LapSRN)" in found.evidence


class TestAblation:
    FLAGS = {
        "none": {"feature_fusion": False, "long_short_connections": False},
        "ff": {"feature_fusion": True, "long_short_connections": False},
        "lsc": {"feature_fusion": False, "long_short_connections": True},
        "both": {},
    }

    def variants(self, **scores: float) -> list[RunRecord]:
        return [
            record("drfn", psnr=(psnr - 2, psnr + 2), hyper=self.FLAGS[name], tag="repro")
            for name, psnr in scores.items()
        ]

    def test_each_addition_that_helps_is_reproduced(self) -> None:
        found = judged(*self.variants(none=27.0, ff=27.2, lsc=27.1, both=27.3))
        assert found["feature-fusion"].verdict == found["connections"].verdict == "reproduced"
        assert "+0.200 [+0.200, +0.200]" in found["feature-fusion"].evidence
        assert len(found["connections"].runs) == 4

    def test_one_that_does_not_is_left_open(self) -> None:
        found = judged(*self.variants(none=27.0, ff=27.2, lsc=26.9, both=27.3))
        assert found["feature-fusion"].verdict == "reproduced"
        assert found["connections"].verdict == "undecided"

    def test_variants_below_bicubic_have_not_learned_enough_to_tell(self) -> None:
        found = judged(*self.variants(none=13.7, ff=25.9, lsc=26.5, both=26.6))["feature-fusion"]
        assert found.verdict == "undecided"
        assert "neither (13.70 dB)" in found.evidence

    def test_three_variants_are_not_enough(self) -> None:
        found = judged(*self.variants(none=27.0, ff=27.2, both=27.3))["feature-fusion"]
        assert found.verdict == "not measured" and found.runs == ()
        assert {"+0.20", "+0.09"} <= figures(found.evidence)

    def test_an_addition_that_helps_in_no_reading_of_the_print_contradicts_it(
        self, tmp_path: Path
    ) -> None:
        printed = ("[27.56, 27.76, 27.70, 27.79]\nreadings", "[27.56, {}, 27.79]\nreadings")
        for middle, verdict in (
            ("27.46, 27.50", "inconsistent in print"),
            ("27.46, 27.60", "not measured"),  # if the third column is FF
        ):
            other = changed(tmp_path, (printed[0], printed[1].format(middle)))
            assert judged(of=other)["feature-fusion"].verdict == verdict

    def test_what_print_contradicts_needs_no_measurement(self, tmp_path: Path) -> None:
        printed = ("27.56, 27.76, 27.70, 27.79]\nreadings", "27.56, 27.46, 27.50, 27.79]\nreadings")
        infinite = self.variants(none=math.inf, ff=27.2, lsc=27.1, both=27.3)
        found = judged(*infinite, of=changed(tmp_path, printed))["feature-fusion"]
        assert found.verdict == "inconsistent in print" and found.runs == ()
        open_ = judged(*infinite)["feature-fusion"]
        assert open_.verdict == "not measured" and "an image equals its original" in open_.evidence

    @pytest.mark.parametrize(
        ("whole", "more", "verdict"),
        [
            ("28.55", "", "not measured"),  # what another grey rule may change
            ("28.51", "", "inconsistent in print"),
            ("28.6", "decimals = 1", "not measured"),
        ],
    )
    def test_the_whole_network_may_contradict_the_table(
        self, tmp_path: Path, whole: str, more: str, verdict: str
    ) -> None:
        rules = 'rules = "full-range" # how the variants were run'
        printed = ("27.70, 27.79]\nreadings", f"27.70, {whole}]\nreadings")
        replaced = (rules, f"{more} #" if more else rules)
        other = changed(tmp_path, printed, replaced)
        (ablation,) = Findings(frame(), other).ablations
        assert ablation.verdicts["both"] == verdict
        (shown,) = REPORTS.get("ablation")(Findings(frame(), other))
        assert shown.rows[0][-1] == whole

    def test_a_table_that_cannot_be_measured_contradicts_nothing(self, tmp_path: Path) -> None:
        other = changed(
            tmp_path, ('[[table]]\nid = "table2"', '[[table]]\nborder = 0\nid = "table2"')
        )
        (ablation,) = Findings(frame(), other).ablations
        assert ablation.verdicts["both"] == "not measured"

    def test_the_authors_weights_must_agree_and_others_may_exceed_a_number(self) -> None:
        for tag, psnr, verdict in (
            ("official", 27.75, "reproduced"),
            ("official", 29.26, "undecided"),
            ("repro", 29.26, "reproduced"),
        ):
            run = record("drfn", psnr=(psnr,) * 2, hyper=self.FLAGS["ff"], protocol=FULL, tag=tag)
            (ablation,) = Findings(frame(run), PAPER).ablations
            assert ablation.verdicts["ff"] == verdict

    def test_a_variant_that_is_reached_is_reproduced_and_another_undecided(self) -> None:
        runs = self.variants(none=27.55, ff=27.73, lsc=27.0)
        (ablation,) = Findings(frame(*runs), PAPER).ablations
        assert ablation.verdicts == {
            **{"none": "reproduced", "ff": "undecided", "lsc": "undecided"},
            "both": "inconsistent in print",
        }


JUDGES = """
from harness.registry import register_judge

@register_judge
def exits(findings, claim):
    raise SystemExit(0)

@register_judge
def word(findings, claim):
    return "true", "a text"

@register_judge
def number(findings, claim):
    return "refuted", 5

@register_judge
def runs(findings, claim):
    return "refuted", "a text", [5]

@register_judge
def good(findings, claim):
    return "refuted", "a text"
"""


@pytest.mark.parametrize(
    ("judge", "verdict", "text"),
    [
        ("exits", "not measured", "The test judges:exits failed: SystemExit: 0."),
        ("word", "not measured", "The test judges:word failed: ValidationError: "),
        ("number", "not measured", "The test judges:number failed: ValidationError: "),
        ("runs", "not measured", "The test judges:runs failed: ValidationError: "),
        ("good", "refuted", "a text"),
    ],
)
def test_what_a_plug_in_returns_is_checked(
    tmp_path: Path, judge: str, verdict: str, text: str
) -> None:
    (tmp_path / "judges.py").write_text(JUDGES)
    load_plugins([tmp_path / "judges.py"])
    named = 'plugin = "harness.paper.literature:all_from", options = { method = "RDN" }'
    found = judged(of=changed(tmp_path, (named, f'plugin = "judges:{judge}"')))["other-results"]
    assert found.verdict == verdict and text in found.evidence


class TestLogs:
    """DRFN's lead over MSRN is one over the numbers of 2018 that it prints."""

    def test_the_best_under_some_budget_is_compared_with_the_log_as_well(self) -> None:
        evidence = judged()["computing-power"].evidence
        assert "MSRN's authors' log (MIVRC/MSRN-PyTorch at 7873388" in evidence
        gaps = "-0.10 dB on Set5, -0.01 dB on Set14, -0.06 dB on B100 and -0.30 dB on Urban100"
        assert gaps in evidence and "trained on DIV2K 1 to 895" in evidence

    def test_both_counts_of_the_lead_are_given(self) -> None:
        assert "leads MSRN in 6 of the 8 printed numbers" in judged()["superior"].evidence
        power = judged()["computing-power"].evidence
        assert (
            "leads MSRN in 3 of the 4 printed numbers" in power
            and ", and in 0 of them by the log:" in power
        )

    def test_every_claim_that_compares_scores_with_msrn_is_told_of_the_log(
        self, committed: Sequence[RunRecord]
    ) -> None:
        """Whether it holds in print or not, and where its lead over MSRN is the margin."""
        told = {
            key for key, one in judged(*committed).items() if "MSRN's authors' log" in one.evidence
        }
        assert told == {
            *("similar-performance", "fewer-parameters", "computing-power", "superior", "highest"),
            "grey-image",
        }

    def test_a_margin_that_is_a_lead_over_a_method_follows_the_log(self, tmp_path: Path) -> None:
        """It leads MSRN by 0.09 dB on Set5 as printed, and is 0.10 dB behind by the log."""
        old = 'test = { within = ["RDN"], lead_over = "MSRN", fewer = "parameters" }'
        new = 'test = { within = ["LapSRN"], lead_over = "MSRN", sets = ["set5"] }'
        assert (
            "With the numbers of the log, it holds."
            in judged(of=changed(tmp_path, (old, new)))["similar-performance"].evidence
        )
        near = ("| 31.54/0.8850 |", "| 32.20/0.8850 |")
        found = judged(of=changed(tmp_path, (old, new), near))["similar-performance"]
        assert "In print, the claim holds" in found.evidence
        assert "With the numbers of the log, it does not hold." in found.evidence

    def beats_msrn(self, tmp_path: Path, year: int, *records: RunRecord) -> Judgement:
        """The claim that the paper is better than MSRN on three sets."""
        old = 'test = { rank = "upper half", metrics = ["psnr", "ssim"] }'
        new = 'test = { beats = ["MSRN"], sets = ["set5", "set14", "b100"] }'
        of = changed(tmp_path, (old, new), ("year = 2020", f"year = {year}"))
        return judged(*records, of=of)["superior"]

    def test_a_lead_may_hold_in_print_and_not_by_the_log(self, tmp_path: Path) -> None:
        found = self.beats_msrn(tmp_path, 2020)
        assert found.verdict == "not measured"
        assert found.evidence.startswith(
            "In print, the claim holds: DRFN minus MSRN is 0.09 dB on Set5"
        )
        assert "With the numbers of the log, it does not hold." in found.evidence

    def test_the_log_refutes_nothing(self, tmp_path: Path) -> None:
        """Neither do weights trained here, where DRFN is behind both."""
        own = record("drfn", "set5", [30.7], protocol="BI-x4/rgb", tag="repro")
        assert self.beats_msrn(tmp_path, 2020, own).verdict == "undecided"
        authors = record("drfn", "set5", [32.17], protocol="BI-x4/rgb")
        assert self.beats_msrn(tmp_path, 2020, authors).verdict == "reproduced"

    def test_a_later_log_is_no_argument(self, tmp_path: Path) -> None:
        assert "log" in self.beats_msrn(tmp_path, 2018).evidence
        assert "log" not in self.beats_msrn(tmp_path, 2017).evidence

    def test_it_changes_no_verdict(self, tmp_path: Path, committed: Sequence[RunRecord]) -> None:
        before = judged(*committed, of=changed(tmp_path, ("year = 2020", "year = 2017")))
        assert {key: one.verdict for key, one in judged(*committed).items()} == {
            key: one.verdict for key, one in before.items()
        }


class TestRows:
    def test_a_row_within_tolerance_is_reproduced(self, measured: Sequence[RunRecord]) -> None:
        others = [run for run in measured if run.identity.dataset != "urban100"]
        found = judged(*others)["table2-vdsr"]
        assert found.verdict == "reproduced" and "5 of 6" in found.evidence
        assert "SSIM of B100 0.7251 for 0.0726" in found.evidence
        assert "Not measured: Urban100 and Manga109." in found.evidence

    def test_a_row_with_a_number_that_misses_under_the_rules_tried_is_undecided(
        self, measured: Sequence[RunRecord]
    ) -> None:
        found = judged(*measured)["table2-vdsr"]
        assert found.verdict == "undecided" and "6 of 8" in found.evidence
        assert "SSIM of Urban100 0.7525 for 0.7540 (undecided, 1 of 4" in found.evidence
        assert "luma not rounded" in found.evidence

    TRIED = ("", "+float-y", "+as-rgb", "+as-rgb+float-y")

    def wrong(self, *protocols: str, whole: float | None = 0.7676) -> Judgement:
        """VDSR by the authors' weights with other numbers on Set14 than printed."""
        score = {"psnr": (27.9, 27.9), "ssim": 0.7676, "whole": whole}
        return judged(*[record("vdsr", protocol=f"BI-x4/y{one}", **score) for one in protocols])[
            "table2-vdsr"
        ]

    def test_a_number_the_authors_weights_do_not_give_is_refuted(self) -> None:
        found = self.wrong(*self.TRIED)
        assert found.verdict == "refuted"
        assert "PSNR of Set14 27.900 for 28.02" in found.evidence
        assert "not tried" not in found.evidence

    @pytest.mark.parametrize(
        ("untried", "called"),
        [
            ("+float-y", "luma not rounded"),
            ("+as-rgb+float-y", "grey images as-rgb with luma not rounded"),
        ],
    )
    def test_while_a_rule_was_not_tried_it_is_undecided(self, untried: str, called: str) -> None:
        found = self.wrong(*[one for one in self.TRIED if one != untried])
        assert found.verdict == "undecided" and f"not tried: {called}" in found.evidence

    def test_an_ssim_needs_the_whole_image_to_be_tried_and_a_psnr_does_not(self) -> None:
        assert self.wrong(*self.TRIED, whole=None).verdict == "refuted", "its PSNR is"
        runs = [
            record("vdsr", psnr=(28.02, 28.02), ssim=0.74, protocol=f"BI-x4/y{one}")
            for one in self.TRIED
        ]
        found = judged(*runs)["table2-vdsr"]
        assert found.verdict == "undecided" and "SSIM of the whole image" in found.evidence

    def test_a_set_without_grey_images_needs_no_rule_for_them(self) -> None:
        def verdict(*protocols: str) -> str:
            score = {"psnr": (27.0, 27.0), "ssim": 0.7251}
            runs = [record("vdsr", "b100", protocol=f"BI-x4/y{one}", **score) for one in protocols]
            return judged(*runs)["table2-vdsr"].verdict

        assert verdict("", "+float-y") == "refuted"
        assert verdict("") == "undecided"

    def test_the_other_grey_rule_counts_and_is_named(self) -> None:
        runs = TestRules.both_rules("lapsrn", 28.085, 28.181)
        found = judged(*runs)["table2-lapsrn"]
        assert "PSNR of Set14" in found.evidence and "as-rgb" in found.evidence

    def test_weights_trained_here_can_reach_a_row_and_cannot_refute_it(self) -> None:
        def row(psnr: float) -> Judgement:
            run = record("drfn", psnr=(psnr, psnr), protocol="BI-x4/rgb", tag="repro")
            return judged(run)["table2-drfn"]

        assert row(28.70).verdict == "reproduced"
        low = row(27.50)
        assert low.verdict == "undecided" and "PSNR of Set14 27.500 for 28.62" in low.evidence

    def test_what_to_do_without_runs_depends_on_what_exists(self) -> None:
        found = judged()
        assert "harness run --models vdsr" in found["table2-vdsr"].evidence
        assert "harness train drfn" in found["table2-drfn"].evidence
        assert "train" not in found["table2-bicubic"].evidence, "it has no weights"
        assert "harness run --models bicubic" in found["table2-bicubic"].evidence

    def test_a_row_of_an_unknown_network_asks_for_it(self, monkeypatch) -> None:
        known = {name: one for name, one in MODELS._built_in.items() if name != "msrn"}
        monkeypatch.setattr(MODELS, "_built_in", known)
        found = judged()
        asked = {claim for claim, one in found.items() if "come from plug-ins" in one.evidence}
        assert asked == {"table2-msrn"} and found["table2-msrn"].verdict == "not measured"


def test_no_evidence_names_a_run_it_does_not_rest_on(measured: Sequence[RunRecord]) -> None:
    known = {run.identity.id for run in measured}
    named = {claim: one.runs for claim, one in judged(*measured).items() if one.runs}
    rows = {"table2-bicubic", "table2-srcnn", "table2-vdsr"}
    assert named.keys() == rows | {"vdsr-b100", "one-pipeline"}
    for runs in named.values():
        assert set(runs) <= known
        assert len(set(runs)) == len(runs)


def test_words_are_joined() -> None:
    assert [listed(list("abc"[:n])) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13)] == [
        *("1st", "2nd", "3rd", "4th"),
        *("11th", "12th", "13th"),
    ]


def test_equal_printed_numbers_divide_nothing_by_zero(
    measured: Sequence[RunRecord], tmp_path: Path
) -> None:
    """Nor does a table in which all numbers are equal."""
    cells = PAPER.tables[0].cells
    flat = changed(
        tmp_path,
        (cells, re.sub(r"[\d.]+/[\d.]+", "28.00/0.8000", cells)),
        ("[27.56, 27.76, 27.70, 27.79]\nreadings", "[28, 28, 28, 28]\nreadings"),
    )
    for records in ((), measured):
        assert len(judged(*records, of=flat)) == len(flat.claims) + len(flat.rows)
        assert len(Findings(frame(*records), flat).ablations) == 1
