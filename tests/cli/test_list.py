"""The listing of runs: as a table, as JSON, and as a CSV that pandas reads."""

import json
import math
import re
from dataclasses import replace
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path

import pandas as pd
import pytest

from harness.cards import MetricCard
from harness.cli.list import RUN_COLUMNS, brief_runs
from harness.cli.run import summary
from harness.paper.findings import Findings
from harness.paper.schema import paper
from harness.record import RunRecord
from harness.registry import _COLUMNS, METRICS
from harness.report.build import make
from harness.report.crops import Pictures
from harness.run.store import ResultStore, _row
from tests.records import record, with_metric

CASES = Path(__file__).parents[1] / "cases/metrics"
SMALL = 1.2345678901234567e-06
PSNR = [0.1 + 0.2, 27.123456789012345]


RECORDS = (
    record("plain", "0801", PSNR, images="own"),
    with_metric(record("scored", "0801", PSNR, images="own"), "mae", [SMALL, 3 * SMALL]),
    record("perfect", "set5", [math.inf, 30.5], self_ensemble=True, hyper={"width": 64}),
    replace(record("broken", "set5", [math.inf]), status="error", error="=out of memory"),
)


@pytest.fixture
def results() -> Path:
    """A folder of runs with different metrics: one has an infinite score, one failed."""
    store = ResultStore(Path("results/local"))
    for run in RECORDS:
        store.write(run)
    return store.root


def read(harness, *words: object) -> pd.DataFrame:
    shown = harness("list", "runs", "--csv", *words)
    assert shown.exit_code == 0, shown.output
    return pd.read_csv(StringIO(shown.stdout))


def by_id(table: pd.DataFrame, run: RunRecord) -> pd.DataFrame:
    return table[table["id"] == run.identity.id]


def test_every_mean_is_in_a_row_of_its_own_with_all_its_digits(harness, results: Path) -> None:
    table = read(harness)
    assert list(table.columns) == [*RUN_COLUMNS, "metric", "value", "infinite"]
    for run in RECORDS[:3]:
        rows = by_id(table, run)
        assert dict(zip(rows["metric"], rows["value"], strict=True)) == run.means
    assert by_id(table, RECORDS[2])["infinite"].tolist() == [1, 0]
    assert by_id(table, RECORDS[3])["infinite"].tolist() == [0, 0]
    assert table["self_ensemble"].dtype == table["verified"].dtype == bool
    assert json.loads(by_id(table, RECORDS[2])["hyper"].iloc[0]) == {"width": 64}


def test_every_score_of_an_image_is_in_a_row_of_its_own(harness, results: Path) -> None:
    table = read(harness, "--images")
    assert list(table.columns) == [*RUN_COLUMNS, "image", "metric", "value"]
    for run in RECORDS[:3]:
        scores = {
            (f"{run.identity.dataset}/{image.image}", name): value
            for image in run.images
            for name, value in image.scores.items()
        }
        rows = by_id(table, run)
        assert dict(zip(zip(rows["image"], rows["metric"]), rows["value"])) == scores  # noqa: B905


@pytest.mark.parametrize("words", [(), ("--images",)])
def test_a_run_that_broke_has_its_status_and_no_value(harness, results: Path, words) -> None:
    rows = by_id(read(harness, *words), RECORDS[3])
    assert rows["metric"].tolist() == ["psnr", "ssim"] and rows["value"].isna().all()
    assert set(rows["status"]) == {"error"} and set(rows["error"]) == {"'=out of memory"}


def test_an_id_whose_first_digits_are_a_number_is_text(harness) -> None:
    """``12345678e123`` would be read as a number."""
    runs = (record("m", weights=f"{number}") for number in count())
    run = next(run for run in runs if re.match(r"\d{4,}e\d+[a-f]", run.identity.id))
    assert re.match(r"\d+e\d", run.identity.id)
    ResultStore(Path("results/local")).write(run)
    assert set(read(harness)["id"]) == {run.identity.id}


def test_without_records_the_csv_is_its_header(harness) -> None:
    for words, score in (
        ((), ["metric", "value", "infinite"]),
        (("--images",), ["image", "metric", "value"]),
    ):
        table = read(harness, *words)
        assert table.empty and list(table.columns) == [*RUN_COLUMNS, *score]


def test_a_damaged_record_is_left_out_of_the_csv_and_named_elsewhere(
    harness, results: Path
) -> None:
    path = ResultStore(results).path(RECORDS[0].identity)
    path.write_text("{")
    shown = harness("list", "runs", "--csv")
    assert str(path) in shown.stderr and str(path) not in shown.stdout
    rows = json.loads(harness("list", "runs", "--json").stdout)
    (damaged,) = (row for row in rows if row["status"] == "damaged")
    assert damaged["error"] == str(path) and damaged["psnr"] is None


