"""A paper that the harness has never seen, from one plug-in, gets all that the others get."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import save_file

from harness.errors import UsageError
from harness.models.weights import authors_rows
from harness.paper.findings import Findings
from harness.paper.schema import paper
from harness.paper.vocabulary import TESTS
from harness.record import RunRecord
from harness.registry import MODELS, load_plugins
from harness.run.store import ResultStore
from tests.papers import changed
from tests.records import authors_of_tests, frame, record

CASE = Path(__file__).parents[1] / "cases" / "unknown_paper"
PLUGIN = CASE / "plugin.py"


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the plug-in; as for built-in networks, the hash ``official`` is its authors' weights."""
    load_plugins([PLUGIN])
    rows = (authors_of_tests("shuffle"), *authors_rows())
    monkeypatch.setattr("harness.models.weights.authors_rows", lambda: rows)


def found(*records: RunRecord) -> Findings:
    return Findings(frame(*records), paper("shuffle2031"))


def verdicts(findings: Findings) -> dict[str, str]:
    return {one.claim: one.verdict for one in findings.claims}


def bicubic(psnr: float, rules: str = "", **options: object) -> RunRecord:
    scores = {"ssim": 0.8, "whole": 0.8, "weights": None}
    return record("bicubic", "demo", (psnr, psnr), protocol=rules, **(scores | options))


def shuffle(psnr: float, **options: object) -> RunRecord:
    return record("shuffle", "demo", (psnr - 1, psnr + 1), tag="file", **options)


class TestPrint:
    def test_its_tables_scales_and_scores_are_its_own(self) -> None:
        findings = found()
        rows = {(one.row.table.id, one.row.scale, one.row.method) for one in findings.rows}
        assert len(rows) == len(findings.rows) == 11
        assert {scale for table, scale, _ in rows if table == "main"} == {2, 4}
        assert len(findings.cells) == 23 + 4 + 4
        assert {cell.metric for cell in findings.cells} == {"psnr", "ssim", "lpips"}
        sharp = [cell for cell in findings.cells if cell.row.table.id == "sharp"]
        assert [cell.score.as_printed(cell.printed or 0) for cell in sharp] == [
            *("28.9", "0.400", "27.6", "0.350")
        ]

    def test_its_networks_are_those_of_the_plug_in_or_none(self) -> None:
        models = {one.row.method: one.row.model for one in found().rows}
        assert models["Shuffle"] == models["Shuffle+"] == "shuffle" and "shuffle" in MODELS
        assert models["Old et al."] == "" and models["Wide"] not in MODELS

    def test_without_runs_print_and_networks_decide_what_they_can(self) -> None:
        found_ = verdicts(found())
        decided = {claim: one for claim, one in found_.items() if one != "not measured"}
        assert decided == {
            "size": "reproduced",
            # No authors' weights show that the plug-in is their network: what was counted on it
            # refutes nothing.
            **dict.fromkeys(("depth", "frontier"), "undecided"),
            **dict.fromkeys(("better", "layers", "moon"), "inconsistent in print"),
        }
        own = [
            *("main-x2-shuffle", "main-x4-shuffle", "main-x4-shuffle+", "blur-shuffle"),
            "sharp-shuffle",
        ]
        others = [
            *("main-x2-bicubic", "main-x4-bicubic", "main-x4-old-et-al.", "main-x4-shuffle-wide"),
            *("blur-bicubic", "sharp-bicubic"),
        ]
        assert list(found_)[:5] == own, "the subject's rows come first"
        assert [one for one in found_ if one in others] == others

    def test_self_ensemble_makes_no_other_network_and_eight_times_the_work(self) -> None:
        evidence = {one.claim: one.evidence for one in found().claims}
        assert "Shuffle 160" in evidence["frontier"]
        assert "Shuffle+" not in evidence["frontier"]
        assert "Shuffle+ has 8.0 times the multiply-accumulate operations" in evidence["work"]

    def test_what_compares_nothing_or_in_an_unknown_direction_is_refused(
        self, tmp_path: Path
    ) -> None:
        said = "no metric of which more is better is called 'lpips'"
        for test in (
            'rank = "first", table = "sharp", metrics = ["lpips"]',
            'outlier = "demo", against = "Bicubic", table = "sharp", metrics = ["lpips"]',
        ):
            with pytest.raises(UsageError, match=said):
                changed(tmp_path, ('beats = ["Bicubic"]', test), of="shuffle2031")
        alone = 'spread = ["full-range", "as-rgb"], cells = "set14"'
        for test in ("beats = []", 'rank = "first"'):
            with pytest.raises(UsageError, match="MSRN and other methods have no numbers in"):
                changed(tmp_path, (alone, test), of="msrn2018")

    def test_its_claims_use_all_tests_that_there_are(self) -> None:
        used = {type(test) for test in paper("shuffle2031").tests.values() if test}
        assert used == set(TESTS.values())


