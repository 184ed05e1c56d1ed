"""What the TOML says is what is printed, and what it adds follows from that."""

import re

import pytest
from torch import nn

from harness.paper.schema import Doubt, paper
from harness.registry import MODELS, PAPERS

PAPER_FILE = PAPERS.get("drfn2020")
PAPER = paper("drfn2020")
(TABLE,) = PAPER.tables
ROWS = {row.method: row for row in PAPER.rows}
CELLS = {
    (method, name): (row.printed[name, "psnr"], row.printed[name, "ssim"])
    for method, row in ROWS.items()
    for name in row.sets
}


class TestTable2:
    def test_it_is_whole(self) -> None:
        # Counted and added up from the printed page.
        assert len(CELLS) == 58
        assert sum(psnr for psnr, _ in CELLS.values()) == pytest.approx(1636.61, abs=1e-6)
        assert sum(ssim for _, ssim in CELLS.values()) == pytest.approx(45.7405, abs=1e-6)

    def test_every_cell_is_a_psnr_and_an_ssim(self) -> None:
        assert sum(len(row.printed) for row in PAPER.rows) == 2 * len(CELLS)
        odd = [
            key for key, (psnr, ssim) in CELLS.items() if not (22 < psnr < 33 and 0.6 < ssim < 0.92)
        ]
        assert odd == [("VDSR", "b100")]

    def test_numbers_have_as_many_decimals_as_are_printed(self) -> None:
        assert TABLE.scores == {"psnr": 2, "ssim": 4}
        printed = re.findall(r"[\d.]+", re.sub(r"x4 \| \w+", "", TABLE.cells))
        assert len(printed) == 2 * len(CELLS)
        assert {len(number.partition(".")[2]) for number in printed[::2]} == {2}
        assert {len(number.partition(".")[2]) for number in printed[1::2]} == {4}

    def test_each_row_is_of_another_network_at_x4_and_the_last_of_the_paper_s_own(self) -> None:
        assert len(ROWS) == len(PAPER.rows) == 12 and {row.scale for row in PAPER.rows} == {4}
        assert {name: row.model for name, row in ROWS.items()} == PAPER.methods
        assert len(PAPER.names) == 12 and set(PAPER.names) <= set(MODELS)
        assert PAPER.rows[-1].method == PAPER.subject == "DRFN"

    def test_the_harness_can_measure_all_of_it(self) -> None:
        assert TABLE.obstacle(4) == ""


class TestTable1:
    (ABLATION,) = PAPER.ablations

    def test_it_is_as_printed(self) -> None:
        assert self.ABLATION.psnr == (27.56, 27.76, 27.70, 27.79)
        assert self.ABLATION.printed == {"none": 27.56, "ff": 27.76, "lsc": 27.70, "both": 27.79}
        assert (self.ABLATION.set, self.ABLATION.scale) == ("set14", 4)

    def test_its_readings_give_each_column_another_variant(self) -> None:
        assert len(set(self.ABLATION.readings)) == 2
        for reading in self.ABLATION.readings:
            assert sorted(reading) == ["both", "ff", "lsc", "none"]
            assert (reading[0], reading[-1]) == ("none", "both")

    def test_its_variants_are_those_that_are_trained(self) -> None:
        assert self.ABLATION.arguments("both") == {}
        lacking = {"ff": "long_short_connections", "lsc": "feature_fusion"}
        for name, part in lacking.items():
            made = self.ABLATION.arguments(name)
            assert [key for key, value in made.items() if not value] == [part]
        assert len(self.ABLATION.arguments("none")) == 2
        assert not any(self.ABLATION.arguments("none").values())

    def test_the_network_takes_these_arguments(self) -> None:
        card = MODELS.get(self.ABLATION.model)
        for variant in self.ABLATION.variants:
            card.build(scale=4, groups=1, blocks=1, **self.ABLATION.arguments(variant))