def test_json_has_the_facts_in_their_types(harness, results: Path) -> None:
    rows = {row["model"]: row for row in json.loads(harness("list", "runs", "--json").stdout)}
    assert rows["scored"]["mae"] == RECORDS[1].means["mae"] and rows["plain"]["mae"] is None
    perfect, broken = rows["perfect"], rows["broken"]
    assert (perfect["psnr"], perfect["self_ensemble"], perfect["tile"]) == (30.5, True, None)
    assert perfect["hyper"] == {"width": 64} and perfect["id"] == RECORDS[2].identity.id
    assert (broken["status"], broken["psnr"], broken["weights"]) == ("error", None, "official")


def test_a_terminal_shows_small_scores_and_leaves_missing_ones_empty(
    harness, results: Path
) -> None:
    lines = harness("list", "runs").stdout.splitlines()
    head = re.findall(r"\S+", lines[0])
    assert head[7:] == ["status", "psnr", "ssim", "mae", "utc", "error"]
    lines = {line.split()[1]: line for line in lines[2:]}
    assert " 13.7117  0.8000  2.46914e-06  2026" in lines["scored"]
    assert re.search(r" 13\.7117  0\.8000 {5,}2026", lines["plain"])
    assert "self-ensemble" in lines["perfect"] and RECORDS[2].identity.id[:12] in lines["perfect"]
    assert "2.46914e-06" in summary(RECORDS).splitlines()[3]


def test_a_table_of_runs_has_a_column_for_every_metric(results: Path) -> None:
    METRICS.add("unseen", MetricCard("unseen", lambda sr, hr: 0.0), "here")
    runs = ResultStore(results).read().table()
    assert runs["mae"].notna().tolist() == [
        run.identity.model == "scored" for run in runs["record"]
    ]
    assert runs["unseen"].isna().all()
    assert "unseen" in ResultStore(Path("none")).read().table()


@pytest.mark.parametrize("name", ["results", "plot", "differences"])
def test_reports_take_runs_with_different_metrics(results: Path, name: str) -> None:
    findings = Findings(ResultStore(results).read().table(), paper("drfn2020"))
    (report,) = make(name, findings, Pictures(Path("none")))
    assert report.formats and all(report.render(form) for form in report.formats)
    assert make("rules", findings, Pictures(Path("none"))) == []  # the paper prints none of them


def test_a_score_hides_no_fact_whatever_a_record_calls_it() -> None:
    run = with_metric(record("m"), "model", [1.0, 2.0])
    assert _row(run)["model"] == "m"


def test_a_terminal_shows_the_beginning_of_a_long_error() -> None:
    long, short = brief_runs([{"error": "Memory runs out " * 40}, {"error": "too small"}], {})
    assert len(str(long["error"])) <= 60 and str(long["error"]).startswith("Memory runs out Mem")
    assert short["error"] == "too small"


def test_no_metric_is_called_like_a_column() -> None:
    (listed,) = brief_runs([{}], {})
    columns = _row(record("m")).keys() | set(RUN_COLUMNS) | listed.keys()
    columns |= {"image", "note", "rank", "seen"}
    assert set(_COLUMNS.split()) == columns - {"psnr", "ssim"}


def test_what_does_not_go_together_is_said(harness) -> None:
    for words in (
        ("runs", "--csv", "--json"),
        ("runs", "--images"),
        ("models", "--csv", "--images"),
    ):
        shown = harness("list", *words)
        assert shown.exit_code == 2 and shown.output.count("\n") == 1


def test_other_lists_are_csv_too(harness) -> None:
    table = pd.read_csv(StringIO(harness("list", "models", "--csv").stdout)).set_index("model")
    assert table.loc["drfn", "parameters"] == 5_207_203
    assert json.loads(table.loc["drfn", "scales"]) == [2, 3, 4]


def test_the_list_of_metrics_says_what_each_is_computed_on_and_where_it_is_from(harness) -> None:
    plugins = [CASES / name for name in ("colour.py", "kept.py")]
    words = [word for path in plugins for word in ("--plugin", path)]
    rows = json.loads(harness("list", "metrics", "--json", *words).stdout)
    assert [(row["metric"], row["on"], row["from"]) for row in rows] == [
        *((name, "y", "harness.protocol.metrics") for name in ("psnr", "ssim", "ssim-whole")),
        ("mae-rgb", "rgb", str(plugins[0])),
        *((name, "y", str(plugins[1])) for name in ("mae-kept", "mae")),
    ]
    METRICS.add("rooted", MetricCard("rooted", partial(math.pow, 0.5)), "here")
    rows = json.loads(harness("list", "metrics", "--json").stdout)
    about = {row["metric"]: row["about"] for row in rows}
    assert about["ssim"] == "Compute the structural similarity, at most 1."
    assert about["rooted"] == "Return x**y (x to the power of y)."
    assert about["mae-rgb"].endswith("blue three times.") and about["mae"] is None
