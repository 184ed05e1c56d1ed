"""Verdicts follow from the evidence, and change with it."""

import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import pytest

from harness.paper.claims import Judgement, judge
from harness.paper.schema import listed, ordinal, paper
from harness.record import RunRecord
from harness.registry import MODELS
from harness.run.store import ResultStore
from tests.records import frame, record

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
FULL = "BI-x4/rgb+full-range"
AUTHORS = ("bicubic", "bicubic-rgb", "srcnn", "vdsr")


def judged(*records: RunRecord) -> dict[str, Judgement]:
    return {one.claim: one for one in judge(frame(*records), paper())}


def figures(evidence: str) -> set[str]:
    """The numbers of a text, with their signs and units as they are printed."""
    return set(re.findall(r"[+-]?\b\d[\d,]*(?:\.\d+)?(?:[%MG]|\b)", evidence))


@pytest.fixture(scope="module")
def measured() -> list[RunRecord]:
    """The committed runs of four methods that scored grey images full-range."""
    runs = ResultStore(REFERENCE).read().table()
    rules = ["BI-x4/y", "BI-x4/rgb", "BI-x4/rgb+full-range"]
    plain = runs["model"].isin(AUTHORS) & runs["protocol"].isin(rules)
    return list(runs[plain]["record"])


def test_every_claim_and_every_row_is_judged_even_without_runs() -> None:
    found = judge(frame(), paper())
    rows = [f"table2-{row['model']}" for row in paper()["table2"]["rows"]]
    assert [one.claim for one in found] == [*(one["key"] for one in paper()["claims"]), *rows]
    for one in found:
        assert one.statement and one.where and one.evidence and one.runs == (), one.claim


def test_the_committed_runs_give_these_verdicts(measured: Sequence[RunRecord]) -> None:
    found = judged(*measured)
    expected = {
        "parameters": "reproduced",
        "depth": "refuted",
        "superior": "not measured",
        "computing-power": "not measured",
        "receptive-field": "reproduced",
        "downscaling-filters": "reproduced",
        "fewer-parameters": "inconsistent in print",
        "highest": "not measured",
        "table1-table2": "inconsistent in print",
        "vdsr-b100": "inconsistent in print",
        "dcsr-urban100": "inconsistent in print",
        "one-pipeline": "inconsistent in print",
        "table2-bicubic": "reproduced",
        "table2-srcnn": "reproduced",
        "table2-vdsr": "reproduced",
        "table2-drfn": "not measured",
    }
    assert {claim: found[claim].verdict for claim in expected} == expected


class TestNetworks:
    def test_the_count_holds_with_one_convolution_a_block(self) -> None:
        evidence = judged()["parameters"].evidence
        assert "5,207,203" in evidence and "9,933,987" in evidence

    def test_no_reading_has_400_convolutions_in_a_row(self) -> None:
        found = judged()["depth"]
        assert found.verdict == "refuted"
        assert "182" in found.evidence and "310" in found.evidence and "14.8M" in found.evidence

    def test_the_readings_of_a_layer_are_named(self) -> None:
        evidence = judged()["depth"].evidence
        assert {"360", "488", "9.9M"} <= figures(evidence)

    def test_it_looks_farther_than_all_it_is_compared_with(self) -> None:
        evidence = judged()["receptive-field"].evidence
        assert {"229", "459"} <= figures(evidence) and "RDN 134, EDSR 69" in evidence

    def test_the_attention_narrows_to_four_filters(self) -> None:
        found = judged()["downscaling-filters"]
        assert found.verdict == "reproduced" and {"16", "4"} <= figures(found.evidence)

    def test_rdn_has_its_22_million(self) -> None:
        assert "22,271,107" in judged()["rdn-parameters"].evidence

    def test_an_epoch_of_a_thousand_steps_does_not_fit_into_80_seconds(self) -> None:
        # 325.8 GMAC for 320x180 LR pixels; 16 x 48 x 48 pixels, forward and backward: 1.25 TFLOP.
        flops = 3 * 2 * 325_804_040_192 * 16 * 48**2 / (320 * 180)
        found = judged()["training-time"]
        assert found.verdict == "not measured"
        steps = f"{80 * 11.34e12 / flops:.0f}"
        assert {steps, "395", "7%", "138%"} <= figures(found.evidence)

    def test_who_needs_fewer_multiplications_is_nowhere_better_in_print(self) -> None:
        found = judged()["computing-power"]
        assert found.verdict == "not measured" and "DRFN 326" in found.evidence
        assert "MSRN on Urban100" in found.evidence

    def test_a_better_network_with_less_work_would_refute_it(self) -> None:
        rows = [dict(row) for row in paper()["table2"]["rows"]]
        next(row for row in rows if row["model"] == "srcnn")["set5"] = [32.50, 0.9]
        other = dict(paper()) | {"table2": {"scale": 4, "rows": rows}}
        found = {one.claim: one for one in judge(frame(), other)}
        assert found["computing-power"].verdict == "refuted"
        assert "SRCNN on Set5" in found["computing-power"].evidence

    def test_where_the_networks_are_absent_the_claims_stay_open(self, monkeypatch) -> None:
        monkeypatch.setattr(MODELS, "_built_in", {})
        found = judged()
        for claim in ("parameters", "depth", "training-time", "computing-power"):
            assert found[claim].verdict == "not measured" and "drfn" in found[claim].evidence


