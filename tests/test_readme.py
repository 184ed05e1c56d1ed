"""What the README says is true, and the commands of all documents can be typed."""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image

from harness.cards import LINEAGES
from harness.cli import main
from harness.errors import UsageError
from harness.paper.schema import paper
from harness.paper.select import speaks_for_the_authors
from harness.protocol.rules import Protocol
from harness.registry import DATASETS, MODELS, Registry
from harness.report.build import selected
from harness.report.legend import MARKS
from harness.run.store import ResultStore
from tests.commands import in_blocks, in_text, parse, verbs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_plugin_it_shows_keeps_the_contract(harness, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    shown = harness("check-model", "mine", "--plugin", tmp_path / "mine.py")
    assert shown.exit_code == 0, shown.output
    assert "FAIL" not in shown.output


def test_the_metric_that_the_docs_show_runs(harness, photos: Path, tmp_path: Path) -> None:
    found = re.findall(r"```python\n(.*?)```", (ROOT / "docs/records.md").read_text(), re.DOTALL)
    (code,) = (one for one in found if "register_metric" in one)
    (tmp_path / "mae.py").write_text(code)
    words = ("--plugin", tmp_path / "mae.py", "--metric", "mae")
    shown = harness("run", "--models", "bicubic", "--datasets", photos, *words)
    assert shown.exit_code == 0, shown.output


def named(given: Mapping[str, Any]) -> Iterator[tuple[Registry[Any], str]]:
    """The models and sets that a command selects by name, each with its registry."""
    for words, registry in ((given.get("models"), MODELS), (given.get("datasets"), DATASETS)):
        for word in words if isinstance(words, list | tuple) else (words or "").split(","):
            name = word.partition("=")[0]
            if name and "/" not in name:  # a checkpoint
                yield registry, name
    if "model" in given:
        yield MODELS, given["model"]


def check_names(context: click.Context) -> None:
    """Fail if a command selects a model, a set or a report that does not exist.

    Words in capitals stand for any name, ``mine`` for the user's own network, and ``method`` for
    one without a network.
    """
    given = context.params
    for registry, name in named(given):
        if not (name.strip("[].").isupper() or name == "..." or given.get("plugins")):
            assert name in ("mine", "method") or registry.select(name), name
    # A plug-in's report, as a plug-in's network, is not loaded here.
    if context.command_path == "harness report" and given["name"] != "all" and not given["plugins"]:
        assert given["name"] == "[NAME]" or selected(given["name"], paper("drfn2020"))


@pytest.fixture
def folders() -> None:
    """The folders from which the commands read."""
    for folder in ("results/local", "results/reference", "my/reference", "pictures", "DIR"):
        Path(folder).mkdir(parents=True)


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
class TestCommands:
    def test_those_of_its_code_blocks_parse_to_the_last_word(self, path: Path) -> None:
        for words in in_blocks(path.read_text()):
            check_names(parse(words))

    def test_those_in_its_text_are_part_of_one(self, path: Path) -> None:
        for _, *words in (one for one in in_text(path.read_text()) if one[0] == "harness"):
            try:
                context = parse(words)
            except (click.MissingParameter, click.BadOptionUsage):  # a text may be brief
                continue
            check_names(context)

    def test_the_options_in_its_text_are_those_of_a_verb(self, path: Path) -> None:
        for words in in_text(path.read_text()):
            if words[0].startswith("--") and words[0] not in FOREIGN:
                assert any(takes(verb, words) for verb in verbs()), words


FOREIGN = {"--name", "--moments"}
"""Options of dask and of the benchmarks."""


def takes(verb: Sequence[str], words: Sequence[str]) -> bool:
    """Whether a verb has these options and takes their values, whatever else it needs."""
    try:
        parse([*verb, *words])
    except (click.MissingParameter, click.BadOptionUsage):
        return True
    except (click.ClickException, UsageError):
        return False
    return True


@pytest.mark.usefixtures("folders")
def test_the_options_in_the_table_of_commands_are_those_of_its_verb() -> None:
    document = (ROOT / "docs/commands.md").read_text()
    rows = re.findall(r"(?m)^\| `harness (\S+)[^`]*` \| (.*)$", document)
    assert {verb for verb, _ in rows} == set(main.commands)
    for verb, text in rows:
        for words in in_text(text):
            if words[0].startswith("--"):
                assert takes([verb], words), (verb, words)


@pytest.mark.parametrize(
    "wrong",
    [
        "data verfy",
        "run --models drfn --dataset set5",
        "run --models drfn --grey blue",
        "run --models dfrn",
        "run --models drfn --datasets set6",
        "train drfn finetune",
        "report tabel2",
    ],
)
def test_a_command_that_is_wrong_would_be_seen(wrong: str) -> None:
    text = f"```bash\nharness list && python -m harness {wrong} > here  # so\n```"
    listed, words = in_blocks(text)
    assert listed == ["list"] and words == wrong.split()
    assert list(in_text(f"`harness {wrong}`")) == [["harness", *words]]
    with pytest.raises((click.UsageError, UsageError, AssertionError)):
        check_names(parse(words))


def test_every_dependency_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [one for some in project["optional-dependencies"].values() for one in some]
    names = {re.split(r"[\[<>=]", one)[0].lower() for one in project["dependencies"] + extras}
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    lowered = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    assert names - lowered.keys() == {"drfn-harness"}
    assert lowered["torch"] == "2.13.0"


def content(path: Path) -> bytes:
    """A file's bytes, with the pixels of PNGs: their compression depends on the processor."""
    stored = path.read_bytes()
    if path.suffix == ".png":
        return pixels(stored)
    inside = rb"data:image/png;base64,([\w+/=]+)"
    return re.sub(inside, lambda found: pixels(b64decode(found[1])), stored)


def pixels(png: bytes) -> bytes:
    with Image.open(BytesIO(png)) as image:
        return repr((image.mode, image.size)).encode() + image.tobytes()


def test_the_committed_reports_are_what_the_committed_records_give(harness, tmp_path: Path) -> None:
    reports = ROOT / "reports"
    words = ("--results", ROOT / "results/reference", "--out", tmp_path / "new")
    for chosen in ((), ("table2", "--grey", "as-rgb")):
        shown = harness("report", *chosen, *words)
        assert shown.exit_code == 0, shown.output
    made = {path.name: content(path) for path in (tmp_path / "new").iterdir()}
    assert made == {name: content(reports / name) for name in made}


def rows(text: str) -> list[list[str]]:
    """The cells of all Markdown tables of a document."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = (re.split(r"(?<!\\)\|", line.strip("|")) for line in lines)
    return [[cell.strip() for cell in row] for row in cells]


class TestDocumentOfTheRules:
    """The scores in docs/protocol.md are those of the paper and of the records."""

    ROWS = rows((ROOT / "docs/protocol.md").read_text())
    PAPER = paper("drfn2020")

    @pytest.fixture
    def measured(self) -> Callable[[str, str, str], str]:
        records = ResultStore(ROOT / "results/reference").records()
        means = {
            (one.identity.model, one.identity.dataset, one.identity.protocol): one.means
            for one in records
            if speaks_for_the_authors(one)
        }

        def score(model: str, dataset: str, rules: str) -> str:
            found = means[model, dataset, rules]
            return f"{found['psnr']:.3f}/{found['ssim']:.4f}"

        return score

    def test_under_both_grey_rules(self, measured) -> None:
        (begin,) = (k for k, row in enumerate(self.ROWS) if row[0] == "Set14, x4")
        shown = self.ROWS[begin + 2 : begin + 8]
        assert [row[0] for row in shown][::5] == ["Bicubic", "SRMDNF"]
        cells = {row.method: row.printed for row in self.PAPER.rows}
        for method, pipeline, printed, *scores in shown:
            model, pipeline = self.PAPER.methods[method], pipeline.strip("`")
            assert MODELS.get(model).pipeline == pipeline
            psnr, ssim = (cells[method]["set14", metric] for metric in ("psnr", "ssim"))
            assert printed == f"{psnr:.2f}/{ssim:.4f}"
            assert scores == [
                measured(model, "set14", Protocol(pipeline, grey=grey).name)
                for grey in ("full-range", "as-rgb")
            ]

    def test_of_each_choice(self, measured) -> None:
        choices = {
            "pipeline `rgb` in place of `y`": ("bicubic-rgb", "BI-x4/rgb"),
            "`--float-lr`: LR images in double (`rgb`)": ("srmdnf", "BI-x4/rgb+float-lr"),
            "`--float-y`: luma in double (`y`)": ("vdsr", "BI-x4/y+float-y"),
            "`--grey as-rgb` (`y`)": ("vdsr", "BI-x4/y+as-rgb"),
        }
        shown = [row for row in self.ROWS if row[0] in choices]
        assert [row[0] for row in shown] == list(choices)
        for choice, method, dataset, default, score in shown:
            model = self.PAPER.methods[method]
            usual = Protocol(MODELS.get(model).pipeline).name
            other, rules = choices[choice]
            assert default == measured(model, dataset.lower(), usual)
            assert score == measured(other, dataset.lower(), rules)

    @pytest.mark.real_data
    def test_of_the_border(self, harness, measured) -> None:
        ((_, method, dataset, default, score),) = (
            row for row in self.ROWS if row[0] == "`--border symmetric`"
        )
        model, dataset = self.PAPER.methods[method], dataset.lower()
        harness("run", "--models", model, "--datasets", dataset, "--border", "symmetric")
        (record,) = ResultStore(Path("results/local")).records()
        assert score == f"{record.means['psnr']:.3f}/{record.means['ssim']:.4f}"
        assert default == measured(model, dataset, "BI-x4/y")

    def test_of_the_lineages(self) -> None:
        shown = {row[0].strip("`"): row[1:4] for row in self.ROWS if row[0].strip("`") in LINEAGES}
        assert shown == {
            name: [f"`{one.pipeline}`", f"`{one.grey}`", f"`{one.border}`"]
            for name, one in LINEAGES.items()
        }


def test_the_numbers_to_reproduce_are_those_of_the_report() -> None:
    # The document shows neither scales nor the marks of verdicts.
    report = re.sub(f" [{''.join(MARKS.values())}]", "", (ROOT / "reports/table2.md").read_text())
    reported = [[row[0], *row[2:8]] for row in rows(report)]
    document = (ROOT / "docs/reproduce.md").read_text()
    shown = [row for row in rows(document) if len(row) == 7 and "/" in row[-1]]
    assert len(shown) >= 9
    assert all(row in reported for row in shown)