class TestMeasured:
    def test_what_cannot_be_measured_says_why(self) -> None:
        findings = found(bicubic(27.0, "BI-x3/y", scale=3), bicubic(32.98, "BI-x2/y", scale=2))
        reasons = {
            (cell.row.table.id, cell.dataset, cell.metric): cell.obstacle
            for cell in findings.cells
            if cell.obstacle
        }
        blur = "the harness makes LR images by bicubic (BI), not by BD"
        moon = "the harness has no test set moon9: add it as a plug-in"
        assert reasons == {
            **{("blur", "demo", metric): blur for metric in ("psnr", "ssim")},
            **{("main", "moon9", metric): moon for metric in ("psnr", "ssim")},
            ("sharp", "demo", "lpips"): "the harness has no metric lpips: add it as a plug-in",
        }
        for cell in findings.cells:
            assert not (cell.obstacle and (cell.measured or cell.shown))
            assert cell.verdict == "not measured" if cell.obstacle else True
        evidence = {one.claim: one.evidence for one in findings.claims}
        assert evidence["blur-bicubic"] == f"Not measured: demo ({blur})."
        assert "The paper's file names no network for it" in evidence["main-x4-old-et-al."]
        assert "No model is called 'shuffle-wide'" in evidence["main-x4-shuffle-wide"]

    def test_scales_are_kept_apart(self) -> None:
        findings = found(bicubic(32.98, "BI-x2/y", scale=2, ssim=0.9046))
        assert verdicts(findings)["main-x2-bicubic"] == "reproduced"
        assert verdicts(findings)["main-x4-bicubic"] == "not measured"

    def test_a_wrong_number_is_refuted_once_every_rule_was_tried(self) -> None:
        rules = ["", "BI-x4/y+as-rgb", "BI-x4/y+float-y", "BI-x4/y+as-rgb+float-y"]
        for count, verdict in ((1, "undecided"), (3, "undecided"), (4, "refuted")):
            findings = found(*(bicubic(28.9, one, ssim=0.802) for one in rules[:count]))
            assert verdicts(findings)["main-x4-bicubic"] == verdict

    def test_decimals_in_print_are_the_tolerance_where_they_are_few(self) -> None:
        """27.6 dB is printed: 27.55 at least, with 0.015 dB for other protocols."""
        for psnr, verdict in ((27.536, "reproduced"), (27.534, "undecided")):
            assert verdicts(found(shuffle(psnr)))["sharp-shuffle"] == verdict

    def test_self_ensemble_has_its_own_row(self) -> None:
        plus = shuffle(27.6, ssim=0.759, self_ensemble=True)
        assert verdicts(found(plus))["main-x4-shuffle+"] == "reproduced"
        assert verdicts(found(plus))["main-x4-shuffle"] == "not measured"

    def test_a_comparison_holds_or_fails_with_what_was_measured(self) -> None:
        runs = [shuffle(33.4, scale=2, ssim=0.91), shuffle(27.55, ssim=0.7511)]
        assert verdicts(found(*runs))["close"] == "reproduced"
        low = [runs[0], shuffle(26.0)]
        assert verdicts(found(*low))["close"] == "undecided"

    def test_one_way_to_score_is_followed_or_not(self) -> None:
        def both(full: float, as_rgb: float) -> str:
            runs = bicubic(full), bicubic(as_rgb, "BI-x4/y+as-rgb")
            return verdicts(found(*runs))["one-rule"]

        assert both(28.9, 30.57) == "inconsistent in print", "two tables, two ways"
        assert both(28.9, 29.5) == "undecided", "30.57 follows neither"

    def test_only_its_own_measurable_numbers_follow_a_way(self, tmp_path: Path) -> None:
        def spread(cells: str, *runs: RunRecord) -> str:
            other = changed(tmp_path, ('cells = "Bicubic"', f'cells = "{cells}"'), of="shuffle2031")
            return verdicts(Findings(frame(*runs), other))["one-rule"]

        rules = ("BI-x4/y", "BI-x4/y+as-rgb")
        for ensemble, verdict in ((False, "not measured"), (True, "undecided")):
            runs = [
                record("shuffle", "demo", (27.6,), protocol=one, self_ensemble=ensemble)
                for one in rules
            ]
            assert spread("Shuffle+", *runs) == verdict
        assert spread("Bicubic", *(bicubic(math.inf, one) for one in rules)) == "not measured"
        blurred = (bicubic(27.0, f"BI-x3/y{one}", scale=3) for one in ("", "+as-rgb"))
        assert spread("Bicubic", *blurred) == "not measured"

    def test_a_lineage_is_no_way_to_score_but_the_network_of_its_name(self, tmp_path: Path) -> None:
        ways = ('spread = ["full-range", "as-rgb"]', 'spread = ["vdsr", "edsr"]')
        other = changed(tmp_path, ways, of="shuffle2031")
        as_vdsr_and_edsr = bicubic(28.9), bicubic(29.5, "BI-x4/y+as-rgb")
        assert verdicts(Findings(frame(*as_vdsr_and_edsr), other))["one-rule"] == "not measured"

    def test_what_has_not_learned_is_told_by_a_table_of_the_same_lr_images(
        self, tmp_path: Path
    ) -> None:
        runs = (shuffle(29.5), shuffle(29.4, hyper={"side": 1}))
        assert verdicts(found(*runs))["kernel-size"] == "undecided", "below 30.57 dB"
        main = 'title = "Table III"'
        other = changed(tmp_path, (main, f'{main}\ndegradation = "BD"'), of="shuffle2031")
        assert verdicts(Findings(frame(*runs), other))["kernel-size"] == "reproduced"

    def test_other_weights_reach_no_score_of_which_less_may_be_better(self) -> None:
        def cell(lpips: float) -> str | None:
            run = shuffle(27.6)
            images = (replace(one, scores=one.scores | {"lpips": lpips}) for one in run.images)
            identity = replace(run.identity, metrics=("psnr", "ssim", "lpips"))
            cells = found(replace(run, identity=identity, images=tuple(images))).cells
            return next(one.verdict for one in cells if one.printed == 0.35)

        assert cell(0.35) == "reproduced" and cell(0.6) == "undecided"

    def test_an_ablation_is_measured(self) -> None:
        def kernels(three: float, one: float) -> Findings:
            return found(shuffle(three), shuffle(one, hyper={"side": 1}))

        assert verdicts(kernels(30.7, 30.6))["kernel-size"] == "reproduced"
        assert verdicts(kernels(30.7, 30.8))["kernel-size"] == "undecided"
        below_bicubic = kernels(27.55, 27.4)
        assert verdicts(below_bicubic)["kernel-size"] == "undecided"
        (ablation,) = below_bicubic.ablations
        assert ablation.verdicts == {"three": "reproduced", "one": "undecided"}

    def test_a_test_that_fails_costs_only_its_claim(self) -> None:
        evidence = {one.claim: one.evidence for one in found().claims}
        assert evidence["failing"] == "The test plugin:fails failed: ValueError: no reason."
        assert evidence["absent"].startswith("No judge is called 'math:sqrt': ")

    def test_two_claims_about_a_pair_are_one_difference(self) -> None:
        findings = found()
        (main, *_) = findings.tables
        places = [
            (one.scale, one.dataset, frozenset((one.better, one.worse)))
            for one in findings.differences(main)
        ]
        assert len(places) == len(set(places)) == 7


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real runs on skimage's images: a convolution that copies pixels, and bicubic."""
    folder = tmp_path_factory.mktemp("unknown")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}

    def run(models: str, scale: int, *options: str) -> None:
        kernel = np.zeros((scale**2, 1, 3, 3), np.float32)
        kernel[:, 0, 1, 1] = 1
        weights = folder / f"shuffle-x{scale}.safetensors"
        bias = np.zeros(scale**2, np.float32)
        save_file({"conv.weight": kernel, "conv.bias": bias}, weights)
        words = ["run", "--models", models, "--datasets", "demo", "--scale", str(scale)]
        words += ["--plugin", str(PLUGIN), "--results", "results", *options]
        words += ["--weights", f"shuffle={weights}"] if "shuffle" in models else []
        command = [sys.executable, "-m", "harness", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    run("bicubic,shuffle", 2)
    run("bicubic,shuffle", 4)
    run("shuffle", 4, "--self-ensemble")
    run("bicubic", 4, "--all-rules")
    return folder / "results"


@pytest.fixture
def asked(harness: Callable[..., Result], measured: Path) -> Callable[..., Result]:
    """Ask the command line about the paper."""
    shutil.copytree(measured, "results")

    def ask(verb: str, *words: str) -> Result:
        options = ["--paper", "shuffle2031", "--plugin", PLUGIN, "--results", "results"]
        return harness(verb, *words, *options)

    return ask


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestCommandLine:
    def test_it_is_listed_with_its_plug_in(self, harness) -> None:
        shown = harness("list", "papers", "--json", "--plugin", PLUGIN)
        (row,) = [one for one in json.loads(shown.stdout) if one["name"] == "shuffle2031"]
        assert row["quoted_claims"] == 16

    def test_its_file_alone_will_do(self, asked, harness) -> None:
        words = ("--results", "results", "--format", "json", "--plugin", PLUGIN)
        alone = harness("claims", "--paper", CASE / "paper.toml", *words)
        assert json.loads(alone.stdout) == json.loads(asked("claims", "--format", "json").stdout)

    def test_its_claims_are_judged(self, asked) -> None:
        shown = asked("claims", "--format", "json")
        assert shown.exit_code == 0, shown.output
        found_ = {one["claim"]: one["verdict"] for one in json.loads(shown.stdout)}
        expected: dict[str, set[str]] = {}
        for claim, verdict in found_.items():
            expected.setdefault(verdict, set()).add(claim)
        assert expected == {
            "reproduced": {
                *("size", "close", "work", "main-x2-bicubic", "main-x4-shuffle"),
                *("sharp-bicubic", "sharp-shuffle"),
            },
            "refuted": {"main-x4-bicubic"},
            "inconsistent in print": {"better", "layers", "moon"},
            "undecided": {"depth", "frontier", "one-rule", "main-x2-shuffle", "main-x4-shuffle+"},
            "not measured": {
                *("smaller", "upper-half", "same", "kernel-size", "failing", "absent", "beauty"),
                *("main-x4-old-et-al.", "main-x4-shuffle-wide", "blur-bicubic", "blur-shuffle"),
            },
        }

    def test_its_numbers_are_checked(self, asked) -> None:
        shown = asked("check", "--against", "paper")
        assert shown.exit_code == 3, "30.57 dB is wrong"
        assert re.search("bicubic.*30.57", shown.output)

    def test_all_reports_are_about_it(self, asked) -> None:
        shown = asked("report", "all", "--out", "reports")
        assert shown.exit_code == 0, shown.output
        stems = {path.stem for path in Path("reports").iterdir()}
        by_table = {f"{one}-{name}" for one in ("rules", "differences") for name in TABLES}
        by_table -= {"rules-blur"}  # of which nothing was measured
        assert stems - by_table == {*(*TABLES, "kernel", "sizes", "claims", "complexity", "page")}
        assert by_table <= stems
        for path in Path("reports").glob("*.md"):
            if path.stem != "complexity":  # which counts all networks that there are
                assert not re.search("DRFN|Set14|Table 2|Figure 5", path.read_text()), path.name

        main = {
            (r["model"], r["scale"], r["dataset"], r["metric"]): r
            for r in table("reports/main.csv")
        }
        assert main["shuffle", "2", "demo", "psnr"]["printed"] == "33.4"
        assert float(main["shuffle", "2", "demo", "psnr"]["measured"]) == pytest.approx(
            32.936, abs=0.002
        )
        assert float(main["bicubic", "4", "demo", "psnr"]["difference"]) == pytest.approx(
            -1.655, abs=0.002
        )
        assert "no test set moon9" in main["shuffle", "4", "moon9", "psnr"]["status"]

        assert main["bicubic", "4", "demo", "psnr"]["verdict"] == "refuted"
        assert {row["verdict"] for row in table("reports/blur.csv")} == {"not measured"}
        assert "rules-blur" not in stems
        kernel = {row["variant"]: row for row in table("reports/kernel.csv")}
        assert kernel["three"]["verdict"] == "reproduced" and not kernel["one"]["measured"]

    def test_its_plot_has_the_printed_and_the_measured_points(self, asked) -> None:
        from harness.report.plot import points

        findings = Findings(ResultStore(Path("results")).read().table(), paper("shuffle2031"))
        (plot,) = findings.paper.plots if findings.paper else ()
        drawn = {(one.method, one.kind): one for one in points(findings, plot)}
        assert {name: (one.parameters, round(one.psnr, 2)) for name, one in drawn.items()} == {
            ("Wide", "printed"): (5_000, 28.0),
            ("Shuffle", "printed"): (160, 27.55),
            ("Shuffle†", "measured"): (160, 27.55),
        }

    def test_its_page_shows_each_verdict_once(self, asked) -> None:
        assert asked("report", "page", "--out", "reports").exit_code == 0
        page = Path("reports/page.html").read_text(encoding="utf-8")
        assert "Pixels from channels" in page and "Table III" in page
        for claim in paper("shuffle2031").claims:
            assert claim.quote in page.replace("&#39;", "'")


TABLES = ("main", "blur", "sharp")