class TestPrint:
    def test_ranks_are_counted_in_every_column(self) -> None:
        evidence = judged()["superior"].evidence
        assert (
            "3rd of 12 on Set5, Set14 and B100, 5th of 12 on Urban100, 2nd of 10 on Manga109 "
            "by PSNR" in evidence
        )
        assert "3rd of 10 on Manga109 by SSIM" in evidence
        assert "none of 10" in evidence

    def test_a_doubtful_cell_is_left_out_of_the_rank_on_request(self) -> None:
        evidence = judged()["superior"].evidence
        assert "4th of 11 on Urban100 by PSNR and 4th of 11 on Urban100 by SSIM" in evidence

    def test_what_nobody_measured_holds_in_print_at_most(self) -> None:
        found = judged()["superior"]
        assert found.verdict == "not measured"
        assert "3rd of 12" in found.evidence and {"27.79", "8"} <= figures(found.evidence)
        reached = record("drfn", psnr=(28.62, 28.62), ssim=0.7797, protocol="BI-x4/rgb")
        again = judged(reached)
        assert again["table2-drfn"].verdict == "reproduced"
        assert again["superior"].verdict == again["computing-power"].verdict == "reproduced"

    def test_what_print_contradicts_is_not_left_open(self) -> None:
        rows = [dict(row) for row in paper()["table2"]["rows"]]
        next(row for row in rows if row["model"] == "drfn")["set5"] = [30.0, 0.85]
        other = dict(paper()) | {"table2": {"scale": 4, "rows": rows}}
        found = {one.claim: one for one in judge(frame(), other)}["superior"]
        assert found.verdict == "inconsistent in print"

    def test_the_other_results_cannot_all_be_of_rdn(self) -> None:
        found = judged()["other-results"]
        assert found.verdict == "not measured"
        assert "MSRN (ECCV 2018)" in found.evidence and "RDN (CVPR 2018)" in found.evidence

    def test_the_gaps_to_edsr_are_given(self) -> None:
        evidence = judged()["fewer-parameters"].evidence
        assert "EDSR by 0.30 on Set5, 0.18 on Set14, 0.16 on B100 and 0.72 on Urban100" in evidence
        assert "4 of 5 sets" in evidence

    def test_the_two_tables_are_083_db_apart(self) -> None:
        assert "0.83" in figures(judged()["table1-table2"].evidence)

    def test_what_is_called_similar_is_more_than_what_is_called_superior(self) -> None:
        found = judged()["similar-performance"]
        assert found.verdict == "inconsistent in print"
        assert "0.74 on Manga109" in found.evidence and "0.09 dB" in found.evidence

    def test_dcsr_is_out_of_line_on_urban100(self) -> None:
        assert {"+0.60", "+0.0275"} <= figures(judged()["dcsr-urban100"].evidence)

    def test_the_lost_digit_is_measured_where_vdsr_was_run(
        self, measured: Sequence[RunRecord]
    ) -> None:
        found = judged(*measured)["vdsr-b100"]
        assert "0.7251" in figures(found.evidence) and len(found.runs) == 1
        assert judged()["vdsr-b100"].runs == ()


class TestSelfEnsemble:
    @staticmethod
    def pair(plain: float, ensemble: float, weights: str = "w") -> list[RunRecord]:
        scores = {"protocol": "BI-x4/rgb", "tag": "repro"}
        return [
            record("drfn", psnr=(plain, plain), **scores),
            record("drfn", psnr=(ensemble,) * 2, self_ensemble=True, weights=weights, **scores),
        ]

    @pytest.mark.parametrize(
        ("plain", "ensemble", "verdict"),
        [
            (28.62, 28.82, "reproduced"),  # above RDN's 28.81
            (28.62, 28.72, "refuted"),
            (27.10, 27.20, "not measured"),  # not trained long enough to judge
        ],
    )
    def test_the_verdict(self, plain: float, ensemble: float, verdict: str) -> None:
        found = judged(*self.pair(plain, ensemble))["highest"]
        assert found.verdict == verdict and len(found.runs) == 2
        assert f"{ensemble - plain:.2f} on Set14" in found.evidence

    def test_what_is_needed_is_said_without_runs(self) -> None:
        evidence = judged()["highest"].evidence
        assert "0.31 on Set5, 0.19 on Set14" in evidence and "0.72 on Urban100" in evidence

    def test_runs_of_other_weights_are_no_pair(self) -> None:
        assert judged(*self.pair(28.62, 28.82, weights="others"))["highest"].runs == ()


