"""The runs of a printed ablation are told by their arguments and grouped by their training."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_fields

from harness.models.find_weights import TrainingNotes
from harness.paper.ablations import MeasuredAblation, judge_ablation
from harness.paper.schema import paper
from harness.record import RunRecord
from tests.records import frame, record


class TestAblations:
    PAPER = paper("drfn2020")
    (PRINTED,) = PAPER.ablations

    def variant(self, name: str, psnr: float = 27.0, **options: object) -> RunRecord:
        hyper = self.PRINTED.arguments(name)
        return record("drfn", psnr=(psnr, psnr), hyper=hyper, tag="repro", **options)

    def measured(self, *runs: RunRecord) -> Sequence[MeasuredAblation]:
        return judge_ablation(frame(*runs), self.PAPER, self.PRINTED).measured

    def grouped(self, *runs: RunRecord) -> list[dict[str, int]]:
        """The number of weights of each variant, by training budget."""
        return [
            {name: len(records) for name, records in one.runs.items()}
            for one in self.measured(*runs)
        ]

    def test_variants_are_told_by_the_network_s_arguments(self) -> None:
        runs = [self.variant(name) for name in ("both", "lsc", "ff", "none")]
        assert self.grouped(*runs) == [{"none": 1, "ff": 1, "lsc": 1, "both": 1}]

    def test_arguments_of_the_whole_network_may_be_named(self) -> None:
        whole = record("drfn", hyper=self.PRINTED.variants["both"], tag="repro")
        assert self.grouped(whole) == [{"both": 1}]

    def test_other_arguments_networks_sets_scales_and_rules_are_none(self) -> None:
        assert (
            self.grouped(
                record("drfn", hyper={"blocks": 4}),
                record("drfn-2conv"),
                record("drfn", "set5"),
                record("drfn", scale=2),
                record("drfn", self_ensemble=True),
                record("drfn", protocol="BI-x4/y+as-rgb"),
            )
            == []
        )

    def test_variants_of_other_budgets_are_not_compared(self, monkeypatch) -> None:
        monkeypatch.setattr(
            "harness.paper.ablations.training_notes",
            lambda one: TrainingNotes(key=one.identity.weights_sha256, steps=600),
        )
        runs = [self.variant("none", weights="a"), self.variant("ff", weights="a")]
        assert self.grouped(self.variant("both", weights="b"), *runs) == [
            *({"none": 1, "ff": 1}, {"both": 1})
        ]

    def test_each_of_several_weights_counts(self) -> None:
        runs = [self.variant("ff", psnr, weights=f"{psnr}") for psnr in (27.0, 27.2)]
        (found,) = self.measured(*runs, self.variant("none", 26.9))
        assert sorted(found.means("ff")) == pytest.approx([27.0, 27.2])
        assert list(found.means("none")) == [26.9] and found.means("both").empty
        assert found.gain("ff", "none").difference == pytest.approx(0.2)

    def test_an_infinite_score_reaches_no_printed_number(self) -> None:
        runs = frame(self.variant("none", 30.0), self.variant("ff", math.inf))
        found = judge_ablation(runs, self.PAPER, self.PRINTED).verdicts
        assert (found["none"], found["ff"]) == ("reproduced", "undecided")

    def test_a_variant_below_bicubic_leaves_its_whole_budget_undecided(self) -> None:
        (table,) = self.PAPER.tables
        judged = judge_ablation(
            frame(self.variant("none", 25.9), self.variant("ff", 26.1)), self.PAPER, self.PRINTED
        )
        assert judged.floor == 26.00 and "Bicubic | 28.42/0.8104 | 26.00" in table.cells
        assert judged.below_floor(judged.measured[0]) == {"none": pytest.approx(25.9)}
        without = replace_fields(self.PAPER, methods={**self.PAPER.methods, "Bicubic": ""})
        judged = judge_ablation(frame(self.variant("none", 13.0)), without, self.PRINTED)
        assert judged.floor == 0 and not judged.below_floor(judged.measured[0])

    def test_a_variant_whose_runs_all_failed_has_failed(self) -> None:
        def failed(name: str) -> RunRecord:
            return replace(self.variant(name), status="error", images=(), error="broke")

        runs = frame(failed("ff"), failed("none"), self.variant("none", weights="others"))
        assert judge_ablation(runs, self.PAPER, self.PRINTED).failed == {"ff"}
        assert self.grouped(failed("ff")) == []