def test_figure_5_has_the_psnr_of_table_2_and_the_counts_of_the_networks() -> None:
    (plot,) = PAPER.plots
    assert plot.parameters == {"DRFN": 5_200_000, "RDN": 22_000_000}
    for method, printed in plot.parameters.items():
        assert MODELS.get(PAPER.methods[method]).params == pytest.approx(printed, rel=0.03)
    points = [row for row in PAPER.rows if (plot.set, "psnr") in row.printed]
    assert len(points) == 12 and {row.scale for row in points} == {plot.scale}
    counted = {row.method: MODELS.get(row.model).params for row in points}
    assert [name for name, count in counted.items() if not count] == ["Bicubic"]
    # DCSR's count is that of a reading of its paper.
    assert plot.readings == ("DCSR",)
    known = {"SRCNN": 57_281, "FSRCNN": 12_644, "VDSR": 665_921, "LapSRN": 814_242}
    known |= {"MemNet": 677_000, "EDSR": 43_089_923, "SRMDNF": 1_552_048, "MSRN": 6_078_000}
    assert {name: counted[name] for name in known} == pytest.approx(known, rel=0.03)
    assert counted.keys() == known.keys() | plot.parameters.keys() | {"Bicubic", "DCSR"}


def test_numbers_of_the_text_stand_in_their_quotations() -> None:
    written = {"srcnn_layers": "three", "epsilon": "10e-8", "learning_rate": "10e-4"}
    for name, number in PAPER.numbers.items():
        for value in number.value if isinstance(number.value, tuple) else (number.value,):
            forms = {written.get(name), f"{value:g}", f"{value / 1e6:g}M"}
            if name == "figures_by_caption":  # that two figures have it is no quotation
                assert f"Fig.{value:g}" in number.where
                continue
            assert any(form and form in number.quote for form in forms), name


class TestDoubts:
    def of(self, metric: str) -> set[tuple[str, str]]:
        """The method and set of each number of a metric that is doubted."""
        return {(method, name) for *_, method, name, one in PAPER.doubted if one == metric}

    def test_each_is_of_one_printed_number_and_has_a_reason(self) -> None:
        assert len(PAPER.doubted) == len(PAPER.doubts) == 15
        assert all(doubt.reason.endswith(".") for doubt in PAPER.doubts)

    def test_one_by_measurement_says_what_was_measured(self) -> None:
        by_measurement = [doubt for doubt in PAPER.doubts if doubt.seen == "measurement"]
        assert len(by_measurement) == 8
        for doubt in by_measurement:
            assert re.match(r"The authors' weights give \d", doubt.reason)

    def test_an_ssim_far_below_that_of_a_worse_psnr_is_among_them(self) -> None:
        far_below = {
            (method, name)
            for (method, name), (psnr, ssim) in CELLS.items()
            for (_, other_name), (other_psnr, other_ssim) in CELLS.items()
            if other_name == name and psnr - other_psnr > 0.1 and ssim < other_ssim
        }
        assert far_below and far_below <= self.of("ssim")

    def test_a_method_far_above_its_rank_elsewhere_is_among_them(self) -> None:
        far_above = {
            (method, name)
            for (method, name), (psnr, _) in CELLS.items()
            if method not in ("EDSR", "RDN")
            and psnr > CELLS.get(("EDSR", name), (float("inf"), 0))[0]
        }
        assert far_above and far_above <= self.of("psnr")

    def test_three_rows_print_three_digits_of_ssim_and_vdsr_lost_one(self) -> None:
        for method in ("FSRCNN", "VDSR", "LapSRN"):
            ssims = [ssim for (row, _), (_, ssim) in CELLS.items() if row == method]
            assert [f"{ssim:.4f}"[-1] for ssim in ssims if ssim != 0.0726] == ["0"] * (
                4 if method == "VDSR" else 5
            )

    def test_a_doubt_of_a_whole_cell_is_of_all_its_scores(self, tmp_path) -> None:
        text = PAPER_FILE.read_text().replace('"VDSR | b100 | ssim"', '"VDSR | b100"')
        (tmp_path / "other.toml").write_text(text)
        doubted = paper(str(tmp_path / "other.toml")).doubted
        assert len(doubted) == 16
        for metric in ("psnr", "ssim"):
            assert isinstance(doubted["table2", 4, "VDSR", "b100", metric], Doubt)


