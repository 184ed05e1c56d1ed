import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result

from harness.record import ImageResult, RunRecord
from harness.run.compare import CheckRow, against_reference, restrict, with_tolerance
from harness.run.store import ResultStore
from harness.text import listed
from tests.records import record as made

REFERENCE = Path(__file__).parents[2] / "results/reference"
CASES = Path(__file__).parents[1] / "cases"
MODELS = ("bicubic", "bicubic-rgb", "edsr-baseline", "srcnn", "vdsr")
RECORDS = [
    one
    for one in ResultStore(REFERENCE).records()
    if one.identity.model in MODELS
    and one.identity.dataset in ("set5", "set14", "b100")
    and one.identity.protocol in ("BI-x4/y", "BI-x4/rgb")
    and one.identity.metrics == ("psnr", "ssim")
    and not (one.identity.self_ensemble or one.identity.tile or one.identity.hyper)
]


def record(model: str, dataset: str) -> RunRecord:
    (found,) = (r for r in RECORDS if (r.identity.model, r.identity.dataset) == (model, dataset))
    return found


def shifted(one: RunRecord, psnr: float = 0, ssim: float = 0) -> RunRecord:
    """The record of a run that measured so much more on every image."""

    def moved(image: ImageResult) -> ImageResult:
        scores = {"psnr": image.scores["psnr"] + psnr, "ssim": image.scores["ssim"] + ssim}
        return replace(image, scores=scores)

    return replace(one, images=tuple(moved(image) for image in one.images))


def measured(one: RunRecord, metric: str, scores: Iterable[float]) -> RunRecord:
    """The record of a run that computed one more metric."""
    images = tuple(
        replace(image, scores=image.scores | {metric: score})
        for image, score in zip(one.images, scores, strict=True)
    )
    metrics = (*dict.fromkeys((*one.identity.metrics, metric)),)
    return replace(otherwise(one, metrics=metrics), images=images)


def otherwise(one: RunRecord, **identity: object) -> RunRecord:
    """The record of a run that differs in its identity."""
    return replace(one, identity=replace(one.identity, **identity))  # type: ignore[arg-type]


def stored(records: Iterable[RunRecord], folder: str = "mine") -> Path:
    store = ResultStore(Path(folder))
    for one in records:
        store.write(one)
    return store.root


def verdicts(rows: Iterable[CheckRow]) -> list[str]:
    return [row.verdict for row in rows]


