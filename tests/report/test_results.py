import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness import baselines
from harness.errors import HarnessError
from harness.paper.schema import paper
from harness.paper.select import choose_runs
from harness.registry import MODELS, REPORTS
from harness.report.results import results, rules
from harness.report.table import Table
from tests.records import frame as of_records
from tests.records import record

WEIGHTS = Path(baselines.__file__).parent / "weights"
SETS = ["set5", "set14", "b100", "urban100", "manga109"]


def run(model: str, dataset: str, psnr: float, **fields: object) -> dict[str, object]:
    plain = {
        "id": f"{model}-{dataset}-{psnr}",
        "model": model,
        "dataset": dataset,
        "scale": 4,
        "protocol": "BI-x4/y",
        "self_ensemble": False,
        "tile": None,
        "hyper": {},
        "tag": "official",
        "weights_file_sha256": "abc",
        "status": "finished",
        "verified": True,
        "psnr": psnr,
        "ssim": 0.8,
        "time": "2026-01-01",
        "record": record(model, dataset, tag=str(fields.get("tag", "official"))),
    }
    return plain | fields


def frame(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(rows)


def cell(table: Table, model: str, dataset: str, metric: str = "psnr") -> dict[str, object]:
    tidy = table.tidy
    (row,) = tidy[
        (tidy.model == model) & (tidy.dataset == dataset) & (tidy.metric == metric)
    ].to_dict("records")
    return row


class TestThePaper:
    def test_it_has_every_row_and_column_of_table_2(self) -> None:
        rows = paper()["table2"]["rows"]
        assert [row["method"] for row in rows] == [
            "Bicubic",
            "SRCNN",
            "FSRCNN",
            "VDSR",
            "LapSRN",
            "MemNet",
            "EDSR",
            "SRMDNF",
            "RDN",
            "DCSR",
            "MSRN",
            "DRFN",
        ]
        for row in rows:
            assert [name for name in SETS if name not in row] == (
                ["manga109"] if row["method"] in ("EDSR", "DCSR") else []
            )

    def test_it_keeps_the_typographical_errors(self) -> None:
        rows = {row["model"]: row for row in paper()["table2"]["rows"]}
        assert rows["vdsr"]["b100"] == [27.29, 0.0726]
        assert rows["drfn"]["set5"] == [32.16, 0.8936]


def test_a_measured_cell_stands_between_what_is_printed_and_the_difference() -> None:
    table = results(frame(run("srcnn", "set5", 30.4888, ssim=0.86281)), paper())
    at = [row[0] for row in table.rows].index("SRCNN")
    printed, measured, difference = (table.rows[at + i] for i in range(3))
    assert printed[:4] == ["SRCNN", "y", "printed", "30.48/0.8628"]
    assert measured[2:5] == ["measured", "30.489/0.8628", "missing"]
    assert difference[2:5] == ["difference", "+0.009/+0.0000", ""]
    assert cell(table, "srcnn", "set5")["difference"] == pytest.approx(0.0088)


def test_missing_cells_are_shown_as_missing() -> None:
    table = results(frame(run("srcnn", "set5", 30.0)), paper())
    assert sum(row.count("missing") for row in table.rows) == 12 * 5 - 1
    assert cell(table, "drfn", "set5")["run"] == "missing"
    assert "1 of 58 printed cells are measured" in table.caption


def test_a_run_that_broke_is_shown_as_failed_where_none_is_finished() -> None:
    broken = replace(record("vdsr", "set5"), status="error", images=(), error="no memory")
    runs = of_records(broken, record("srcnn", "set5"))
    table = results(runs, paper())
    at = [row[0] for row in table.rows].index("VDSR")
    assert table.rows[at + 1][3:5] == ["failed", "missing"]
    assert cell(table, "vdsr", "set5")["status"] == "failed"
    assert cell(table, "vdsr", "set5")["run"] == broken.identity.id
    assert "1 of 58 printed cells are measured, the runs of 1 failed." in table.caption
    done = of_records(broken, record("vdsr", "set5", weights="others"))
    assert cell(results(done, paper()), "vdsr", "set5")["status"] == "measured"


def test_runs_that_all_broke_are_no_table() -> None:
    broken = replace(record("vdsr", "set5"), status="error", images=())
    with pytest.raises(HarnessError, match="no finished runs"):
        results(of_records(broken), paper())


def test_other_weights_than_the_authors_are_marked_and_their_training_is_told() -> None:
    notes = json.loads((WEIGHTS / "drfn-x4.repro.json").read_text())
    own = record("drfn", "set5", tag="repro", weights=notes["tensors_sha256"])
    table = results(of_records(own, record("srcnn", "set5")), paper())
    measured = [row[3] for row in table.rows[1::3]]
    assert [text.endswith("†") for text in measured if text != "missing"] == [False, True]
    for words in (
        "2 of 58 printed cells are measured, 1 of them with other weights than the authors' (†).",
        f"cannot refute one: DRFN with {notes['steps']:,} steps of 8 patches",
    ):
        assert words in table.caption
    assert str(cell(table, "drfn", "set5")["training"]).startswith(f"{notes['steps']:,} steps")
    assert cell(table, "srcnn", "set5")["training"] == ""
    assert "†" not in results(of_records(record("srcnn", "set5")), paper()).caption


def test_a_network_the_paper_does_not_know_gets_a_row() -> None:
    table = results(frame(run("mine", "set5", 31.5, protocol="BI-x4/rgb")), paper())
    assert table.rows[-3] == ["mine", "rgb", "printed", *["-/-"] * 5]
    assert table.rows[-2][:4] == ["", "", "measured", "31.500/0.8000"]


def test_the_caption_names_pipelines_grey_rule_and_what_is_unverified() -> None:
    caption = results(frame(run("srcnn", "set5", 30.0, verified=False)), paper()).caption
    for words in (
        "Pipeline y",
        "pipeline rgb",
        "Grey images: full-range in pipeline y",
        "published pixels: set5",
    ):
        assert words in caption


def test_a_stand_in_does_not_fill_the_row_of_the_larger_network() -> None:
    table = results(frame(run("edsr-baseline", "set5", 32.0, protocol="BI-x4/rgb")), paper())
    assert cell(table, "edsr", "set5")["run"] == "missing"
    assert "edsr has no weights here; edsr-baseline, in a row of its own" in table.caption
    both = frame(run("edsr-baseline", "set5", 32.0), run("edsr", "set5", 32.4))
    assert "no weights" not in results(both, paper()).caption


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "BI-x4/y+as-rgb"},
        {"protocol": "BI-x4/y+symmetric"},
        {"self_ensemble": True},
        {"tile": 64},
        {"hyper": {"width": 32}},
        {"protocol": "BI-x2/y"},
    ],
)
def test_runs_under_other_rules_do_not_fill_a_cell(other: dict[str, object]) -> None:
    runs = frame(run("srcnn", "set5", 30.0), run("srcnn", "set5", 99.0, **other))
    assert choose_runs(runs, 4, None)["srcnn", "set5"]["psnr"] == 30.0


