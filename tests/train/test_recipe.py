import math
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.registry import load_plugins
from harness.train.recipe import named_once, recipe


def test_the_paper_recipe_is_that_of_section_4_1() -> None:
    made = recipe("paper", "drfn")
    assert (made.loss, made.batch, made.patch, made.lr) == ("l1", 16, 48, 1e-4)
    assert (made.beta1, made.beta2, made.eps) == (0.9, 0.99, 1e-8)
    assert made.train_data == ("div2k",)
    rates = [made.rate(step, 0.5) for step in (0, 999_999, 1_000_000, 2_000_000)]
    assert rates == [1e-4, 1e-4, 5e-5, 2.5e-5]


def test_the_short_recipe_rises_and_falls() -> None:
    made = recipe("short", "drfn", steps=1000, lr=1.0, warmup=10)
    assert made.rate(0, 0) == pytest.approx(0.1)
    assert made.rate(500, 0.5) == pytest.approx(0.5)
    assert made.rate(999, 1.0) == pytest.approx(0)


def test_networks_have_what_their_own_papers_do_otherwise() -> None:
    assert (recipe("paper", "vdsr").clip, recipe("paper", "vdsr").loss) == (0.4, "l2")
    assert recipe("paper", "srcnn").train_data == ("t91",)
    assert recipe("paper", "drfn-2conv").steps == recipe("paper", "drfn").steps


def test_networks_without_a_recipe_of_their_own_get_the_generic_one() -> None:
    assert recipe("paper", "msrn") == recipe("generic", "msrn")
    assert recipe("paper", "msrn").name == "generic"


def test_fine_tuning_is_the_short_recipe_at_a_quarter_of_its_rate() -> None:
    fine, short = recipe("finetune", "drfn"), recipe("short", "drfn")
    assert (fine.lr, fine.warmup, fine.schedule) == (short.lr / 4, 100, "cosine")
    assert fine.rate(10_000, 1.0) == pytest.approx(0)


class TestFile:
    def test_it_says_what_differs_from_the_recipe_it_extends(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        path.write_text('extends = "short"\nlr = 1\ntrain_data = ["here"]\nminutes = 2.5')
        made = recipe(str(path), "drfn")
        assert (made.name, made.lr, made.train_data) == ("mine.toml", 1.0, ("here",))
        assert (made.ema, made.steps) == (recipe("short", "drfn").ema, 0)
        assert recipe(str(path), "drfn", batch=3).batch == 3

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("momentun = 1", "mine.toml has no 'momentun'"),
            ("warm_up = 3", "has no 'warm_up': did you mean warmup"),
            ('steps = "many"', "steps = 'many' of .*mine.toml cannot be used: give a whole number"),
            ("steps = 1.5", "give a whole number, 0 or more"),
            ("train_data = [1]", "give at least one set"),
            ('extends = "long"', "extends 'long', but there are only generic, short"),
            ("lr =", "mine.toml cannot be read"),
        ],
    )
    def test_what_it_gets_wrong_is_said(self, tmp_path: Path, line: str, said: str) -> None:
        (tmp_path / "mine.toml").write_text(line)
        with pytest.raises(UsageError, match=said):
            recipe(str(tmp_path / "mine.toml"), "drfn")

    def test_one_that_is_not_there_is_named(self) -> None:
        with pytest.raises(UsageError, match=r"There is no recipe file mine\.toml"):
            recipe("mine.toml", "drfn")


def test_every_value_can_be_changed() -> None:
    changes = named_once({}, ["ema=.5", "steps=7", "loss=l2", "val_data=a,b", "patch=1_0"])
    made = recipe("short", "drfn", **changes, batch=None)
    assert (made.ema, made.steps, made.loss, made.val_data) == (0.5, 7, "l2", ("a", "b"))
    assert made.patch == 10
    assert made.batch == recipe("short", "drfn").batch
    assert made.name == "short"


