from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness.data import pinned
from tests.hostile import files
from tests.hostile.case import Case, nothing
from tests.hostile.plugins import LIST
from tests.hostile.records import AGAIN
from tests.hostile.weights import WITH

VALUES = {"val_images": "0", "steps": "1", "batch": "1", "patch": "8"}


def train(*changes: str) -> str:
    """Train for one step with other values of the recipe."""
    values = VALUES | dict(change.split("=") for change in changes)
    sets = [f"--set {name}={value}" for name, value in values.items()]
    return " ".join(["train srcnn --train-data ./good --device cpu", *sets])


def setting(**variables: str) -> Callable[[], None]:
    """Set environment variables; the test resets them."""
    return partial(os.environ.update, variables)


def recipe(change: str, said: str) -> Case:
    return Case(f"recipe: {change}", nothing, train(change), 2, said)


CASES = [
    recipe("batch=two", "batch = 'two' of a recipe cannot be used: give a whole number from 1 to"),
    recipe("batch=1e3", "give a whole number from 1 to"),
    recipe("lr=fast", "lr = 'fast' of a recipe cannot be used: give a number above 0"),
    recipe("lr=nan", "give a number above 0"),
    recipe("lr=inf", "give a number above 0"),
    recipe("minutes=-1", "give a number, 0 or more"),
    recipe("clip=-1", "give a number, 0 or more"),
    recipe("val_images=-1", "give a whole number, 0 or more"),
    recipe("batch=1000000000000", "give a whole number from 1 to 65,536"),
    recipe("beta2=1", "give a number from 0 to below 1"),
    recipe(f"seed={10**30}", "give a whole number from 0 to 4,294,967,295"),
    recipe("name=x", "A recipe has no 'name'"),
    recipe("=", "A recipe has no ''"),
    Case("recipe: log never", nothing, f"{train()} --log-every 0", 2, "0 is not in the range"),
    Case("recipe: by a path", nothing, f"{train()} --recipe ../x", 2, "No recipe is called"),
]

HERE = "data where"
LONG = "x" * 5000
CASES += [
    Case(
        "data root: a file",
        setting(HARNESS_DATA="/etc/passwd"),
        HERE,
        0,
        "/etc/passwd  (not there)",
    ),
    Case("data root: nowhere", setting(HARNESS_DATA="/nowhere"), HERE, 0, "/nowhere  (not there)"),
    Case("data root: no name", setting(HARNESS_DATA=":::"), HERE, 0, "Searched in this order"),
    Case("data root: too long", setting(HARNESS_DATA=LONG), HERE, 0, "x  (not there)"),
    Case("data root: not in UTF-8", setting(HARNESS_DATA="/\udcff"), HERE, 0, "(not there)"),
    Case(
        "data root: a broken set",
        lambda: (Path("root/Set5").mkdir(parents=True), setting(HARNESS_DATA="root")()),
        HERE,
        0,
        "broken: Set5: there are no images",
    ),
    Case(
        "data root: ten thousand",
        setting(HARNESS_DATA=":".join(f"/{i}" for i in range(10_000))),
        "run --models bicubic --datasets set5,./good",
        0,
        "Skipped: Set5 is not on this machine",
    ),
    Case(
        "weights root: too long",
        setting(HARNESS_WEIGHTS=LONG),
        "list weights",
        0,
        "which is no folder",
    ),
    Case("cache: a file", setting(XDG_CACHE_HOME="/etc/passwd"), train(), 1, "cannot be written"),
    Case("world size: a word", setting(WORLD_SIZE="two"), train(), 2, "WORLD_SIZE is 'two'"),
    Case("world size: alone", setting(WORLD_SIZE="2"), train(), 1, "start them with torchrun"),
]

CASES += [
    Case("word: weights elsewhere", nothing, f"{WITH}../../x", 2, "There is no weights file ../"),
    Case(
        "word: tag that is a path",
        nothing,
        "run --models srcnn:../../x --datasets ./good",
        2,
        "There is no file srcnn:../../x",
    ),
    Case(
        "word: tag given as a path",
        partial(files.arrays),
        "weights import srcnn w.safetensors --tag ../x",
        2,
        "A tag has letters",
    ),
    Case("word: model that is a path", nothing, "run --models ../x", 2, "There is no file ../x"),
    Case("word: set above", nothing, "run --models bicubic --datasets ..", 2, "is called '..'"),
    Case(
        "word: set not there", nothing, "run --models bicubic --datasets ../x", 2, "no folder ../x"
    ),
    Case("word: set too long", nothing, f"run --models bicubic --datasets {LONG}", 2, "No dataset"),
    Case(
        "word: path too long",
        nothing,
        f"run --models bicubic --datasets {'x/' * 3000}",
        2,
        "There is no folder",
    ),
    Case(
        "word: set not in UTF-8",
        lambda: Path("\udcff").mkdir(),
        "run --models bicubic --datasets ./\udcff",
        2,
        "no name that can be printed",
    ),
    Case(
        "word: results in a device", nothing, f"{AGAIN} --results /dev/null/x", 1, "cannot be writ"
    ),
    Case(
        "word: device that holds nothing", nothing, f"{AGAIN} --device meta", 2, "no device 'meta'"
    ),
    Case("word: run that is a path", nothing, "explain ../../etc/passwd", 2, "is no id of a run"),
    Case("word: no images", nothing, "explain /etc/passwd /etc/passwd", 1, "cannot identify"),
    Case("word: set to fetch", nothing, "data fetch ../x", 2, "There is no folder ../x"),
]


def pins(old: str, new: str) -> Callable[[], None]:
    """Damage the lists of pinned files; the current folder replaces the package's."""

    def make() -> None:
        folder = Path(str(pinned.__file__)).parent / "pins"
        text = (folder / "testsets.csv").read_text()
        assert re.search(old, text)
        Path("pins").mkdir()
        Path("pins/testsets.csv").write_text(re.sub(old, new, text, count=1))
        Path("pins/demo.csv").write_text((folder / "demo.csv").read_text())
        pinned.files = lambda package: Path()  # type: ignore[assignment]

    return make


DAMAGED = "Line 2 of the pinned list testsets.csv is damaged"
CASES += [
    Case("pins: path that climbs out", pins("data/Set5/", "data/../../"), LIST, 1, DAMAGED),
    Case("pins: path from the root", pins("data/Set5/", "/data/"), LIST, 1, DAMAGED),
    Case("pins: hash of another length", pins("ac41483d2caa", ""), LIST, 1, "(sha256)"),
    Case("pins: size that is a word", pins("371264", "many"), LIST, 1, "(bytes)"),
    Case(
        "pins: address of another host", pins("jbhuang0604", "evil.com/@"), LIST, 1, "(repository)"
    ),
    Case("pins: a cell too many", pins("371264", "371264,1"), LIST, 1, DAMAGED),
    *(
        Case(f"results: a long name, {words}", nothing, f"{words} {'x' * 300}", 2, "too long")
        for words in ("list runs --results", "claims --results", "check --reference")
    ),
]
