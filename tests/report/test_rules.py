"""Which rule gives a printed number is seen from what was measured under each."""

from harness.paper.schema import paper
from harness.report.forms import Table
from harness.report.rules import rules
from tests.records import frame, record


def made(*records) -> Table:
    return rules(frame(*records), paper())


def agreement(table: Table) -> dict[str, str]:
    """What each metric of the one cell agrees under."""
    return {row[2]: row[5] for row in table.rows}


def test_a_number_that_only_one_rule_gives_names_it() -> None:
    plain = record("lapsrn", psnr=(28.085, 28.085), ssim=0.7688)
    grey = record("lapsrn", psnr=(28.181, 28.181), ssim=0.7703, protocol="BI-x4/y+as-rgb")
    found = agreement(made(plain, grey))
    # Printed are 28.19 and 0.7720.
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