class TestAgainstTheReference:
    def test_the_reference_agrees_with_itself_and_every_number_has_its_tier(self) -> None:
        rows = against_reference(RECORDS, RECORDS)
        assert len(rows) == 2 * len(RECORDS)
        assert set(verdicts(rows)) == {"ok"}
        tiers = {row.model: (row.tier, row.tolerance) for row in rows if row.metric == "psnr"}
        assert tiers["bicubic"] == tiers["bicubic-rgb"] == ("exact", 1e-4)
        assert tiers["vdsr"] == tiers["edsr-baseline"] == ("same weights", 0.005)

    @pytest.mark.parametrize(
        ("model", "within", "beyond"),
        [("bicubic", (5e-5, 5e-7), (2e-4, 2e-6)), ("vdsr", (0.004, 0.0004), (0.006, 0.0006))],
    )
    def test_a_number_beyond_its_tolerance_fails(self, model, within, beyond) -> None:
        theirs = record(model, "set5")
        for sign in (1, -1):
            near = shifted(theirs, *(sign * step for step in within))
            far = shifted(theirs, *(sign * step for step in beyond))
            assert verdicts(against_reference([near], [theirs])) == ["ok", "ok"]
            assert verdicts(against_reference([far], [theirs])) == ["FAIL", "FAIL"]

    @pytest.mark.parametrize(("dataset", "psnr"), [("set5", 0.2), ("set14", 0.1), ("b100", 0.05)])
    def test_retrained_weights_may_differ_more_on_small_sets(self, dataset, psnr) -> None:
        theirs = record("edsr-baseline", dataset)
        mine = otherwise(theirs, weights_sha256="0" * 64)
        for step, verdict in ((0.99 * psnr, "ok"), (1.01 * psnr, "FAIL")):
            row, _ = against_reference([shifted(mine, step)], [theirs], retrained=True)
            assert (row.tier, row.tolerance, row.verdict) == ("retrained", psnr, verdict)
            assert row.reason == "other weights than the reference's"

    def test_other_weights_fail_however_near_their_numbers_are(self) -> None:
        theirs = record("edsr-baseline", "set5")
        mine = otherwise(theirs, weights_sha256="0" * 64)
        rows = with_tolerance(against_reference([mine], [theirs]), 1)
        assert {(row.tolerance, row.tier) for row in rows} == {(None, "")}
        assert [(row.difference, row.verdict) for row in rows] == [(0, "FAIL"), (0, "FAIL")]
        assert {row.reason for row in rows} == {"other weights than the reference's"}
        again = otherwise(theirs, source_sha256="0" * 64)
        assert verdicts(against_reference([again], [theirs])) == ["ok", "ok"]

    @pytest.mark.parametrize(
        "other",
        [{"protocol": "BI-x4/y+as-rgb"}, {"self_ensemble": True}, {"tile": 8}, {"hyper": {"a": 1}}],
    )
    def test_other_rules_and_settings_need_not_be_run(self, other) -> None:
        theirs = record("vdsr", "set14")
        rows = against_reference([theirs], [theirs, otherwise(theirs, **other)])
        assert verdicts(rows) == ["ok", "ok", "not run", "not run"]
        assert not any(row.violates(require=True) for row in rows)
        rows = against_reference([], [theirs, otherwise(theirs, **other)])
        assert [row.violates(require=True) for row in rows] == [True, True, False, False]

    def test_one_checkpoint_of_the_reference_is_enough(self) -> None:
        theirs = record("vdsr", "set5")
        others = otherwise(theirs, weights_sha256="0" * 64)
        for mine in (theirs, others):
            rows = against_reference([mine], [theirs, others])
            assert not any(row.violates(require=True) for row in rows)
            assert any(row.violates(require=True) for row in against_reference([mine], RECORDS))

    def test_what_the_reference_has_and_nobody_ran_is_not_run(self) -> None:
        rows = against_reference([record("vdsr", "set5")], RECORDS)
        assert verdicts(rows).count("not run") == 2 * len(RECORDS) - 2
        absent = next(row for row in rows if row.verdict == "not run")
        assert (absent.violates(require=False), absent.violates(require=True)) == (False, True)

    @pytest.mark.parametrize(
        "other",
        [{"self_ensemble": True}, {"tile": 64}, {"hyper": {"depth": 3}}, {"protocol": "BI-x4/rgb"}],
    )
    def test_runs_of_another_cell_are_not_compared(self, other) -> None:
        theirs = record("vdsr", "set5")
        mine = otherwise(theirs, **other)
        assert verdicts(against_reference([mine], [theirs])) == ["not run", "not run"]
        rows = against_reference([mine], [theirs, mine])
        assert verdicts(rows) == ["not run", "not run", "ok", "ok"]

    @pytest.mark.parametrize("tag", ["official", "repro", "mine"])
    def test_the_values_of_weights_count_and_not_their_tag(self, tag: str) -> None:
        """A user's copy of the weights has the name of its file as its tag."""
        theirs = record("vdsr", "set5")
        assert theirs.weights is not None
        copy = replace(theirs, weights=replace(theirs.weights, tag=tag))
        assert verdicts(against_reference([copy], [theirs])) == ["ok", "ok"]
        mine = otherwise(copy, weights_sha256="0" * 64)
        assert verdicts(against_reference([mine], [theirs])) == ["FAIL", "FAIL"]
        rows = against_reference([mine], [theirs], retrained=True)
        assert [(row.tier, row.verdict) for row in rows] == [("retrained", "ok")] * 2

    def test_a_failed_run_is_not_hidden_by_one_with_other_weights(self) -> None:
        theirs = record("vdsr", "set5")
        broken = otherwise(
            replace(theirs, status="error", images=(), error="no memory"), weights_sha256="0" * 64
        )
        assert verdicts(against_reference([theirs, broken], [theirs])) == ["ok"] * 2 + ["FAIL"] * 2

    def test_a_user_s_file_is_held_against_that_of_its_tag_else_against_the_latest(self) -> None:
        a = made("mine", "set5", [30.0] * 2, tag="a", weights="a")
        b = made("mine", "set5", [25.0] * 2, tag="b", weights="b")
        b = replace(b, provenance={"utc": "2026-02-01"})
        for tag, expected in (("a", 30.0), ("b", 25.0), ("c", 25.0)):
            mine = made("mine", "set5", [30.0] * 2, tag=tag, weights="others")
            rows = against_reference([mine], [a, b])
            assert [one.expected for one in rows if one.metric == "psnr"] == [expected]

    def test_a_broken_run_fails_with_its_reason_where_none_finished_later(self) -> None:
        theirs = record("vdsr", "set5")
        broken = replace(theirs, status="error", images=theirs.images[:2], error="no memory")
        rows = against_reference([broken], [theirs])
        assert verdicts(rows) == ["FAIL", "FAIL"]
        assert all(row.violates(require=False) for row in rows)
        assert {row.reason for row in rows} == {"the run failed: no memory"}
        again = otherwise(broken, source_sha256="0" * 64)
        assert verdicts(against_reference([again, theirs], [theirs])) == ["ok", "ok"]
        assert verdicts(against_reference([theirs], [theirs, again])) == ["ok", "ok"]
        later = replace(again, provenance={"utc": "2999-01-01"})
        rows = against_reference([later, theirs], [theirs])
        assert verdicts(rows) == ["FAIL"] * 2 + ["ok"] * 2, "the record of an earlier version stays"

    def test_a_failed_run_fails_where_the_reference_has_no_number_of_it(self) -> None:
        theirs, sound = record("vdsr", "set5"), record("srcnn", "set5")
        broken = replace(sound, status="error", images=(), error="no memory")
        *_, row = against_reference([theirs, broken], [theirs])
        assert (row.model, row.dataset, row.verdict) == ("srcnn", "set5", "FAIL")
        assert row.violates(require=False) and row.reason == "the run failed: no memory"
        assert verdicts(against_reference([theirs, sound], [theirs])) == ["ok", "ok"]

    def test_a_run_is_held_against_its_own_record_then_against_the_same_weights(self) -> None:
        mine = record("edsr-baseline", "set5")
        same = shifted(otherwise(mine, source_sha256="1" * 64), 1)
        later = shifted(otherwise(mine, weights_sha256="2" * 64), 2)
        later = replace(later, provenance={"utc": "2999-01-01"})
        for reference, difference in (
            ([mine, same, later], 0),
            ([same, later], -1),
            ([otherwise(same, weights_sha256="3" * 64), later], -2),
        ):
            row, _ = against_reference([mine], reference)
            assert row.difference == pytest.approx(difference)

    def test_a_failure_says_what_else_is_different(self) -> None:
        theirs = record("bicubic", "set5")
        mine = otherwise(theirs, dataset_sha256="0" * 64, source_sha256="0" * 64)
        row, _ = against_reference([shifted(mine, 1)], [theirs])
        assert row.reason == "other network source, images than the reference's"

    def test_a_perfect_score_equals_itself(self) -> None:
        perfect = shifted(record("bicubic", "set5"), float("inf"))
        assert verdicts(against_reference([perfect], [perfect])) == ["ok", "ok"]