class TestOneValueOneWay:
    def test_options_and_set_are_one_table(self) -> None:
        options = {"steps": 10, "lr": None, "val_data": "a, b"}
        named = named_once(options, ["lr=2", "train_data=here"])
        assert named == {"steps": 10, "val_data": ("a", "b"), "lr": 2.0, "train_data": ("here",)}

    @pytest.mark.parametrize("sets", [["steps=3"], ["lr=1", "lr=1"]])
    def test_a_value_is_given_once(self, sets: list[str]) -> None:
        with pytest.raises(UsageError, match="is given twice"):
            named_once({"steps": 10}, sets)

    @pytest.mark.parametrize(
        "change",
        [{"minutes": 0.0}, {"steps": 0, "minutes": 0.0}, {"minutes": 0.0, "stop_after": 0.0}],
    )
    def test_no_time_is_not_all_time(self, change: dict[str, float]) -> None:
        with pytest.raises(UsageError, match="of 0 would end training before its first step"):
            recipe("short", "drfn", **change)

    def test_sets_that_are_taken_away_are_not_replaced_by_others(self) -> None:
        with pytest.raises(UsageError, match=r"train_data = \(\) .*: give at least one set"):
            recipe("short", "drfn", train_data=())

    def test_a_length_that_no_schedule_uses_is_refused(self) -> None:
        with pytest.raises(UsageError, match="halve_every is for schedule=halve"):
            recipe("short", "drfn", halve_every=100)
        assert recipe("short", "drfn", halve_every=100, schedule="halve").halve_every == 100

    def test_the_command_line_goes_before_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        path.write_text("steps = 100")
        made = recipe(str(path), "drfn", minutes=5.0)
        assert (made.steps, made.minutes) == (0, 5.0)
        limited = recipe(str(path), "drfn", stop_after=60.0)
        assert (limited.steps, limited.stop_after) == (100, 60.0)


@pytest.mark.parametrize("text", ["steps=many", "speed=3", "name=mine", "ema"])
def test_a_change_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="A recipe has no|cannot be used: give a "):
        named_once({}, [text])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lr": -1.0}, "lr = -1.0 of a recipe cannot be used: give a number above 0"),
        ({"lr": math.inf}, "give a number above 0"),
        ({"eps": math.nan}, "give a number, 0 or more"),
        ({"warmup": -1}, "give a whole number, 0 or more"),
        ({"batch": 0}, "give a whole number from 1 to 65,536"),
        ({"patch": 1 << 17}, "give a whole number from 1 to 65,536"),
        ({"seed": 1 << 32}, "give a whole number from 0 to 4,294,967,295"),
        ({"batch": True}, "batch = True of a recipe cannot be used"),
        ({"schedule": "wild"}, "give cosine or halve"),
        ({"loss": "l7"}, "give l1 or l2"),
        ({"ema": 1.0}, "give a number from 0 to below 1"),
        ({"precision": "fp8"}, "give fp32 or bf16"),
        ({"schedule": "halve", "halve_every": 0}, "schedule=halve needs halve_every"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        recipe("short", "drfn", **change)


def test_whole_numbers_are_numbers() -> None:
    made = asdict(recipe("short", "drfn", lr=1, stop_after=5))
    assert [(made[name], type(made[name])) for name in ("lr", "stop_after")] == [
        (1.0, float),
        (5.0, float),
    ]


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UsageError, match="No recipe is called 'long': there are paper, generic, "):
        recipe("long", "drfn")


def test_a_plugins_own_recipe_is_read_for_its_paper_alone(tmp_path: Path) -> None:
    register = "from harness.registry import register_model\n\n\n"
    card = '@register_model("mine", pipeline="y", input="lr", scales=(4,))\n'
    (tmp_path / "mine.py").write_text(f"{register}{card}def mine(scale=4):\n    return None\n")
    load_plugins([tmp_path / "mine.py"])
    assert recipe("paper", "mine").name == "generic"
    (tmp_path / "recipes.toml").write_text("[mine]\nbatch = 3\n")
    assert (recipe("paper", "mine").name, recipe("paper", "mine").batch) == ("paper.mine", 3)
    (tmp_path / "recipes.toml").write_text("no table")
    assert recipe("short", "mine").name == "short"
    with pytest.raises(UsageError, match=r"recipes\.toml cannot be read"):
        recipe("paper", "mine")
