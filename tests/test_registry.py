import json
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.paper.schema import paper
from harness.registry import (
    CHANGES,
    FAILURES,
    METRICS,
    MODELS,
    PAPERS,
    Registry,
    clashes,
    function_of_plugin,
    load_plugins,
)

CASES = Path(__file__).parent / "cases/strangers"
ROOT = Path(__file__).parents[1]

PLUGIN = """
from harness.registry import register_dataset, register_metric, register_model
from torch import nn


@register_model("half", pipeline="y", input="bicubic", scales=(4,), paper="Nobody 2026", params=1)
def half(scale: int = 4) -> nn.Module:
    return nn.Conv2d(1, 1, 1, bias=False)


@register_metric("worst")
def worst(sr, hr):
    return float(abs(sr - hr).max())
"""


def test_a_registry_suggests_the_near_name_and_lets_nobody_have_a_contested_one() -> None:
    things: Registry[int] = Registry("thing")
    things.add("alpha", 1, "here")
    things.add("alpha", 2, "here")
    things.add("beta", 3, "here")
    assert things.get("alpha") == 2
    things.add("beta", 4, "there")
    for find in (things.get, things.select, things.origin):
        with pytest.raises(UsageError, match="Both here and there register the thing 'beta'"):
            find("beta")
    assert things.select("all") == things.select("*a") == list(things) == ["alpha"]
    assert "beta" not in things
    with pytest.raises(UsageError, match="No thing is called 'alhpa': did you mean alpha"):
        things.get("alhpa")
    with pytest.raises(UsageError, match="there are alpha"):
        things.get("xyz")


def test_words_select_all_a_glob_or_a_name() -> None:
    assert set(MODELS.select("edsr*")) == {"edsr", "edsr-baseline"}
    assert MODELS.select("drfn") == ["drfn"]
    assert len(MODELS.select("all")) >= 9
    with pytest.raises(UsageError, match=r"No model matches 'x\*'"):
        MODELS.select("x*")


def test_listing_reads_declarations_without_importing_torch() -> None:
    script = (
        "import sys; from harness.registry import MODELS, load_plugins; load_plugins();"
        "card = MODELS.get('drfn'); print(card.params, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.split() == ["5207203", "False"]


def test_a_declaration_that_was_read_is_the_one_that_the_import_makes() -> None:
    read = MODELS.get("vdsr")
    read.build(scale=4)
    made = MODELS.get("vdsr")
    assert (made.params, made.scales, made.source) == (read.params, read.scales, read.source)


def test_a_single_file_is_a_plugin(tmp_path: Path, harness, photos: Path, random_weights) -> None:
    file = tmp_path / "half.py"
    file.write_text(PLUGIN)
    listed = harness("list", "models", "--plugin", file)
    assert "half" in listed.output and "Nobody 2026" in listed.output
    assert (
        "ok    parameter count: 1, 1 declared"
        in harness("check-model", "half", "--plugin", file).output
    )
    words = ("run", "--models", "half", "--datasets", photos, "--metric", "worst", "--plugin", file)
    shown = harness(*words, "--weights", f"half={random_weights('half')}")
    assert shown.exit_code == 0, shown.output
    assert "WORST" in shown.output


def test_an_installed_package_is_a_plugin(tmp_path: Path, photos: Path) -> None:
    site, wheel = tmp_path / "site", tmp_path / "tiny_sr-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "tiny_sr.py",
            PLUGIN.replace("half", "tiny")
            .replace("params=1", "params=0")
            .replace("nn.Conv2d(1, 1, 1, bias=False)", "nn.Identity()"),
        )
        info = "tiny_sr-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-sr\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/entry_points.txt", "[drfn_harness.plugins]\ntiny = tiny_sr\n")
        archive.writestr(f"{info}/RECORD", "")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--target",
        site,
    ]
    subprocess.run([*map(str, pip), str(wheel)], check=True)

    def run(*words: object) -> str:
        script = (
            f"import sys; sys.path.insert(0, {str(site)!r}); from harness.cli import main; main()"
        )
        command = [sys.executable, "-c", script, *map(str, words)]
        shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        return shown.stdout

    assert "tiny_sr" in run("list", "models")
    assert "FAIL" not in run("check-model", "tiny")
    assert "tiny" in run("run", "--models", "tiny", "--datasets", photos)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        (PLUGIN + "raise RuntimeError('half-way')", "RuntimeError: half-way"),
        (PLUGIN + "raise SystemExit(3)", "SystemExit: 3"),
        (PLUGIN.replace("(4,)", "4"), "has an invalid scales (Expected `array`, got `int`)"),
        (
            PLUGIN.replace('"y"', '"luma"'),
            "has an invalid pipeline (Invalid enum value 'luma'): it is y or rgb): correct the ",
        ),
        (PLUGIN.replace('"bicubic"', '"LR"'), "has an invalid input (Invalid enum value 'LR')"),
        (PLUGIN.replace('"half"', '"org/half"'), "has an invalid name ("),
        (PLUGIN.replace("params=1", "params='1'"), "has an invalid params (Expected `int"),
        (PLUGIN.replace('"worst"', '"seconds"'), "A metric cannot be called 'seconds'"),
    ],
)
def test_a_plugin_file_that_fails_is_a_wrong_request_and_says_why(
    text: str, reason: str, tmp_path: Path, harness
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text)
    shown = harness("list", "models", "--plugin", file)
    assert shown.exit_code == 2 and shown.stdout == ""
    assert f"The plug-in {file} cannot be loaded (" in shown.stderr and reason in shown.stderr
    assert "half" not in MODELS and not FAILURES