class TestOtherMetrics:
    """Their scale is unknown: a share of their own size is what they may be off by."""

    ERRORS = (4.0, 5.0, 6.0, 7.0, 3.0)

    def row(self, mine: RunRecord, theirs: RunRecord, metric: str = "acme-mae") -> CheckRow:
        (row,) = (one for one in against_reference([mine], [theirs]) if one.metric == metric)
        return row

    @pytest.mark.parametrize("scale", [1e-6, 1, -1, 1e9])
    @pytest.mark.parametrize(
        ("model", "tier", "within", "beyond"),
        [("bicubic", "exact", 2e-5, 3e-5), ("vdsr", "same weights", 1e-3, 1.3e-3)],
    )
    def test_a_metric_of_any_scale_is_compared(self, scale, model, tier, within, beyond) -> None:
        theirs = measured(record(model, "set5"), "acme-mae", [scale * 5] * 5)
        for step, verdict in ((within, "ok"), (beyond, "FAIL"), (9, "FAIL")):
            for sign in (1, -1):
                mine = measured(theirs, "acme-mae", [scale * 5 * (1 + sign * step)] * 5)
                row = self.row(mine, theirs)
                assert (row.tier, row.verdict, row.expected) == (tier, verdict, scale * 5)

    @pytest.mark.parametrize(("dataset", "share"), [("set5", 0.047), ("b100", 0.0115)])
    def test_with_retrained_weights_it_may_be_off_by_more(self, dataset, share) -> None:
        theirs = record("edsr-baseline", dataset)
        theirs = measured(theirs, "acme-mae", [5.0] * len(theirs.images))
        mine = otherwise(theirs, weights_sha256="0" * 64)
        for step, verdict in ((0.95 * share, "ok"), (1.05 * share, "FAIL")):
            mine = measured(mine, "acme-mae", [5.0 * (1 + step)] * len(theirs.images))
            (row,) = (
                one
                for one in against_reference([mine], [theirs], retrained=True)
                if one.metric == "acme-mae"
            )
            assert row.verdict == verdict

    def test_ssim_of_the_whole_image_has_the_tolerance_of_ssim(self) -> None:
        theirs = measured(record("vdsr", "set5"), "ssim-whole", [0.88] * 5)
        for step, verdict in ((0.0004, "ok"), (0.0006, "FAIL")):
            mine = measured(theirs, "ssim-whole", [0.88 + step] * 5)
            assert self.row(mine, theirs, "ssim-whole").verdict == verdict

    def test_what_sums_leave_of_zero_is_zero(self) -> None:
        theirs = measured(record("vdsr", "set5"), "acme-mae", [0.0] * 5)
        assert self.row(theirs, theirs).verdict == "ok"
        near = measured(theirs, "acme-mae", [1e-14] * 5)
        assert self.row(near, theirs).verdict == "ok"
        assert self.row(measured(theirs, "acme-mae", [1e-9] * 5), theirs).verdict == "FAIL"

    def test_scores_that_cancel_out_do_not_narrow_the_tolerance(self) -> None:
        theirs = measured(record("vdsr", "set5"), "acme-bias", [1.0, -1.0, 1.0, -1.0, 1e-6])
        mine = measured(theirs, "acme-bias", [1.0005, -1.0, 1.0, -1.0, 1e-6])
        assert self.row(mine, theirs, "acme-bias").verdict == "ok"

    def test_a_mean_does_not_hide_two_images_that_moved_against_each_other(self) -> None:
        theirs = measured(record("vdsr", "set5"), "acme-mae", self.ERRORS)
        mine = measured(theirs, "acme-mae", (4.5, 4.5, 6.0, 7.0, 3.0))
        row = self.row(mine, theirs)
        assert (row.difference, row.verdict) == (0, "FAIL")
        assert row.image == mine.images[0].image and row.apart == 0.5

    @pytest.mark.parametrize("weights", ["frozen", "retrained"])
    @pytest.mark.parametrize("infinite", [float("inf"), float("-inf")])
    def test_an_image_that_is_infinite_on_one_side_only_fails(self, weights, infinite) -> None:
        """The mean leaves it out, and may look as before."""
        theirs = measured(record("vdsr", "set5"), "acme-mae", [5.0] * 5)
        mine = measured(theirs, "acme-mae", [infinite, *[5.0] * 4])
        if weights == "retrained":
            mine = otherwise(mine, weights_sha256="0" * 64)
        for one, other in ((mine, theirs), (theirs, mine)):
            rows = against_reference([one], [other], retrained=True)
            (row,) = (one for one in rows if one.metric == "acme-mae")
            assert (row.difference, row.verdict) == (0, "FAIL")
            assert row.image == theirs.images[0].image
        assert self.row(mine, mine).verdict == "ok"

    def test_nan_is_never_ok(self) -> None:
        row = CheckRow("m", "d", "acme-mae", 5.0, measured=5.0, tolerance=1.0)
        assert row.verdict == "ok"
        for spoilt in ({"measured": float("nan")}, {"apart": float("nan")}):
            assert replace(row, **spoilt).verdict == "FAIL"  # type: ignore[arg-type]

    def test_a_metric_that_the_run_lacks_fails(self) -> None:
        mine = record("vdsr", "set5")
        theirs = measured(mine, "acme-mae", self.ERRORS)
        row = self.row(mine, theirs)
        assert (row.verdict, row.expected, row.measured) == ("not run", 5, None)
        assert row.violates(require=False)
        assert "--metric acme-mae" in row.reason
        psnr = self.row(mine, theirs, "psnr")
        assert psnr.verdict == "ok"

    def test_a_second_run_of_the_cell_may_have_it(self) -> None:
        mine = record("vdsr", "set5")
        theirs = measured(mine, "acme-mae", self.ERRORS)
        rows = against_reference([mine, theirs], [theirs])
        assert [row.metric for row in rows] == ["psnr", "ssim", "psnr", "ssim", "acme-mae"]
        assert set(verdicts(rows)) == {"ok"}

    def test_a_metric_of_another_reference_run_of_the_cell_was_not_run(self) -> None:
        """The run is held against the one that it repeats, and nothing is wrong with it."""
        mine = record("vdsr", "set5")
        theirs = [measured(mine, "acme-mae", self.ERRORS), mine]
        for run in (mine, otherwise(mine, source_sha256="0" * 64)):
            *held, absent = against_reference([run], theirs)
            assert verdicts(held) == ["ok", "ok"]
            assert (absent.metric, absent.verdict) == ("acme-mae", "not run")
            assert (absent.violates(require=False), absent.violates(require=True)) == (False, True)

    def test_a_metric_is_held_against_a_reference_run_that_has_it(self) -> None:
        theirs = measured(record("vdsr", "set5"), "acme-mae", self.ERRORS)
        later = replace(record("vdsr", "set5"), provenance={"utc": "2999-01-01"})
        mine = otherwise(theirs, source_sha256="0" * 64)
        mine = measured(mine, "acme-mae", [10 * error for error in self.ERRORS])
        rows = against_reference([mine], [later, theirs])
        assert [(row.metric, row.verdict) for row in rows] == [
            ("psnr", "ok"),
            ("ssim", "ok"),
            ("acme-mae", "FAIL"),
        ]

    def test_a_metric_of_the_run_alone_is_not_compared(self) -> None:
        theirs = record("vdsr", "set5")
        mine = measured(theirs, "acme-mae", self.ERRORS)
        assert [row.metric for row in against_reference([mine], [theirs])] == ["psnr", "ssim"]

    def test_a_broken_run_fails_in_each(self) -> None:
        theirs = measured(record("vdsr", "set5"), "acme-mae", self.ERRORS)
        broken = replace(theirs, status="error", images=(), error="no memory")
        assert verdicts(against_reference([broken], [theirs])) == ["FAIL"] * 3

    def test_another_plug_in_of_the_metric_is_named(self) -> None:
        theirs = measured(record("vdsr", "set5"), "acme-mae", self.ERRORS)
        theirs = replace(theirs, plugins={"acme-mae": {"file": "acme.py", "sha256": "0"}})
        mine = replace(theirs, plugins={"acme-mae": {"file": "acme.py", "sha256": "1"}})
        assert "other plug-in of acme-mae than" in self.row(mine, theirs).reason
        assert self.row(mine, theirs, "psnr").reason == ""


