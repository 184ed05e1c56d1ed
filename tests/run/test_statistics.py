import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness import baselines
from harness.data.testsets import grey_images
from harness.errors import MismatchError, UsageError
from harness.models.find_weights import TrainingNotes, training_notes
from harness.paper.findings import Findings
from harness.paper.schema import paper
from harness.record import EarlierIdentity, RunRecord
from harness.registry import MODELS
from harness.run.statistics import (
    compare_runs,
    paired_bootstrap,
    paired_scores,
    spread_over_weights,
)
from tests.records import frame, record


class TestBootstrap:
    RNG = np.random.default_rng(5)

    def test_the_same_seed_gives_the_same_interval(self) -> None:
        a, b = self.RNG.normal(size=(2, 14))
        assert paired_bootstrap(a, b) == paired_bootstrap(a, b)
        assert paired_bootstrap(a, b) != paired_bootstrap(a, b, seed=1)

    def test_of_many_images_it_is_the_normal_interval(self) -> None:
        a = self.RNG.normal(0.3, 1, 400)
        found = paired_bootstrap(a, np.zeros(400))
        half = 1.96 * a.std(ddof=1) / 20
        assert found.difference == pytest.approx(a.mean())
        assert found.low == pytest.approx(a.mean() - half, abs=0.01)
        assert found.high == pytest.approx(a.mean() + half, abs=0.01)
        assert found.half_width == pytest.approx(half, abs=0.01)

    def test_what_makes_an_image_hard_for_both_is_not_counted(self) -> None:
        hard = self.RNG.normal(28, 4, 14)
        found = paired_bootstrap(hard + 0.5, hard)
        assert (found.low, found.high) == (pytest.approx(0.5), pytest.approx(0.5))

    def test_the_other_way_round_the_sign_turns(self) -> None:
        a, b = self.RNG.normal(size=(2, 14))
        there, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
        assert (back.difference, back.low) == (
            pytest.approx(-there.difference),
            pytest.approx(-there.high),
        )

    @pytest.mark.parametrize(
        ("a", "b"), [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([1.0, np.inf], [1.0, 2.0])]
    )
    def test_what_cannot_be_resampled_is_refused(self, a: list[float], b: list[float]) -> None:
        with pytest.raises(UsageError):
            paired_bootstrap(np.array(a), np.array(b))


class TestRuns:
    def test_scores_are_paired_by_image(self) -> None:
        a, b = record("srcnn", psnr=(27.0, 30.0)), record("vdsr", psnr=(28.0, 30.5))
        assert [list(scores) for scores in paired_scores(a, b)] == [[27.0, 30.0], [28.0, 30.5]]
        assert compare_runs(b, a).difference == pytest.approx(0.75)

    def test_runs_on_different_images_do_not_compare(self) -> None:
        with pytest.raises(MismatchError, match="different images"):
            compare_runs(record("srcnn"), record("vdsr", images="others"))

    def test_runs_under_two_grey_rules_compare_on_colour_images(self) -> None:
        assert grey_images()["set14"] == {"img_003"}, "the fourth below"
        a = record("srcnn", psnr=(27.0, 28.0, 29.0, 25.0))
        b = record("edsr", psnr=(28.0, 29.0, 30.0, 90.0), protocol="BI-x4/rgb")
        assert compare_runs(b, a).difference == pytest.approx(1.0)
        alike = record("edsr", psnr=(28.0, 29.0, 30.0, 30.0), protocol="BI-x4/rgb+full-range")
        assert compare_runs(alike, a).difference == pytest.approx(2.0)

    def test_on_an_own_set_they_do_if_the_runs_name_its_grey_images(self) -> None:
        scores = {"mine": (27.0, 25.0), "edsr": (28.0, 90.0)}
        a, b = (
            replace(
                record(model, "own", psnr, protocol=protocol),
                provenance={"grey_images": ["img_001"]},
                verified=False,
            )
            for (model, psnr), protocol in zip(
                scores.items(), ("BI-x4/y", "BI-x4/rgb"), strict=True
            )
        )
        assert [list(one) for one in paired_scores(b, a)] == [[28.0], [27.0]]

    def test_on_an_own_set_that_no_run_knows_they_do_not(self) -> None:
        with pytest.raises(MismatchError, match="two grey rules"):
            compare_runs(record("srcnn", "mine"), record("edsr", "mine", protocol="BI-x4/rgb"))
        with pytest.raises(MismatchError, match="two grey rules"):  # without Set14's img_003
            compare_runs(record("srcnn"), record("edsr", protocol="BI-x4/rgb"))


