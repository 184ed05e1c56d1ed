"""What the README says is true."""

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


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


def test_every_command_it_names_exists(harness) -> None:
    for words in re.findall(r"(?m)(?:^|`|&& )harness ((?:[a-z]+[ -]?){1,2})", README):
        names = words.split()
        while names and harness(*names, "--help").exit_code != 0:
            names.pop()
        assert names, f"harness {words}"


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


def test_the_numbers_it_shows_are_those_of_the_report() -> None:
    def rows(text: str) -> list[list[str]]:
        lines = [line for line in text.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    reported = [row[:6] for row in rows((ROOT / "reports/table2.md").read_text())]
    shown = [row for row in rows(README) if len(row) == 6 and "/" in row[-1]]
    assert len(shown) >= 9
    assert all(row in reported for row in shown)