def test_one_tolerance_replaces_that_of_every_tier_for_psnr() -> None:
    rows = against_reference([shifted(record("vdsr", "set5"), 0.1, 0.1)], RECORDS)
    wide = with_tolerance(rows, 0.2)
    assert [row.verdict for row in wide if row.tier] == ["ok", "FAIL"]
    assert verdicts(wide).count("not run") == verdicts(rows).count("not run")


class TestTheCommand:
    @pytest.fixture
    def check(self, harness) -> Callable[..., Result]:
        theirs = stored(RECORDS, "theirs")
        Path("mine").mkdir()

        def check(*words: object) -> object:
            return harness("check", "--reference", theirs, "--results", "mine", *words)

        return check

    def test_untouched_records_pass_and_one_altered_by_0_02_db_does_not(self, check) -> None:
        stored(RECORDS)
        sound = check()
        assert sound.exit_code == 0, sound.output
        assert f"{2 * len(RECORDS)} are ok, 0 FAIL" in sound.output
        stored([shifted(record("vdsr", "set14"), 0.02)])
        altered = check()
        assert altered.exit_code == 3
        failing = [line for line in altered.output.splitlines() if "| FAIL" in line]
        assert len(failing) == 1 and "| vdsr" in failing[0] and "+0.0200" in failing[0]
        assert "Error: 1 of " in altered.output
        assert check("--tolerance", 0.03).exit_code == 0

    @pytest.mark.parametrize(
        ("alter", "said"),
        [
            (lambda data: data["means"].update(psnr=28.04), "states means of"),
            (lambda data: data["images"][3].update(psnr=30.0), "states means of"),
            (lambda data: data["identity"].update(tile=8), "its id is not the hash"),
        ],
    )
    def test_a_record_altered_by_hand_fails_and_the_others_are_still_checked(
        self, check, alter, said
    ) -> None:
        folder = stored([record("vdsr", "set14"), record("bicubic", "set14")])
        path = next(folder.rglob("vdsr*.json"))
        data = json.loads(path.read_text())
        alter(data)
        path.write_text(json.dumps(data))
        shown = check("--junit", "check.xml")
        assert shown.exit_code == 3
        assert "2 are ok, 1 FAIL" in shown.output
        (failing,) = (line for line in shown.output.splitlines() if "| FAIL" in line)
        assert failing.startswith("| vdsr") and "| record" in failing and said in failing
        assert ElementTree.parse("check.xml").getroot().get("failures") == "1"

    def test_what_was_not_run_fails_on_request_only(self, check) -> None:
        stored([record("bicubic", "set5")])
        assert check().exit_code == 0
        assert check("--require").exit_code == 3
        assert check("--require", "--models", "bicubic", "--datasets", "set5").exit_code == 0
        assert check("--require", "--models", "bicubic*", "--datasets", "set5").exit_code == 3

    def test_a_check_that_compares_nothing_fails(self, check) -> None:
        def error(*words: object) -> str:
            shown = check(*words)
            assert shown.exit_code == 3
            return shown.stderr.splitlines()[-1]

        assert error().startswith("Error: Nothing was compared: there are no run records in mine;")
        mine = record("vdsr", "set5")
        stored([otherwise(mine, protocol="BI-x4/y+as-rgb")])
        expected = "Error: Nothing was compared: no run record in mine is of these models and sets"
        assert error().startswith(expected)
        stored([replace(mine, status="error", images=(), error="no memory")])
        assert error().startswith("Error: Nothing was compared: the runs failed, ")
        stored([mine])
        assert error("--datasets", "b100").startswith(expected)
        expected_models = listed(
            list(dict.fromkeys(row.model for row in against_reference([], RECORDS)))
        )
        assert error("--models", "bicubik").endswith(
            f"The reference has no numbers of bicubik; it has {expected_models}."
        )
        assert "no numbers of these models on manga109; it has " in error("--datasets", "manga109")
        expected = "Error: Nothing was compared for srcnn: run it, or leave it out."
        assert error("--models", "vdsr,srcnn") == expected
        assert check("--models", "vdsr", "--datasets", "set5").exit_code == 0

    def test_failures_are_printed_and_all_numbers_on_request(self, check) -> None:
        stored([shifted(record("vdsr", "set5"), 0.02), record("bicubic", "set5")])
        rows = [line for line in check().stdout.splitlines() if line.startswith("| ")]
        assert len(rows) == 2 and "FAIL" in rows[1]
        rows = [line for line in check("-v").stdout.splitlines() if line.startswith("| ")]
        assert len(rows) == 1 + 2 * len(RECORDS)
        stored([record("vdsr", "set5")])
        assert check().stdout == (
            f"Of {2 * len(RECORDS)} numbers of the reference, 4 are ok, 0 FAIL, "
            f"{2 * len(RECORDS) - 4} were not run.\n"
        )

    def test_no_reference_is_no_pass(self, harness) -> None:
        for folder in ("mine", "empty"):
            Path(folder).mkdir()
        shown = harness("check", "--results", "mine", "--reference", "empty")
        assert shown.exit_code == 2 and shown.stdout == ""
        assert "name their folder with --reference" in shown.output

    def test_a_damaged_reference_record_fails(self, harness) -> None:
        reference = ResultStore(Path("theirs"))
        path = reference.write(record("bicubic", "set5"))
        path.write_text(path.read_text().replace('"finished"', '"finishen"'))
        Path("mine").mkdir()
        shown = harness("check", "--results", "mine", "--reference", "theirs")
        assert shown.exit_code == 3 and "is not a valid run record" in shown.stdout

    def test_outside_a_checkout_the_reference_is_the_package_s(self, harness) -> None:
        stored([record("srcnn", "set5")], "results/local")
        shown = harness("check", "--models", "srcnn", "--datasets", "set5")
        assert shown.exit_code == 0 and "2 are ok, 0 FAIL, 3 were not run" in shown.output

    def test_junit_has_a_case_for_every_number(self, check) -> None:
        stored([record("bicubic", "set5"), shifted(record("vdsr", "set5"), 0.02)])
        words = ("--datasets", "set5", "--junit", "out/check.xml")
        assert check(*words).exit_code == 3
        suite = ElementTree.parse("out/check.xml").getroot()
        counts = [suite.get(name) for name in ("tests", "failures", "skipped")]
        assert counts == ["10", "1", "6"]
        (case,) = (case for case in suite if case.find("failure") is not None)
        assert case.get("classname") == "reference.set5"
        assert case.get("name") == "vdsr psnr BI-x4/y, weights official"
        assert "difference +0.0200, tolerance 0.005" in str(case.find("failure").get("message"))
        check(*words, "--require")
        suite = ElementTree.parse("out/check.xml").getroot()
        assert (suite.get("failures"), suite.get("skipped")) == ("7", "0")
        assert check("--junit", "mine/x4/set5").exit_code == 1

    def test_json_has_every_number_with_its_verdict(self, check) -> None:
        perfect = shifted(record("bicubic", "set5"), float("inf"))
        stored([perfect])
        shown = check("--json", "--models", "bicubic", "--datasets", "set5")
        psnr, ssim = json.loads(shown.stdout)
        assert (psnr["measured"], psnr["verdict"], ssim["verdict"]) == ("inf", "FAIL", "ok")