class TestAmbiguities:
    def test_each_has_two_readings_and_says_where_it_stands(self) -> None:
        keys = [one.key for one in PAPER.ambiguities]
        assert {"residual-block", "block-order", "tail", "channel-attention"} <= set(keys)
        assert all(one.where and one.quote and one.evidence for one in PAPER.ambiguities)
        assert all(one.question.endswith("?") for one in PAPER.ambiguities)

    def test_the_readings_with_a_network_can_be_built(self) -> None:
        models = [of.model for one in PAPER.ambiguities for of in one.readings if of.model]
        assert set(models) == {"drfn", "drfn-2conv"}
        for one in PAPER.ambiguities:
            for of in one.readings:
                assert isinstance(MODELS.get(of.model or "drfn").build(**of.arguments), nn.Module)

    def test_the_counts_of_networks_that_cannot_be_built_are_right(self) -> None:
        network = MODELS.get("drfn").build()
        deep, upscale = network.body.deep, network.body.upscale
        whole, fusion, attention = map(count, (network, deep.fusions[0], deep.fusions[0].attention))
        attentions = [m for m in network.modules() if type(m) is type(deep.fusions[0].attention)]
        without_fusion = whole - 16 * fusion + attention
        one_step = nn.Conv2d(64, 64 * 4**2, 3)
        biases = sum(p.numel() for name, p in network.named_parameters() if name.endswith("bias"))
        expected = {
            "block-order": [whole],
            "group-skip": [whole],
            "tail": [whole - count(deep.tail)],
            "fusion": [
                without_fusion + count(nn.Conv2d(64, 64, 1)),
                without_fusion + count(nn.Conv2d(16 * 64, 64, 1)),
            ],
            "first-fusion": [whole - fusion],
            "channel-attention": [whole],
            "spatial-attention": [
                whole + len(attentions) * (count(nn.Conv2d(64, 1, 7)) - attention)
            ],
            "upsampler": [whole - count(upscale) + count(one_step)],
            "biases": [whole - biases],
            "table1-connections": [whole],
        }
        typed = {
            one.key: [of.parameters for of in one.others if of.parameters]
            for one in PAPER.ambiguities
        }
        assert {key: counts for key, counts in typed.items() if counts} == expected

    def test_evidence_that_names_a_count_rounds_it_rightly(self) -> None:
        for one in PAPER.ambiguities:
            counts = {f"{of.parameters / 1e6:.1f}M" for of in one.others if of.parameters}
            said = set(re.findall(r"\d\.\dM", one.evidence)) - {"5.2M"}
            assert said <= counts, one.key
            if "Both counts are 5.2M" in one.evidence:
                assert counts == {"5.2M"}, one.key


def count(module: nn.Module) -> int:
    """Trainable values."""
    return sum(parameter.numel() for parameter in module.parameters())


class TestClaims:
    def test_each_is_quoted_once_and_judged(self) -> None:
        assert len(PAPER.claims) == 22
        assert len({claim.key for claim in PAPER.claims}) == 22
        assert len({(claim.where, claim.quote) for claim in PAPER.claims}) == 22
        by_hand = [claim.key for claim in PAPER.claims if PAPER.tests[claim.key] is None]
        assert by_hand == ["training-time", "upscaling", "visual-quality"]

    def test_every_number_in_a_quotation_of_a_table_is_printed_there(self) -> None:
        for claim in PAPER.claims:
            if claim.where in ("Table 1", "Table 2"):
                printed = TABLE.cells if claim.where == "Table 2" else str(PAPER.ablations[0].psnr)
                numbers = re.findall(r"\d+\.\d+", claim.quote)
                assert numbers and all(number.strip("0") in printed for number in numbers)