def test_a_misspelled_argument_of_a_plugin_is_told_the_right_one_once(
    tmp_path: Path, harness
) -> None:
    """By Python itself, or by the harness where Python is older than 3.13."""
    file = tmp_path / "bad.py"
    file.write_text(PLUGIN.replace("scales=", "scale="))
    said = harness("list", "models", "--plugin", file).stderr
    assert "keyword argument 'scale'" in said
    assert len(re.findall(r"[Dd]id you mean '?scales'?\?", said)) == 1


def test_a_declaration_that_is_not_literal_disables_only_its_file(
    tmp_path: Path, monkeypatch
) -> None:
    package = tmp_path / "made_of_two"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from harness.registry import declare_package as d; d(__name__)"
    )
    (package / "good.py").write_text(PLUGIN)
    (package / "bad.py").write_text(
        PLUGIN.replace('"half"', '"b" + "ad"').replace("params=1", "params=N")
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "entry.py").write_text("import made_of_two")
    load_plugins([tmp_path / "entry.py"])
    assert "half" in MODELS
    assert list(FAILURES) == ["made_of_two.bad"]


class TestFunctionOfPlugin:
    """A paper's file may name functions of loaded plug-ins, and no others."""

    CODE = (
        "from harness.registry import register_judge\nimport os\n"
        "@register_judge\ndef judge(findings, claim): return 'undecided', 'It depends.'\n"
        "def helper(findings, claim): open('ran', 'w')\n"
    )

    def test_a_file_is_named_without_its_ending(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(self.CODE)
        with pytest.raises(UsageError, match="load the file that registers it with --plugin"):
            function_of_plugin("mine:judge")
        load_plugins([tmp_path / "mine.py"])
        assert function_of_plugin("mine:judge")(None, None)[0] == "undecided"
        with pytest.raises(UsageError, match="'mine:jugde': did you mean mine:judge"):
            function_of_plugin("mine:jugde")

    @pytest.mark.parametrize("name", ["helper", "os", "os.system", "register_judge"])
    def test_what_is_not_registered_is_not_called(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "mine.py").write_text(self.CODE)
        load_plugins([tmp_path / "mine.py"])
        with pytest.raises(UsageError, match="A plug-in registers one with register_judge"):
            function_of_plugin(f"mine:{name}")

    def test_of_two_files_of_one_name_none_is_taken(self, tmp_path: Path) -> None:
        files = [tmp_path / folder / "mine.py" for folder in ("one", "two")]
        for file in files:
            file.parent.mkdir()
            file.write_text(self.CODE)
        load_plugins(files)
        both = f"Both {files[0]} and {files[1]} register the judge 'mine:judge'"
        with pytest.raises(UsageError, match=re.escape(both)):
            function_of_plugin("mine:judge")

    @pytest.mark.parametrize("entry", ["pack", "pack.networks"])
    def test_an_installed_one_registers_them_in_any_module(
        self, tmp_path: Path, monkeypatch, entry: str
    ) -> None:
        (tmp_path / "pack").mkdir()
        loads = "import pack.claims"
        for name, code in {"__init__": loads, "networks": "", "claims": self.CODE}.items():
            (tmp_path / "pack" / f"{name}.py").write_text(code)
        info = tmp_path / "pack-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: pack\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[drfn_harness.plugins]\npack = {entry}\n")
        (tmp_path / "packer.py").write_text("raise SystemExit")
        monkeypatch.syspath_prepend(str(tmp_path))
        load_plugins()
        assert function_of_plugin("pack.claims:judge")(None, None)[0] == "undecided"
        with pytest.raises(UsageError, match="No judge is called 'packer:judge'"):
            function_of_plugin("packer:judge")

    def test_one_that_fails_is_not_loaded(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(f"{self.CODE}\n1 / 0")
        with pytest.raises(UsageError, match="cannot be loaded .ZeroDivisionError"):
            load_plugins([tmp_path / "mine.py"])
        with pytest.raises(UsageError, match="No judge is called 'mine:judge'"):
            function_of_plugin("mine:judge")

    @pytest.mark.parametrize("name", ["os:system", "stranger:judge", "harness.files:regular"])
    def test_no_other_module_is_imported(self, tmp_path: Path, monkeypatch, name: str) -> None:
        (tmp_path / "stranger.py").write_text("open('ran', 'w')\n" + self.CODE)
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(UsageError, match="load the file that registers it with --plugin"):
            function_of_plugin(name)
        assert not Path("ran").exists()

    def test_those_of_the_harness_that_judge_are_known(self) -> None:
        assert function_of_plugin("harness.paper.literature:all_from").__name__ == "all_from"


def test_a_plugin_may_bring_a_test_set_of_its_own(tmp_path: Path, harness, photos: Path) -> None:
    file = tmp_path / "sets.py"
    file.write_text(
        f"from harness.registry import register_dataset as r; r('holiday', {str(photos)!r})"
    )
    listed = harness("list", "datasets", "--plugin", file).output
    assert "holiday" in listed and str(photos) in listed
    shown = harness("run", "--models", "bicubic", "--datasets", "holiday", "--plugin", file)
    assert shown.exit_code == 0 and "holiday" in shown.stdout.splitlines()[-1]


PAPER = """
[paper]
id = "halving"
title = "Halving"
year = 2025
subject = "Half"

[methods]
Half = "half"
Bicubic = "bicubic"

[[table]]
id = "main"
title = "Table 1"
columns = ["photos"]
cells = '''
x4 | Bicubic | 20.00/0.5000
x4 | Half    | 21.00/0.6000
'''

[[claim]]
key = "best"
where = "abstract"
quote = "better than all"
test = { beats = [] }
"""
REGISTERING = PLUGIN + "from harness.registry import register_paper as p; p('halving', 'half.toml')"


def test_a_plugin_may_bring_a_paper_that_lies_beside_it(tmp_path: Path, harness) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub/half.py"
    file.write_text(REGISTERING)
    (tmp_path / "sub/half.toml").write_text(PAPER)
    (row,) = [
        row
        for row in json.loads(harness("list", "papers", "--json", "--plugin", file).stdout)
        if row["name"] == "halving"
    ]
    assert row == {
        "name": "halving",
        "title": "Halving",
        "year": 2025,
        "tables": 1,
        "quoted_claims": 1,
        "origin": str(file),
    }
    shown = harness("claims", "--paper", "halving", "--plugin", file, "--format", "json")
    assert [one["claim"] for one in json.loads(shown.stdout)] == [
        "main-half",
        "best",
        "main-bicubic",
    ]


def test_the_paper_of_a_plugin_that_fails_is_gone_with_it(tmp_path: Path, harness) -> None:
    file = tmp_path / "half.py"
    file.write_text(REGISTERING + "\n1 / 0\n")
    assert harness("list", "papers", "--plugin", file).exit_code == 2
    assert "halving" not in PAPERS and "drfn2020" in PAPERS


def test_a_paper_with_a_mistake_is_listed_with_it_and_costs_only_itself(tmp_path, harness) -> None:
    file = tmp_path / "half.py"
    file.write_text(REGISTERING)
    (tmp_path / "half.toml").write_text(PAPER.replace("Half = ", "Helf = "))
    rows = json.loads(harness("list", "papers", "--json", "--plugin", file).stdout)
    errors = {row["name"]: row["error"] for row in rows}
    assert errors["drfn2020"] is None and "no method is called 'Half'" in errors["halving"]


@pytest.mark.parametrize("name", ["none", "mine.toml"])
def test_a_paper_whose_name_means_something_else_is_refused(name, tmp_path: Path, harness) -> None:
    file = tmp_path / "half.py"
    file.write_text(REGISTERING.replace("'halving'", repr(name)))
    assert f"A paper cannot be called {name!r}" in harness("list", "--plugin", file).stderr
    assert name not in PAPERS and "half" not in MODELS


def test_a_metric_on_what_does_not_exist_is_refused(tmp_path: Path, harness) -> None:
    file = tmp_path / "half.py"
    file.write_text(PLUGIN.replace('"worst"', '"worst", on="lab"'))
    shown = harness("list", "--plugin", file)
    assert f"The metric 'worst' of {file} has an invalid on" in shown.stderr
    assert "worst" not in METRICS


def test_two_files_of_one_name_may_not_register_the_same_model(tmp_path: Path, harness) -> None:
    files = [tmp_path / folder / "net.py" for folder in ("a", "b")]
    for file, other in zip(files, ("first", "second"), strict=True):
        file.parent.mkdir()
        file.write_text(PLUGIN.replace("worst", other))
    both = ("--plugin", files[0], "--plugin", files[1])
    shown = harness("list", *both)
    assert shown.exit_code == 0 and f"Both {files[0]} and {files[1]}" in shown.output
    assert "half" not in MODELS and {"first", "second"} <= set(METRICS)
    assert harness("check-model", "half", *both).exit_code == 2


@pytest.mark.parametrize("built_in_first", [True, False])
def test_a_built_in_keeps_its_name_whoever_comes_first(built_in_first: bool) -> None:
    things: Registry[int] = Registry("thing")
    for value in (1, 2) if built_in_first else (2, 1):
        things.add("alpha", value, "harness.things" if value == 1 else "stranger")
    assert things.get("alpha") == 1
    assert [(one.name, one.origins) for one in things.clashes()] == [("alpha", ("stranger",))]


TAKEN = {
    "model": PLUGIN.replace('"half"', '"drfn"'),
    "metric": PLUGIN.replace('"worst"', '"ssim"'),
    "dataset": PLUGIN + "register_dataset('set5', '.')\n",
    "report": (CASES / "report.py").read_text(),
    "paper": PLUGIN
    + "from harness.registry import register_paper\nregister_paper('drfn2020', 'mine.toml')\n",
}


@pytest.mark.parametrize("kind", TAKEN)
def test_a_named_file_with_the_name_of_a_built_in_is_refused(
    kind: str, tmp_path: Path, harness
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TAKEN[kind])
    for _ in range(2):
        shown = harness("list", "models", "--plugin", file)
        assert shown.exit_code == 2 and shown.output.startswith(f"Error: The {kind} ")
        assert str(file) in shown.output
    assert "half" not in MODELS and "worst" not in METRICS and not clashes()
    assert paper("drfn2020").subject == "DRFN"


def test_a_file_whose_helper_takes_the_name_of_a_built_in_is_refused(tmp_path, harness) -> None:
    (tmp_path / "helping.py").write_text(TAKEN["model"])
    (tmp_path / "mine.py").write_text(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import helping"
    )
    shown = harness("run", "--models", "drfn", "--plugin", tmp_path / "mine.py")
    assert shown.exit_code == 2 and "The model 'drfn' of helping" in shown.output


def test_two_plugins_whose_helpers_have_one_name_do_not_share_a_network(tmp_path, harness) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text("from torch import nn\nNet = nn.Identity\n")
        text = PLUGIN.replace('"half"', f'"{name}"').replace('"worst"', f'"worst-{name}"')
        (tmp_path / name / f"{name}.py").write_text(f"from helper import Net\n{text}")
    plugins = [tmp_path / name / f"{name}.py" for name in ("one", "two")]
    shown = harness("list", "models", "--plugin", plugins[0], "--plugin", plugins[1])
    said = f"it imports helper from {tmp_path}/one/helper.py and not from {tmp_path}/two/helper.py"
    assert said in shown.stderr
    assert "one" in MODELS and "two" not in MODELS


def test_a_report_of_a_plugin_meets_the_built_in_one_before_anyone_asks_for_reports() -> None:
    script = (
        "import sys; from pathlib import Path; from harness.registry import load_plugins\n"
        f"try: load_plugins([Path({str(CASES / 'report.py')!r})])\n"
        "except Exception as error: print(error)"
    )
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "The report 'results'" in shown.stdout, shown.stderr


def install(site: Path, distribution: str, module: str, text: str) -> None:
    """Install a package with an entry point, as pip does."""
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(text)
    info = site / f"{distribution.replace('-', '_')}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[drfn_harness.plugins]\n{module} = {module}\n")
    (info / "top_level.txt").write_text(f"{module}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, first on the path."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_an_installed_package_does_not_displace_a_built_in(site, harness, photos) -> None:
    install(site, "aaa-clash", "aaa_clash", (CASES / "aaa_clash.py").read_text())
    shown = harness("list", "models")
    assert shown.exit_code == 0
    said = "The model 'srcnn' of aaa_clash has the name of a built-in: rename it."
    (row,) = [line for line in shown.stdout.splitlines() if line.endswith(said)]
    assert row.split()[0] == "aaa_clash"
    assert "Warning: The model 'srcnn' of aaa_clash" in shown.stderr
    assert MODELS.origin("srcnn") == "harness.baselines.srcnn"
    shown = harness("run", "--models", "clash-nearest", "--datasets", photos)
    assert shown.exit_code == 0, shown.output


def test_two_installed_packages_lose_a_name_that_both_register(site, harness) -> None:
    for module in ("one_sr", "two_sr"):
        text = PLUGIN.replace('"worst"', f'"{module}"')
        install(site, module, module, text)
    shown = harness("run", "--models", "half", "--datasets", "demo")
    assert shown.exit_code == 2
    assert "Error: Both one_sr and two_sr register the model 'half'" in shown.output
    assert {"one_sr", "two_sr"} <= set(METRICS)


def test_packages_that_fail_or_exit_cost_only_themselves(site, harness) -> None:
    install(site, "broken-sr", "broken_sr", "import not_installed_at_all")
    install(site, "exits-sr", "exits_sr", "import sys; sys.exit('needs Python 3.14')")
    install(site, "old-sr", "old_sr", PLUGIN.replace("pipeline=", "license='MIT', pipeline="))
    shown = harness("list", "models")
    assert shown.exit_code == 0 and "harness.baselines.drfn" in shown.output
    assert "SystemExit: needs Python 3.14" in shown.stdout
    assert set(FAILURES) == {"broken_sr", "exits_sr", "old_sr"}
    assert "half" not in MODELS and "worst" not in METRICS


def test_the_networks_are_found_beside_another_package_called_baselines(site, harness) -> None:
    text = "from harness.registry import declare_package; declare_package(__name__)"
    install(site, "drfn-harness", "baselines", text)  # as an earlier version did
    shown = harness("list", "models")
    assert shown.exit_code == 0 and "harness.baselines.drfn" in shown.output
    assert "rename" not in shown.output and not FAILURES


def test_without_its_networks_the_harness_says_so(harness, monkeypatch) -> None:
    monkeypatch.setattr(MODELS, "_built_in", {})
    shown = harness("list", "models")
    assert shown.exit_code == 1 and "reinstall drfn-harness" in shown.output
    monkeypatch.setitem(sys.modules, "harness.baselines", None)
    shown = harness("run", "--models", "all", "--datasets", "demo")
    assert shown.exit_code == 1 and "reinstall drfn-harness" in shown.output


def with_worst(plugin: Path, photos: Path) -> list[object]:
    """A run that also computes the metric of a plug-in file."""
    chosen = ["--metric", "worst", "--plugin", plugin]
    return ["run", "--models", "bicubic", "--datasets", photos, *chosen]


def test_the_source_of_a_metric_is_part_of_the_identity(tmp_path: Path, harness, photos) -> None:
    file = tmp_path / "half.py"
    words = with_worst(file, photos)
    file.write_text(PLUGIN)
    harness(*words)
    assert "already finished" in harness(*words).output
    file.write_text(PLUGIN.replace(".max()", ".mean()"))
    assert "3 images computed" in harness(*words).output


def test_a_metric_that_is_not_a_number_breaks_the_run(tmp_path: Path, harness, photos) -> None:
    file = tmp_path / "half.py"
    file.write_text(PLUGIN.replace("float(abs(sr - hr).max())", "float('nan')"))
    words = with_worst(file, photos)
    shown = harness(*words)
    assert shown.exit_code == 1
    assert "The metric worst is not a number" in shown.output


def test_a_plugin_file_that_is_missing_is_a_usage_error(harness) -> None:
    Path("folder").mkdir()
    Path("folder/mine.py").touch()
    hints = {"gone.py": "correct the path.", "folder/mine": "did you mean folder/mine.py?"}
    for path, hint in hints.items():
        shown = harness("list", "--plugin", path)
        assert shown.exit_code == 2
        assert shown.output.startswith(f"Error: There is no plug-in file {path}: {hint}")


OLD = {
    "harness.specs": "from harness.specs import ModelCard",
    "harness.report.forms": "from harness.report import forms",
    "harness.data.leaks": "import harness.data.leaks",
    "harness.protocols": "from harness.protocols import protocol",
    "register_model": PLUGIN.replace("params=1", "licence='MIT'"),
    "register_report": PLUGIN
    + "from harness.registry import register_report\n"
    + "@register_report('mine')\ndef mine(runs, paper):\n    return None\n",
}


@pytest.mark.parametrize("name", OLD)
def test_a_plugin_for_an_earlier_version_is_told_the_version_and_what_to_use(
    name: str, tmp_path: Path, harness
) -> None:
    file = tmp_path / "old.py"
    file.write_text(OLD[name])
    shown = harness("list", "models", "--plugin", file)
    (line,) = shown.stderr.splitlines()
    assert shown.exit_code == 2 and f"The plug-in {file} cannot be loaded" in line
    assert f"since 0.1.0 {CHANGES['0.1.0'][name]}" in line
    assert "half" not in MODELS


def test_each_change_names_what_there_is_now_and_the_document_lists_them_all() -> None:
    listed = (ROOT / "docs/changes.md").read_text().partition("\n|")[2]
    tables = [
        f"| a plug-in that uses | since {version} |\n|---|---|\n"
        + "".join(f"| `{name}` | {now} |\n" for name, now in changes.items())
        for version, changes in CHANGES.items()
    ]
    assert f"|{listed}" == "\n".join(tables)
    now = " ".join(now.partition(" is ")[2] for one in CHANGES.values() for now in one.values())
    modules = re.findall(r"harness\.[\w.]+", now)
    assert len(modules) > 10 and all(map(find_spec, modules))