class TestPluginMetrics:
    """From the command that computes them to the one that compares them."""

    @pytest.fixture
    def metric(self, harness, photos: Path, tmp_path: Path) -> Callable[..., Result]:
        """Run bicubic with a plug-in's metric that multiplies its number by a factor."""

        def call(factor: str, *words: object) -> Result:
            plugin = tmp_path / "mse.py"
            text = (CASES / "metrics/inplace.py").read_text()
            plugin.write_text(text.replace("float(", f"{factor} * float("))
            run = ("run", "--models", "bicubic", "--datasets", photos, "--plugin", plugin)
            made = harness(*run, "--metric", "mse01", "--metric", "ssim-whole", *words)
            assert made.exit_code == 0, made.output
            return made

        return call

    def test_one_that_is_ten_times_off_fails_and_is_in_every_form(self, harness, metric) -> None:
        metric("1", "--results", "theirs")
        metric("10", "--results", "mine")
        words = ("check", "--reference", "theirs", "--results", "mine")
        shown = harness(*words, "--junit", "check.xml")
        assert shown.exit_code == 3
        assert "3 are ok, 1 FAIL" in shown.output
        (failing,) = (line for line in shown.output.splitlines() if "| FAIL" in line)
        assert "| mse01" in failing
        suite = ElementTree.parse("check.xml").getroot()
        assert (suite.get("tests"), suite.get("failures")) == ("4", "1")
        (case,) = (case for case in suite if case.find("failure") is not None)
        assert str(case.get("name")).startswith("bicubic mse01 ")
        rows = json.loads(harness(*words, "--json").stdout)
        assert [row["metric"] for row in rows] == ["psnr", "ssim", "mse01", "ssim-whole"]
        assert rows[2]["measured"] == pytest.approx(10 * rows[2]["expected"])
        assert [row["verdict"] for row in rows] == ["ok", "ok", "FAIL", "ok"]

    def test_one_that_was_not_run_fails(self, harness, photos: Path, metric) -> None:
        metric("1", "--results", "theirs")
        words = ("check", "--reference", "theirs", "--results", "mine", "--junit", "check.xml")
        harness("run", "--models", "bicubic", "--datasets", photos, "--results", "mine")
        shown = harness(*words)
        assert shown.exit_code == 3
        assert "2 are ok, 0 FAIL" in shown.output and "2 were not run" in shown.output
        assert "2 of them because they were not run" in shown.stderr
        assert "not run: run it again with --metric mse01" in shown.output
        suite = ElementTree.parse("check.xml").getroot()
        assert (suite.get("failures"), suite.get("skipped")) == ("2", "0")
        metric("1", "--results", "mine")
        assert harness(*words).exit_code == 0
        # The other way round there is nothing to compare.
        harness("run", "--models", "bicubic", "--datasets", photos, "--results", "plain")
        assert harness("check", "--reference", "plain", "--results", "theirs").exit_code == 0

    def test_small_numbers_are_legible(self, harness, photos: Path) -> None:
        words = ("--plugin", CASES / "metrics/odd.py", "--metric", "m-small")
        harness("run", "--models", "bicubic", "--datasets", photos, *words, "--results", "mine")
        shown = harness("check", "--reference", "mine", "--results", "mine", "--verbose")
        assert "1.23456e-06" in shown.output


