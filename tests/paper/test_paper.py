"""What the TOML says is what is printed, and what it adds follows from that."""

import pytest

from harness.paper.claims import JUDGES
from harness.paper.schema import paper, variant_arguments
from harness.registry import MODELS

TABLE2 = {row["model"]: row for row in paper()["table2"]["rows"]}
CELLS = {
    (model, name): row[name]
    for model, row in TABLE2.items()
    for name in row
    if name not in ("model", "method")
}


def test_table_2_is_whole() -> None:
    # Counted and added up from the printed page.
    assert len(CELLS) == 58
    assert sum(psnr for psnr, _ in CELLS.values()) == pytest.approx(1636.61, abs=1e-6)
    assert sum(ssim for _, ssim in CELLS.values()) == pytest.approx(45.7405, abs=1e-6)


def test_every_cell_is_a_psnr_and_an_ssim() -> None:
    odd = [key for key, (psnr, ssim) in CELLS.items() if not (22 < psnr < 33 and 0.6 < ssim < 0.92)]
    assert odd == [("vdsr", "b100")]


def test_numbers_have_as_many_decimals_as_are_printed() -> None:
    for psnr, ssim in CELLS.values():
        assert round(psnr, 2) == psnr and round(ssim, 4) == ssim


class TestTable1:
    TABLE = paper()["table1"]

    def test_it_is_as_printed(self) -> None:
        assert self.TABLE["psnr"] == [27.56, 27.76, 27.70, 27.79]
        assert sum(self.TABLE["ticks_in_the_text"]["feature_fusion"]) == 1
        assert sum(self.TABLE["ticks_in_the_text"]["long_short_connections"]) == 3

    def test_its_readings_give_each_column_another_variant(self) -> None:
        for reading in self.TABLE["readings"]:
            assert sorted(reading["variants"]) == ["both", "ff", "lsc", "none"]

    def test_its_variants_are_those_that_are_trained(self) -> None:
        assert variant_arguments("drfn", "both") == {}
        lacking = {"ff": "long_short_connections", "lsc": "feature_fusion"}
        for name, part in lacking.items():
            made = variant_arguments("drfn", name)
            assert [key for key, value in made.items() if not value] == [part]
        assert not any(variant_arguments("drfn", "none").values())


def test_figure_5_has_the_psnr_of_table_2_and_the_counts_of_the_networks() -> None:
    points = {point["model"]: point for point in paper()["figure5"]["points"]}
    assert {name for name, point in points.items() if point["parameters_printed"]} == {
        "drfn",
        "rdn",
    }
    assert {name: point["psnr"] for name, point in points.items()} == {
        name: TABLE2[name]["set14"][0] for name in points
    }
    drawn = {
        name: point["parameters"]
        for name, point in points.items()
        if name in MODELS and not point["parameters_printed"]
    }
    assert len(drawn) >= 5
    assert {name: MODELS.get(name).params for name in drawn} == pytest.approx(drawn, rel=0.03)


def test_numbers_of_the_text_stand_in_their_quotations() -> None:
    written = {"srcnn_layers": "three", "epsilon": "10e-8", "learning_rate": "10e-4"}
    for name, number in paper()["numbers"].items():
        value = number["value"]
        forms = {written.get(name), f"{value:g}", f"{value / 1e6:g}M"}
        assert any(form and form in number["quote"] for form in forms), name


def test_ambiguities_have_one_default_among_their_readings() -> None:
    ambiguities = paper()["ambiguities"]
    assert len({one["key"] for one in ambiguities}) == len(ambiguities)
    for one in ambiguities:
        assert len(one["readings"]) > 1 and one["default"] in one["readings"], one["key"]
        assert one["evidence"].endswith(".")


class TestSuspiciousCells:
    CELLS = paper()["suspicious"]

    def test_they_are_as_printed(self) -> None:
        for cell in self.CELLS:
            place = ("psnr", "ssim").index(cell["metric"])
            assert TABLE2[cell["row"]][cell["column"]][place] == cell["printed"]
            assert cell["table"] == "table2" and cell["reason"].endswith(".")
            assert cell["seen"] in ("print", "measurement", "unusual")
        by_measurement = [cell for cell in self.CELLS if cell["seen"] == "measurement"]
        assert by_measurement and all("measured" in cell for cell in by_measurement)

    def test_an_ssim_far_below_that_of_a_worse_psnr_is_among_them(self) -> None:
        doubted = {(one["row"], one["column"]) for one in self.CELLS if one["metric"] == "ssim"}
        far_below = {
            (model, name)
            for (model, name), (psnr, ssim) in CELLS.items()
            for (_, other_name), (other_psnr, other_ssim) in CELLS.items()
            if other_name == name and psnr - other_psnr > 0.1 and ssim < other_ssim
        }
        assert far_below and far_below <= doubted

    def test_a_method_far_above_its_rank_elsewhere_is_among_them(self) -> None:
        doubted = {(one["row"], one["column"]) for one in self.CELLS if one["metric"] == "psnr"}
        edsr = TABLE2["edsr"]
        far_above = {
            (model, name)
            for (model, name), (psnr, _) in CELLS.items()
            if model not in ("edsr", "rdn") and name in edsr and psnr > edsr[name][0]
        }
        assert far_above and far_above <= doubted

    def test_three_rows_print_three_digits_of_ssim_and_vdsr_lost_one(self) -> None:
        for model in ("fsrcnn", "vdsr", "lapsrn"):
            ssims = [ssim for (row, _), (_, ssim) in CELLS.items() if row == model]
            assert [f"{ssim:.4f}"[-1] for ssim in ssims if ssim != 0.0726] == ["0"] * (
                4 if model == "vdsr" else 5
            )


def test_every_claim_is_quoted_once_and_judged() -> None:
    judged = [claim["key"] for claim in paper()["claims"] if "by_hand" not in claim]
    assert judged == list(JUDGES)