class TestSpread:
    @pytest.fixture
    def alike(self, monkeypatch) -> None:
        """All weights come from one recipe."""
        monkeypatch.setattr(
            "harness.run.statistics.training_notes", lambda one: TrainingNotes("a recipe")
        )

    def test_weights_of_unknown_training_are_no_seeds(self) -> None:
        runs = [record("drfn", tag="file", weights=name) for name in ("a", "b")]
        assert spread_over_weights(frame(*runs)) == ()

    @pytest.mark.usefixtures("alike")
    def test_it_is_over_weights_of_one_network(self) -> None:
        runs = [
            record("drfn", psnr=(value, value), tag="repro", weights=f"w{value}")
            for value in (27.0, 27.1, 27.2)
        ]
        (spread,) = spread_over_weights(frame(*runs))
        assert (spread.count, spread.identity.model) == (3, "drfn")
        assert (spread.mean, spread.sd) == (pytest.approx(27.1), pytest.approx(0.1))

    @pytest.mark.usefixtures("alike")
    def test_files_of_a_user_are_seeds_whatever_they_are_called(self) -> None:
        runs = [record("drfn", tag=name, weights=name) for name in ("seed1", "seed2")]
        (spread,) = spread_over_weights(frame(*runs))
        assert spread.count == 2

    @pytest.mark.usefixtures("alike")
    def test_records_of_an_earlier_version_are_alike_too(self) -> None:
        def earlier(weights: str) -> RunRecord:
            made = record("drfn", tag="repro", weights=weights)
            stored = made.identity.to_json()
            stored.pop("inference")
            return replace(made, identity=EarlierIdentity.from_json(stored))

        (spread,) = spread_over_weights(frame(*map(earlier, "abc")))
        assert spread.count == 3

    @pytest.mark.usefixtures("alike")
    def test_other_arguments_sets_and_owners_are_kept_apart(self) -> None:
        runs = [
            record("drfn", tag="repro", weights="a"),
            record("drfn", tag="repro", weights="b", hyper={"feature_fusion": False}),
            record("drfn", "set5", tag="repro", weights="c"),
            record("drfn", tag="official", weights="d"),
        ]
        assert spread_over_weights(frame(*runs)) == ()
        assert spread_over_weights(frame()) == ()

    def test_weights_of_other_budgets_are_no_seeds(self, monkeypatch) -> None:
        runs = [record("drfn", tag="repro", weights=name) for name in ("a", "b")]
        monkeypatch.setattr(
            "harness.run.statistics.training_notes",
            lambda one: TrainingNotes(key=one.identity.weights_sha256),
        )
        assert spread_over_weights(frame(*runs)) == ()


def test_the_budget_of_shipped_weights_is_known() -> None:
    folder = Path(baselines.__file__).parent / "weights"
    notes = json.loads((folder / "edsr-baseline-x4.repro.json").read_text())
    budget = training_notes(record("edsr-baseline", weights=notes["tensors_sha256"]))
    assert budget.steps == notes["steps"]
    assert str(budget).startswith(f"{notes['steps']:,} steps of 8 patches of 24x24 in 16 minutes")


def test_nothing_is_known_of_the_training_of_other_weights() -> None:
    for one in (record("edsr-baseline"), record("bicubic", weights=None), record("not-here")):
        assert training_notes(one) == TrainingNotes()
    assert str(TrainingNotes()) == "a training of which nothing is known"


def test_json_files_of_others_beside_weights_are_no_notes(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "weights").mkdir()
    for name, text in (("config", "{}"), ("list", "[1]"), ("null", "null"), ("cut", '{"a"')):
        (tmp_path / f"weights/{name}.json").write_text(text)
    card = replace(MODELS.get("drfn"), source=tmp_path / "drfn.py")
    monkeypatch.setattr(MODELS, "get", lambda name: card)
    assert training_notes(record("drfn", weights="0" * 64)) == TrainingNotes()


def test_pairs_that_a_paper_argues_from_have_one_interval_each() -> None:
    """Also where the two are no neighbours by printed PSNR."""
    scores = {"rdn": 32.5, "edsr": 32.4, "drfn": 32.2}
    runs = [
        record(model, "set5", (psnr, 2 * psnr), protocol="BI-x4/rgb")
        for model, psnr in scores.items()
    ]
    findings = Findings(frame(*runs), paper("drfn2020"))
    (table,) = findings.tables
    found = [one for one in findings.differences(table) if one.dataset == "set5"]
    measured = [(one.better, one.worse) for one in found if one.interval]
    assert measured == [("RDN", "EDSR"), ("EDSR", "DRFN"), ("RDN", "DRFN")]
    assert {(one.better, one.worse) for one in found if not one.interval} == {("DRFN", "MSRN")}