def test_restriction_takes_names_globs_and_all() -> None:
    rows = against_reference([], RECORDS)
    models = {row.model for row in restrict(rows, ["bicubic", "*sr*"], ["all"])}
    assert models == {"bicubic", "srcnn", "vdsr", "edsr-baseline"}


def test_an_image_that_got_worse_shows_beside_one_that_is_made_exactly(
    tmp_path: Path, harness: Callable[..., Result]
) -> None:
    """A flat image has an infinite PSNR, which hides everything in a mean."""
    plugin = tmp_path / "up.py"
    text = (CASES / "plug/up.py").read_text()
    plugin.write_text(text)
    words = ("--datasets", CASES / "flat", "--plugin", plugin)
    first = harness("run", "--models", "up", *words)
    assert "28.2952 (1 infinite)" in first.stdout
    assert harness("accept", "all", "--reference", "reference").exit_code == 0
    plugin.write_text(text.replace('MODE = "bilinear"', 'MODE = "nearest"'))
    assert "27.1494" in harness("run", "--models", "up", *words).stdout
    shown = harness("check", "--reference", "reference")
    assert shown.exit_code == 3
    assert "cat is off by -1.1" in shown.stdout


def test_a_mean_does_not_hide_two_images_that_moved_against_each_other() -> None:
    theirs = record("vdsr", "set5")
    first, second, *others = theirs.images
    moved = [
        replace(image, scores=image.scores | {"psnr": image.scores["psnr"] + step})
        for image, step in ((first, 0.1), (second, -0.1))
    ]
    row = against_reference([replace(theirs, images=(*moved, *others))], [theirs])[0]
    assert row.verdict == "FAIL" and abs(row.difference or 0) < 1e-6
    assert abs(row.apart) == pytest.approx(0.1)