class TestRules:
    def test_bicubic_moves_little_between_pipelines_and_follows_both(
        self, measured: Sequence[RunRecord]
    ) -> None:
        found = judged(*measured)["one-pipeline"]
        assert {"0.008", "0.0011"} <= figures(found.evidence)
        assert "y on Set5, rgb on Set14 and y on B100" in found.evidence

    def test_a_row_that_follows_one_pipeline_is_consistent(self) -> None:
        runs = [
            record("bicubic", psnr=(26, 26), ssim=0.7027, weights=None),
            record("bicubic-rgb", psnr=(26, 26), ssim=0.75, protocol=FULL, weights=None),
        ]
        assert judged(*runs)["one-pipeline"].verdict == "reproduced"

    @staticmethod
    def both_rules(model: str, full: float, as_rgb: float) -> list[RunRecord]:
        return [
            record(model, psnr=(full, full)),
            record(model, psnr=(as_rgb, as_rgb), protocol="BI-x4/y+as-rgb"),
        ]

    def test_the_grey_rule_is_worth_more_than_the_lead(self) -> None:
        found = judged(*self.both_rules("bicubic", 26.003, 26.097))["grey-image"]
        assert found.verdict == "not measured"
        assert {"0.094", "4.7", "0.02"} <= figures(found.evidence)
        assert "Bicubic follows full-range" in found.evidence

    def test_rows_that_follow_different_rules_contradict_each_other(self) -> None:
        runs = self.both_rules("vdsr", 28.020, 28.119) + self.both_rules("lapsrn", 28.085, 28.181)
        found = judged(*runs)["grey-image"]
        assert found.verdict == "inconsistent in print" and len(found.runs) == 4
        assert "VDSR follows full-range, that of LapSRN follows as-rgb" in found.evidence


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
        assert found["connections"].verdict == "not measured"

    def test_variants_below_bicubic_have_not_learned_enough_to_tell(self) -> None:
        found = judged(*self.variants(none=13.7, ff=25.9, lsc=26.5, both=26.6))["feature-fusion"]
        assert found.verdict == "not measured"
        assert "none (13.70 dB)" in found.evidence

    def test_three_variants_are_not_enough(self) -> None:
        found = judged(*self.variants(none=27.0, ff=27.2, both=27.3))["feature-fusion"]
        assert found.verdict == "not measured" and found.runs == ()
        assert {"+0.20", "+0.09"} <= figures(found.evidence)


class TestRows:
    def test_a_row_within_tolerance_is_reproduced(self, measured: Sequence[RunRecord]) -> None:
        found = judged(*measured)["table2-vdsr"]
        assert found.verdict == "reproduced" and "5 of 6" in found.evidence
        assert "SSIM of B100 0.7251 for 0.0726" in found.evidence
        assert "Not measured: Urban100 and Manga109." in found.evidence

    def test_a_number_the_authors_weights_do_not_give_is_refuted(self) -> None:
        found = judged(record("vdsr", psnr=(27.9, 27.9), ssim=0.7676))["table2-vdsr"]
        assert found.verdict == "refuted"
        assert "PSNR of Set14 27.900 for 28.02" in found.evidence

    def test_the_other_grey_rule_counts_and_is_named(self) -> None:
        runs = TestRules.both_rules("lapsrn", 28.085, 28.181)
        found = judged(*runs)["table2-lapsrn"]
        assert "PSNR of Set14" in found.evidence and "as-rgb" in found.evidence

    def test_one_set_of_rules_that_gives_more_of_a_row_is_named(self) -> None:
        runs = [
            record("fsrcnn", psnr=(27.59, 27.59), ssim=0.7535),
            record("fsrcnn", psnr=(27.605, 27.605), ssim=0.7545, protocol="BI-x4/y+float-y"),
        ]
        found = judged(*runs)["table2-fsrcnn"].evidence
        assert "luma not rounded" in found and {"2", "0.005", "0.0005"} <= figures(found)
        assert "luma not rounded" not in judged(runs[0])["table2-fsrcnn"].evidence

    def test_weights_trained_here_can_reach_a_row_and_cannot_refute_it(self) -> None:
        def row(psnr: float) -> Judgement:
            run = record("drfn", psnr=(psnr, psnr), protocol="BI-x4/rgb", tag="repro")
            return judged(run)["table2-drfn"]

        assert row(28.70).verdict == "reproduced"
        low = row(27.50)
        assert low.verdict == "not measured" and "27.50 of 28.62 dB on Set14" in low.evidence

    def test_what_to_do_without_runs_depends_on_what_exists(self) -> None:
        found = judged()
        assert "HARNESS_WEIGHTS" in found["table2-vdsr"].evidence
        assert "harness train drfn" in found["table2-drfn"].evidence
        for row in paper()["table2"]["rows"]:
            absent = "add one as a plug-in" in found[f"table2-{row['model']}"].evidence
            assert absent == (row["model"] not in MODELS)


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


def test_equal_printed_numbers_divide_nothing_by_zero(measured) -> None:
    """Nor does a table in which all numbers are equal."""
    flat = deepcopy(paper())
    for row in flat["table2"]["rows"]:
        row |= {name: [28.0, 0.8] for name, cell in row.items() if isinstance(cell, list)}
    flat["table1"]["psnr"] = [28.0] * 4
    for records in ((), measured):
        judged = judge(frame(*records), flat)
        assert len(judged) == len(flat["claims"]) + len(flat["table2"]["rows"])