def test_the_other_grey_rule_is_a_table_of_its_own() -> None:
    runs = frame(
        run("srcnn", "set14", 27.5), run("srcnn", "set14", 27.6, protocol="BI-x4/y+as-rgb")
    )
    table = results(runs, paper(), "as-rgb")
    assert cell(table, "srcnn", "set14")["measured"] == 27.6
    assert "Grey images: as-rgb (" in table.caption


def test_official_weights_come_first_then_the_latest_run() -> None:
    runs = frame(
        run("drfn", "set5", 1.0, tag="file", time="2026-03-01"),
        run("drfn", "set5", 2.0, tag="repro", time="2026-01-01"),
        run("drfn", "set5", 3.0, tag="repro", time="2026-02-01"),
    )
    assert choose_runs(runs, 4, None)["drfn", "set5"]["psnr"] == 3.0
    official = pd.concat([runs, frame(run("drfn", "set5", 4.0, time="2025-01-01"))])
    assert choose_runs(official, 4, None)["drfn", "set5"]["psnr"] == 4.0


def test_of_weights_trained_here_those_that_saw_most_count() -> None:
    notes = json.loads((WEIGHTS / "drfn-x4.repro.json").read_text())
    long = record("drfn", "set5", tag="repro", weights=notes["tensors_sha256"])
    runs = frame(
        run("drfn", "set5", 1.0, tag="repro", time="2026-01-01", record=long),
        run("drfn", "set5", 2.0, tag="repro", time="2026-02-01"),
    )
    assert choose_runs(runs, 4, None)["drfn", "set5"]["psnr"] == 1.0


def test_every_model_of_the_paper_that_is_registered_has_its_pipeline() -> None:
    assert "table2" in REPORTS
    assert MODELS.get("vdsr").pipeline == "y" and MODELS.get("rdn").pipeline == "rgb"


def made(*records) -> Table:
    return rules(of_records(*records), paper())


def agreement(table: Table) -> dict[str, str]:
    """The rules under which each metric of the one cell agrees."""
    return {row[2]: row[5] for row in table.rows}


def test_a_number_that_only_one_rule_gives_names_it() -> None:
    plain = record("lapsrn", psnr=(28.085, 28.085), ssim=0.7688)
    grey = record("lapsrn", psnr=(28.181, 28.181), ssim=0.7703, protocol="BI-x4/y+as-rgb")
    found = agreement(made(plain, grey))
    # The printed values are 28.19 and 0.7720.
    assert found == {"PSNR": "pipeline y, grey images as-rgb", "SSIM": "none"}


def test_both_pipelines_of_bicubic_speak_for_its_row() -> None:
    y = record("bicubic", psnr=(26.003, 26.003), ssim=0.7010)
    rgb = record("bicubic-rgb", psnr=(25.997, 25.997), ssim=0.7029, protocol="BI-x4/rgb")
    found = agreement(made(y, rgb))
    assert found == {"PSNR": "pipeline y; pipeline rgb", "SSIM": "pipeline rgb"}


def test_lr_images_that_are_not_rounded_are_a_rule_of_their_own() -> None:
    full = "BI-x4/rgb+full-range"
    rounded = record("srmdnf", psnr=(28.30, 28.30), ssim=0.7769, protocol=full)
    double = record("srmdnf", psnr=(28.36, 28.36), ssim=0.7773, protocol=f"{full}+float-lr")
    assert agreement(made(rounded, double))["PSNR"] == "pipeline rgb, LR images not rounded"


def test_without_a_measured_number_the_table_is_empty_and_says_so() -> None:
    table = made(record("mine"))
    assert list(table.rows) == [] and "0 of 0 agree" in table.caption


def test_a_model_with_rgb_in_its_name_is_no_evidence_for_another() -> None:
    stranger = record("srcnn-rgb", psnr=(27.50, 27.50), ssim=0.7513, protocol="BI-x4/rgb")
    assert made(stranger).rows == []
