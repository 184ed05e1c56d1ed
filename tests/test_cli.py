import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.cli import main
from harness.cli.train import _ablation
from harness.data import pinned
from harness.data.identify import NEAR_DUPLICATES, fingerprint
from harness.data.images import read_image
from harness.data.pinned import git_pin, pinned_rows
from harness.errors import UsageError
from harness.models.find_weights import write_notes
from harness.models.network import build_network
from harness.models.weights import Weights, save_weights, tensors_digest
from harness.paper.schema import paper, read_paper
from harness.paper.select import is_by_the_authors
from harness.record import WeightsInfo, file_digest
from harness.registry import FAILURES, MODELS
from harness.report.build import FIXED_RULES
from harness.run.store import ResultStore
from harness.text import listed
from tests.commands import parse, verbs
from tests.conftest import REAL_ROOTS, Host
from tests.pictures import picture


def folder_of(path: Path, name: str = "x.png", pixels: np.ndarray | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(40, 40) if pixels is None else pixels).save(path / name)
    return path


def test_help_and_version_answer(harness) -> None:
    assert "Evaluate models on test sets" in harness("--help").output
    assert harness("--version").output.startswith("harness, version 0.")
    assert "--self-ensemble" in harness("run", "-h").output


def test_the_module_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "harness", "list"], capture_output=True, text=True
    )
    assert "drfn" in shown.stdout


@pytest.mark.parametrize("words", ["run --models bicubic", "train srcnn --steps 2"])
def test_where_files_cannot_be_locked_nothing_is_begun(
    harness, host: Host, tmp_path: Path, monkeypatch, words: str
) -> None:
    monkeypatch.setattr("harness.files.fcntl", None)
    shown = harness(*words.split())
    assert shown.exit_code == 1 and "cannot lock files" in shown.output
    assert len(shown.output.splitlines()) == 1 and "Traceback" not in shown.output
    assert not host.requests and [path.name for path in tmp_path.iterdir()] == ["served"]


def test_reports_need_no_locks() -> None:
    script = "import sys; sys.modules['fcntl'] = None; from harness.cli import main; main()"
    words = ["report", "table2", "--format", "md"]
    shown = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert Path("reports/table2.md").read_text() in shown.stdout


def sentences(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("Error: ")]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--models", "drnf"], 2, "No model is called 'drnf': did you mean drfn"),
        (["--models", "bicubic", "--datasets", "set55"], 2, "did you mean set5"),
        (["--models", ""], 2, "No models are named"),
        (["--models", "rdn,edsr", "--datasets", "demo"], 1, "There are no weights for rdn at x4"),
        (["--models", "bicubic", "--datasets", "./gone"], 2, "There is no folder ./gone"),
        (
            ["--models", "bicubic", "--datasets", "demo", "--device", "tpu9"],
            2,
            "There is no device",
        ),
        (
            ["--models", "bicubic", "--datasets", "demo", "--metric", "lpips"],
            2,
            "No metric is called",
        ),
        (["--models", "srcnn", "--datasets", "demo", "--weights", "srcnn"], 2, "MODEL=PATH"),
        (
            ["--models", "bicubic", "--datasets", "demo", "--weights", "vdsr=x"],
            2,
            "not among the models",
        ),
        (
            ["--models", "srcnn", "--datasets", "demo", "--weights", "srcnn=gone.mat"],
            2,
            "no weights file gone",
        ),
        (["--models", "vdsr:best", "--datasets", "demo"], 1, "There are no weights for vdsr:best"),
        (["--models", "bicubic:x", "--datasets", "demo"], 2, "takes no weights"),
        (["--models", "vdsr:a", "--datasets", "demo", "--weights", "vdsr=b"], 2, "contradict"),
        (["--models", "vdsr="], 2, "names no file"),
        (["--models", "vdsr=.,vdsr=.."], 2, "two folders, . and .."),
        (["--models", "vdsr=/dev/null", "--weights", "vdsr=b"], 2, "no weights file b"),
        (["--models", "vdsr:a=b", "--datasets", "demo"], 2, "by tag and by path"),
        (["--models", "bicubic", "--datasets", ""], 2, "No test sets are named"),
        (["--models", "bicubic", "--datasets", "demo", "--scale", "7"], 1, "not defined for x7"),
        (
            ["--models", "bicubic", "--datasets", "manga109", "--strict"],
            1,
            "licence forbids copies",
        ),
    ],
)
def test_a_wrong_request_gets_one_sentence_and_its_exit_code(harness, words, code, said) -> None:
    shown = harness("run", *words)
    assert shown.exit_code == code, shown.output
    assert said in sentences(shown.output)[0]
    assert "Traceback" not in shown.output


def broken_folders(tmp_path: Path) -> dict[str, Path]:
    """Folders of one bad image each."""
    made = {
        "truncated": folder_of(tmp_path / "truncated", pixels=picture(300, 300)),
        "deep": folder_of(tmp_path / "deep", pixels=picture(40, 40, 1).astype(np.uint16) * 257),
        "small": folder_of(tmp_path / "small", pixels=picture(10, 60)),
        "empty": tmp_path / "empty",
    }
    made["empty"].mkdir()
    cut = made["truncated"] / "x.png"
    cut.write_bytes(cut.read_bytes()[:5000])
    return made


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("truncated", "x.png cannot be read"),
        ("deep", "more than 8 bits a channel"),
        ("small", "x of small is 60 x 10 pixels: scoring at x4 needs at least 19 on each side"),
        ("empty", "there are no images in"),
    ],
)
def test_a_bad_set_is_named_and_the_others_go_on(harness, tmp_path, photos, kind, said) -> None:
    folder = broken_folders(tmp_path)[kind]
    shown = harness("run", "--models", "bicubic", "--datasets", f"{folder},{photos}")
    assert shown.exit_code == 1
    assert said in shown.output
    assert "nan" not in shown.output
    assert "photos" in shown.stdout.splitlines()[-1], "the sound set is in the summary"


def test_a_set_that_cannot_be_had_is_named_and_is_no_failure(harness) -> None:
    shown = harness("run", "--models", "bicubic", "--datasets", "manga109,urban100,demo")
    assert shown.exit_code == 0
    assert shown.output.count("Skipped: ") == 2
    assert "cannot be reached" in shown.output
    alone = harness("run", "--models", "bicubic", "--datasets", "manga109")
    assert alone.exit_code == 1, "nothing was run"


def test_an_unwritable_results_folder_is_one_sentence(harness, photos: Path) -> None:
    Path("taken").touch()
    shown = harness("run", "--models", "bicubic", "--datasets", photos, "--results", "taken")
    assert shown.exit_code == 1
    assert "choose another with --results" in sentences(shown.output)[0]


def test_weights_of_another_network_are_refused_and_nothing_is_lost(
    harness, photos: Path, random_weights
) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    before = sorted(Path("results").rglob("*"))
    path = random_weights("vdsr")
    shown = harness("run", "--models", "srcnn", "--datasets", photos, "--weights", f"srcnn={path}")
    assert shown.exit_code == 1
    assert "holds weights of vdsr at x4, not of srcnn at x4" in shown.output
    assert sorted(Path("results").rglob("*")) == before


def test_a_weights_file_is_named_with_the_model_or_by_an_option(
    harness, photos: Path, random_weights
) -> None:
    path = random_weights("srcnn")
    words = ("run", "--datasets", photos, "--json", "--models")
    first, second = (
        json.loads(harness(*words, *more).stdout)[0]["id"]
        for more in ([f"srcnn={path}"], ["srcnn", "--weights", f"srcnn={path}"])
    )
    assert first == second


def test_debug_shows_where_it_happened(harness) -> None:
    shown = harness("--debug", "run", "--models", "drnf")
    assert shown.exception is not None and "No model" in str(shown.exception)


def test_the_unexpected_is_said_to_be(harness, monkeypatch) -> None:
    from harness.run import plan

    monkeypatch.setattr(plan, "plan", lambda request: 1 / 0)
    shown = harness("run", "--models", "bicubic")
    assert shown.exit_code == 1
    assert shown.output.startswith(
        "Error: ZeroDivisionError: division by zero (unexpected; --debug"
    )
    assert shown.output.count("\n") == 1


def test_tiles_of_a_network_that_pools_are_said_to_differ(harness, photos, random_weights) -> None:
    weights = random_weights("drfn", groups=1, blocks=1, width=16)
    words = ("run", "--models", "drfn", "--datasets", photos, "--weights", f"drfn={weights}")
    shown = harness(*words, "--tile", 8)
    assert shown.exit_code == 0, shown.output
    assert "tiles change its output" in shown.output


def test_edsr_without_weights_says_that_its_baseline_runs(
    harness, photos, random_weights, tmp_path, monkeypatch
) -> None:
    words = ("run", "--models", "edsr,edsr-baseline", "--datasets", photos)
    random_weights("edsr-baseline", folder=tmp_path / "w")
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "w"))
    shown = harness(*words)
    assert shown.exit_code == 0, shown.output
    assert "edsr has no weights here: edsr-baseline runs in its place" in shown.output
    assert shown.output.count("images computed") == 1, "it is one run, not two"
    (record,) = ResultStore(Path("results/local")).records()
    assert record.identity.model == "edsr-baseline"
    assert record.provenance["in_place_of"] == "edsr"
    assert harness("run", "--models", "edsr:repro", "--datasets", photos).exit_code == 1


def test_json_is_all_of_the_records(harness, photos: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "harness",
        "run",
        "--models",
        "bicubic",
        "--datasets",
        str(photos),
    ]
    shown = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    (record,) = json.loads(shown.stdout)
    assert record["means"]["psnr"] > 10
    assert len(record["images"]) == 3


class TestListings:
    def test_datasets_and_where_they_are(self, harness, monkeypatch, tmp_path) -> None:
        (tmp_path / "Set5").mkdir()
        monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
        rows = {r["dataset"]: r for r in json.loads(harness("list", "datasets", "--json").output)}
        assert rows["set5"]["state"].startswith("broken: Set5: there are no images")
        assert rows["urban100"]["state"] == "not here"
        assert rows["demo"]["state"] == "as published"
        shown = harness("data", "where")
        assert str(tmp_path) in shown.output and "(not there)" in shown.output

    def test_weights(self, harness, random_weights, tmp_path, monkeypatch) -> None:
        random_weights("srcnn", folder=tmp_path / "w")
        (tmp_path / "w/vdsr-x4.bad.safetensors").write_bytes(b"x")
        monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "w"))
        rows = json.loads(harness("weights", "where", "--json").output)
        of = {name: [r for r in rows if r["model"] == name] for name in ("srcnn", "vdsr", "rdn")}
        assert [row["tag"] for row in of["srcnn"]] == ["made", "official"]
        assert [row["installed"] for row in of["srcnn"]] == [True, False]
        assert of["srcnn"][0]["source"] == "made.npz"
        official = of["srcnn"][1]
        assert (official["where"], official["obtain"]) == (None, "harness weights fetch srcnn")
        source = r"as mirrored by WangDequan/SRCNN@[0-9a-f]{40}/model/9-5-5.*"
        assert re.fullmatch(source, official["source"])
        assert len(official["sha256"]) == 64
        shown = harness("weights", "where").output
        assert official["sha256"][:12] in shown and official["sha256"] not in shown
        assert of["vdsr"][0]["licence"].startswith("broken")
        assert [row["tag"] for row in of["rdn"]] == ["none"]
        assert "bicubic" not in {row["model"] for row in rows}
        assert "made" in harness("list", "weights").output

    def test_models_and_what_is_known_of_them(self, harness, monkeypatch) -> None:
        monkeypatch.setitem(FAILURES, "bad_package", "ZeroDivisionError: division by zero")
        rows = {row["model"]: row for row in json.loads(harness("list", "models", "--json").stdout)}
        assert rows["srcnn"]["parameters"] == 57281 and rows["srcnn"]["scales"] == [2, 3, 4]
        assert rows["srcnn"]["error"] is None
        assert rows[None]["error"].startswith("ZeroDivisionError")
        assert "57,281" in harness("list", "models").stdout

    def test_runs(self, harness, photos) -> None:
        assert harness("list", "runs").stdout == "There is nothing to list.\n"
        harness("run", "--models", "bicubic", "--datasets", photos)
        (row,) = json.loads(harness("list", "runs", "--json").stdout)
        assert (row["model"], row["status"]) == ("bicubic", "finished")
        accepted = harness("accept", row["id"])
        assert accepted.stdout.strip().startswith("results/reference/x4/photos/bicubic-")
        assert harness("accept", row["id"]).exit_code == 2


def test_a_folder_here_is_a_set_by_its_bare_name(harness, photos: Path) -> None:
    assert harness("run", "--models", "bicubic", "--datasets", "photos").exit_code == 0


def test_whoever_stops_reading_gets_no_complaint() -> None:
    command = f"{sys.executable} -m harness list models --json | true"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert shown.stderr == ""


def test_reports_of_local_runs_lie_beside_them(harness, photos: Path) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    harness("report", "--results", "results/local")
    assert Path("results/local/reports/table2.md").exists()
    assert not Path("reports").exists()


@pytest.mark.parametrize("words", [(), ("--json",), ("--scale", 2)])
def test_a_verb_with_two_names_is_one_verb(harness, words) -> None:
    for one, other in (("data where", "list datasets"), ("weights where", "list weights")):
        shown = harness(*one.split(), *words)
        assert shown.exit_code == 0 and shown.stdout == harness(*other.split(), *words).stdout
        assert f"The same as harness {other}." in harness(*one.split(), "-h").output
    claims = harness("claims", "--format", "json").stdout
    assert claims == harness("report", "claims", "--format", "json").stdout
    assert len(json.loads(claims)) > 5


FIXED = f"--grey is for reports other than {listed(FIXED_RULES)}:"


@pytest.mark.parametrize(
    ("words", "takers"),
    [
        ("report table2 --models drfn", "--models is for the reports results, crops and page:"),
        ("report claims --format json --grey as-rgb", FIXED),
        (
            "report claims --format json --no-marks",
            "--no-marks is for reports in other formats than json:",
        ),
        ("explain a.png b.png --weights w.pth", "--weights is for a run:"),
        ("explain a.png b.png --all", "--all is for a run:"),
        ("explain 3f2a --scale 2", "--scale is for two images:"),
        ("report table* --image set14/x", "--image is for the reports crops and page:"),
        ("report claims --box 1,2,3,4", "--box is for the reports crops and page:"),
        ("report rules --images .", "--images is for the reports crops and page:"),
        ("report figure5 --data-root .", "--data-root is for the reports crops and page:"),
        ("list models --results .", "--results is for harness list runs:"),
        ("list weights --data-root .", "--data-root is for harness list datasets:"),
        ("check --grey as-rgb", "--grey is for --against paper:"),
        ("check --paper drfn2020", "--paper is for --against paper:"),
        ("train srcnn --paper drfn2020", "--paper is for --variant:"),
        ("list models --paper drfn2020", "--paper is for harness list papers:"),
        (
            "list papers --scale 2",
            "--scale is for harness list models, datasets, weights and runs:",
        ),
        (
            "list metrics --scale 2",
            "--scale is for harness list models, datasets, weights and runs:",
        ),
        ("complexity --time-size 64x64", "--time-size is for --time:"),
        ("data verify . --leaks --scale 2", "--scale is for harness data verify without --leaks:"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(harness, words: str, takers: str) -> None:
    shown = harness(*words.split())
    assert shown.exit_code == 2 and shown.stdout == ""
    assert shown.stderr == f"Error: {takers} leave it out.\n"
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("claims --paper none", "harness claims needs a paper: name it with --paper"),
        ("check --against paper --require --paper none", "--against paper needs a paper"),
        ("train drfn --variant ff --paper none", "--variant needs a paper"),
        ("report claims --paper none", "nothing to report as claims for this --paper"),
        ("report all --paper drfn2019", "No paper is called 'drfn2019': did you mean "),
        ("list papers --paper gone.toml", "There is no paper file "),
        ("complexity --paper .toml", "There is no paper file "),
        ("train drfn --variant fff", "No variant is called 'fff': there are "),
        ("train drfn --variant table9:ff", "No ablation of drfn is called 'table9': there are tab"),
        ("train drfn --variant ff --scale 2", "--scale is for trainings without --variant (x4)"),
        ("train srcnn --variant ff", "drfn2020 has no ablation of srcnn: --variant is for drfn."),
    ],
)
def test_a_paper_that_is_missing_is_asked_for(harness, words: str, said: str) -> None:
    Path("results/local").mkdir(parents=True)
    shown = harness(*words.split())
    assert shown.exit_code == 2, shown.output
    assert shown.stdout == "" and said in sentences(shown.stderr)[0]


TWO_ABLATIONS = """
paper = { id = "two", title = "Two", subject = "V" }
methods = { V = "vdsr" }
"""
ABLATION = """
[[ablation]]
id = "%s"
title = "A"
model = "vdsr"
set = "set5"
scale = 2
whole = "all"
variants = { all = {}, less = {} }
psnr = [37, 36]
"""


def test_a_variant_of_several_ablations_is_named_with_its_own(harness) -> None:
    Path("two.toml").write_text(TWO_ABLATIONS + ABLATION % "a1" + ABLATION % "a2")
    words = ("train", "vdsr", "--paper", "two.toml", "--variant")
    shown = harness(*words, "less")
    assert shown.exit_code == 2
    assert "Several ablations have the variant 'less': write a1:less or a2:less." in shown.stderr
    ablation = _ablation(read_paper(Path("two.toml")), "vdsr", "a2:less")
    assert ablation.id == "a2"
    shown = harness(*words, "a2:less", "--scale", 4)
    assert "--scale is for trainings without --variant (x2): leave it out." in shown.stderr


def test_a_variant_is_trained_at_the_scale_of_its_ablation(harness, monkeypatch) -> None:
    def stop(request, *_):
        raise UsageError(f"{request.tag} at x{request.scale}")

    monkeypatch.setattr("harness.train.plan.plan_training", stop)
    Path("one.toml").write_text(TWO_ABLATIONS + ABLATION % "a1")
    shown = harness("train", "vdsr", "--paper", "one.toml", "--variant", "less")
    assert "a1-less at x2" in shown.stderr


def test_counts_without_a_paper_have_none_printed(harness) -> None:
    words = ("complexity", "drfn", "--format", "csv", "--paper")
    printed, none = (
        list(csv.DictReader(harness(*words, name).stdout.splitlines()))
        for name in ("drfn2020", "none")
    )
    assert float(printed[0]["parameters_printed"]) == 5.2e6 and not none[0]["parameters_printed"]
    assert printed[0]["parameters"] == none[0]["parameters"]


def test_papers_are_listed_with_the_default_one_first(harness) -> None:
    rows = json.loads(harness("list", "papers", "--json").stdout)
    assert rows[0] == {
        "name": "drfn2020",
        "title": "Deep Residual Fusion Network for Single Image Super-Resolution",
        "year": 2020,
        "tables": 1,
        "quoted_claims": len(paper("drfn2020").claims),
        "origin": "harness.paper.schema",
    }
    assert " 2020 " in harness("list", "papers").stdout
    for name in ("drfn2020", "DRFN2020"):
        (row,) = json.loads(harness("list", "papers", "--json", "--paper", name).stdout)
        assert row == rows[0]


def test_a_scale_selects_models_and_runs(harness, photos: Path) -> None:
    for scale in (2, 4):
        harness("run", "--models", "bicubic", "--datasets", photos, "--scale", scale)
    for words, expected in (((), [2, 4]), (("--scale", 2), [2]), (("--scale", 3), [])):
        rows = json.loads(harness("list", "runs", "--json", *words).stdout)
        assert [row["scale"] for row in rows] == expected
        lines = harness("list", "runs", "--csv", *words).stdout.splitlines()
        assert len(lines) == 1 + 2 * len(expected)
    names = [row["model"] for row in json.loads(harness("list", "--json", "--scale", 8).stdout)]
    assert "bicubic" not in names


def test_complexity_takes_models_as_words_or_as_an_option(harness) -> None:
    words = harness("complexity", "srcnn", "vdsr", "--format", "csv")
    assert words.exit_code == 0 and len(words.stdout.splitlines()) > 2
    assert harness("complexity", "--models", "srcnn,vdsr", "--format", "csv").stdout == words.stdout


class TestData:
    def test_verify_tells_sound_from_altered(self, harness, tmp_path) -> None:
        assert harness("data", "verify", "demo").exit_code == 0
        folder_of(tmp_path / "root/Set5")
        shown = harness("data", "verify", "set5", "--data-root", tmp_path / "root")
        assert shown.exit_code == 3
        assert "FAIL  Set5 in" in shown.output
        assert "1 of the sets are missing, damaged or not as published" in shown.output

    def test_verify_calls_no_set_ok_that_is_not_there(self, harness, monkeypatch, tmp_path) -> None:
        monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
        shown = harness("data", "verify")
        assert shown.exit_code == 0
        marks = {line.split()[1].rstrip(":"): line.split()[0] for line in shown.output.splitlines()}
        assert (marks["Urban100"], marks["demo"]) == ("skip", "ok")

    def test_leaks_are_looked_for_in_training_sets(self, harness, photos, monkeypatch) -> None:
        sound = harness("data", "verify", "--leaks", photos)
        assert (sound.exit_code, sound.output) == (0, "ok    none of 3 images is in a test set\n")
        own = fingerprint(read_image(photos / "a.png").pixels)
        monkeypatch.setitem(NEAR_DUPLICATES, own, "the Set5 image")
        leaking = harness("data", "verify", "--leaks", photos)
        assert leaking.exit_code == 3
        assert "FAIL  a.png is the Set5 image" in leaking.output
        assert "1 of 3 images are in a test set" in leaking.output

    def test_fetch_without_a_network_or_a_licence_is_one_sentence(self, harness) -> None:
        offline = harness("data", "fetch", "set5")
        assert offline.exit_code == 1 and "cannot be reached" in offline.output
        assert "HARNESS_WEIGHTS" in offline.output
        both = harness("data", "fetch", "manga109", "demo", "set5")
        assert both.exit_code == 1
        assert [line.split()[1] for line in sentences(both.output)] == [
            "Manga109",
            "demo",
            "http://127.0.0.1:9",
        ]
        assert "manga109.org" in both.output and "it is in" in both.output


class TestWeightsFetch:
    @pytest.mark.real_data
    def test_the_authors_file_is_fetched_checked_and_found(
        self, harness, host: Host, monkeypatch, photos: Path
    ) -> None:
        (row,) = [row for row in pinned_rows("weights") if row["model"] == "srcnn"]
        published = Path(REAL_ROOTS["HARNESS_WEIGHTS"]) / row["file"]
        served = host.root / row["repository"] / row["commit"] / row["path"]
        served.parent.mkdir(parents=True)
        monkeypatch.setenv("HARNESS_WEIGHTS", "")
        assert " harness weights fetch srcnn" in harness("weights", "where").output
        served.write_bytes(published.read_bytes()[:-1] + b"x")
        shown = harness("weights", "fetch", "srcnn")
        assert shown.exit_code == 3 and "does not have the SHA-256" in shown.output
        served.write_bytes(published.read_bytes())
        shown = harness("weights", "fetch", "src*")
        assert shown.exit_code == 0
        assert shown.output.index("academic use only") < shown.output.index("Stored in")
        run = harness("run", "--models", "srcnn", "--datasets", photos)
        assert run.exit_code == 0 and run.stdout.split()[-1] == "official"
        (kept,) = Path("cache").rglob(published.name)
        kept.write_bytes(kept.read_bytes()[:-1000])
        shown = harness("weights", "fetch", "srcnn")
        assert shown.exit_code == 0 and "Truncated or altered" in shown.stderr
        assert kept.read_bytes() == published.read_bytes()

    @pytest.fixture
    def served(self, host: Host, tmp_path: Path, monkeypatch) -> Callable[[str, str, str], Path]:
        """Serve random values in the place of a pinned file, under a pin of the same kind."""
        shutil.copytree(files("harness.data").joinpath("pins"), tmp_path / "lists/pins")
        monkeypatch.setattr(pinned, "files", lambda package: tmp_path / "lists")
        monkeypatch.setattr("harness.models.weights.authors_rows", lambda: pinned_rows("weights"))

        def serve(model: str, row_pin: str, kind: str) -> Path:
            path = host.root / "owner/repo/abc/w.pt"
            path.parent.mkdir(parents=True)
            torch.save(build_network(MODELS.get(model), 4, {}).state_dict(), path)
            pin = git_pin(path) if kind == "git" else f"sha256-prefix:{file_digest(path)[:8]}"
            table = tmp_path / "lists/pins/weights.csv"
            rows = list(csv.DictReader(table.read_text().splitlines()))
            (row,) = [row for row in rows if row["pin"] == row_pin]
            row |= {"repository": "owner/repo", "commit": "abc", "path": "w.pt", "pin": pin}
            with table.open("w") as stream:
                writer = csv.DictWriter(stream, row)
                writer.writeheader()
                writer.writerows(rows)
            return path

        return serve

    @pytest.mark.parametrize(
        ("model", "pin", "said"),
        [
            ("edsr-baseline", "sha256-prefix:6b446fab", "the start of its SHA-256 only"),
            ("msrn", "git:b33bab1e672cdbd3d6d96feda47f3e52bae44df6", "its git blob id, a SHA-1"),
        ],
    )
    def test_a_file_with_a_weaker_pin_is_the_authors_under_its_own_name(
        self, harness, served, photos: Path, monkeypatch, model: str, pin: str, said: str
    ) -> None:
        path = served(model, pin, pin.partition(":")[0])
        sound, sha256 = path.read_bytes(), file_digest(path)
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        shown = harness("weights", "fetch", model)
        assert shown.exit_code == 3 and "the file was not kept" in shown.output
        assert not list(Path("cache").rglob("*.pt"))
        path.write_bytes(sound)
        shown = harness("weights", "fetch", model)
        assert shown.exit_code == 0 and said in shown.output and sha256 in shown.output
        (kept,) = Path("cache").rglob("*.pt")
        own = Path("mine").absolute() / kept.name
        own.parent.mkdir()
        kept.rename(own)
        monkeypatch.setenv("HARNESS_WEIGHTS", str(own.parent))

        def official() -> dict[str, object]:
            rows = json.loads(harness("weights", "where", "--json").stdout)
            return next(row for row in rows if (row["model"], row["tag"]) == (model, "official"))

        row = official()
        assert (row["source"], row["sha256"]) == ("owner/repo@abc/w.pt", sha256)
        assert row["where"] == str(own)
        run = harness("run", "--models", model, "--datasets", photos)
        assert run.exit_code == 0 and run.stdout.split()[-1] == "official"
        (record,) = ResultStore(Path("results/local")).records()
        assert record.weights and record.weights.source_sha256 == sha256
        assert is_by_the_authors(record)
        for facts in ({"tag": "mine"}, {"file": "w.pt", "source_sha256": "0" * 64}):
            other = replace(record.weights, **facts)
            assert not is_by_the_authors(replace(record, weights=other))
        assert harness("weights", "import", model, own).exit_code == 0
        (stored,) = Path("cache").rglob(own.name)
        assert stored.read_bytes() == sound
        stored.unlink()
        own.rename(own.with_name("other.pt"))
        assert not official()["installed"]

    def test_a_model_that_cannot_be_fetched_does_not_stop_the_others(self, harness, served) -> None:
        served("msrn", "git:b33bab1e672cdbd3d6d96feda47f3e52bae44df6", "git")
        shown = harness("weights", "fetch", "drfn", "msrn")
        assert shown.exit_code == 1 and "No weights of drfn" in shown.output
        assert [path.name for path in Path("cache").rglob("*.pt")] == ["MSRN_x4.pt"]

    def test_what_others_than_the_authors_passed_on_is_called_so(self, harness) -> None:
        rows = json.loads(harness("weights", "where", "--json").stdout)
        source = {row["model"]: row["source"] for row in rows if row["tag"] == "official"}
        through = {name: source[name].rpartition("@")[0] for name in source}
        assert through == {
            "srcnn": "as mirrored by WangDequan/SRCNN",
            "fsrcnn": "as mirrored by yaBorn/Super-resolution",
            "vdsr": "as mirrored by huangzehao/caffe-vdsr",
            "lapsrn": "phoenix104104/LapSRN",
            "srmdnf": "as converted by nihui/srmd-ncnn-vulkan",
            "edsr": "",
            "edsr-baseline": "",
            "msrn": "MIVRC/MSRN-PyTorch",
        }
        fetched = harness("weights", "fetch", "vdsr").output
        assert "as mirrored by huangzehao/caffe-vdsr@" in fetched

    def test_at_another_scale_the_command_says_so(self, harness) -> None:
        shown = harness("run", "--models", "msrn", "--datasets", "demo", "--scale", "2")
        assert "run harness weights fetch msrn --scale 2 (published at http" in shown.output

    def test_models_whose_weights_were_not_published_are_named(self, harness) -> None:
        shown = harness("weights", "fetch", "drfn")
        assert shown.exit_code == 1
        assert "No weights of drfn at x4 are registered for download" in shown.output


class TestWeightsImport:
    @pytest.mark.parametrize("tag", ["official", "repro"])
    def test_the_users_own_weights_cannot_be_called_someone_elses(
        self, harness, random_weights, tag: str
    ) -> None:
        shown = harness("weights", "import", "srcnn", random_weights("srcnn"), "--tag", tag)
        assert shown.exit_code == 2 and f"which alone have the tag {tag}" in shown.output
        assert not list(Path("cache").rglob("*.safetensors"))

    def test_imported_weights_are_used_by_the_next_run(
        self, harness, photos, random_weights
    ) -> None:
        path = random_weights("srcnn")
        shown = harness("weights", "import", "srcnn", path, "--tag", "mine", "--licence", "CC0-1.0")
        assert shown.exit_code == 0 and "CC0-1.0" in shown.output
        run = harness("run", "--models", "srcnn:mine", "--datasets", photos)
        assert run.exit_code == 0 and "mine" in run.stdout.splitlines()[-1]

    def test_what_does_not_fit_is_not_stored(self, harness, tmp_path, random_weights) -> None:
        small = random_weights("drfn", groups=1)
        (tmp_path / "wrong.safetensors").write_bytes(small.read_bytes())
        before = harness("list", "weights").stdout
        words = ("weights", "import", "vdsr", tmp_path / "wrong.safetensors", "--tag", "mine")
        shown = harness(*words)
        assert shown.exit_code == 1 and "holds weights of drfn" in shown.output
        assert harness("list", "weights").stdout == before and "vdsr" in before


class TestSeveralFilesOfOneModel:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Callable[..., Path]:
        """Save a checkpoint of FSRCNN, made of random values with a seed."""

        def make(name: str, seed: int) -> Path:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.manual_seed(seed)
            torch.save(MODELS.get("fsrcnn").build(scale=4).state_dict(), path)
            return path

        return make

    @pytest.mark.parametrize("way", ["weights", "commas", "models"])
    def test_each_runs_under_its_own_tag(self, harness, photos, saved, way: str) -> None:
        named = [f"fsrcnn={saved(f'{name}.pth', seed)}" for seed, name in enumerate("ab")]
        words = ["--models", ",".join(named)]
        if way == "weights":
            words = ["--models", "fsrcnn", "--weights", named[0], "--weights", named[1]]
        if way == "commas":
            words = ["--models", "fsrcnn", "--weights", ",".join(named)]
        shown = harness("run", *words, "--datasets", photos, "--json")
        assert shown.exit_code == 0, shown.output
        a, b = json.loads(shown.stdout)
        assert (a["weights"]["tag"], b["weights"]["tag"]) == ("a", "b")
        assert a["id"] != b["id"] and a["means"] != b["means"]
        assert "fsrcnn:a on photos" in shown.stderr and "fsrcnn:b on photos" in shown.stderr
        (_, first), (_, second) = (
            (row["weights"], row["weights_file"])
            for row in json.loads(harness("list", "runs", "--json").stdout)
        )
        assert {Path(first).name, Path(second).name} == {"a.pth", "b.pth"}
        table = harness("report", "results", "--paper", "none", "--results", "results/local")
        assert "| fsrcnn:" in table.stdout
        every = harness(
            *("report", "results", "--paper", "none", "--results", "results/local"),
            *("--weights-of", "fsrcnn:a,fsrcnn:b"),
        )
        assert "| fsrcnn:a " in every.stdout and "| fsrcnn:b " in every.stdout

    def test_they_are_joined_whatever_the_case_of_the_name(self, harness, photos, saved) -> None:
        a, b = (saved(f"{name}.pth", seed) for seed, name in enumerate("ab"))
        words = ("run", "--models", "fsrcnn", "--datasets", photos, "--json", "--weights")
        shown = harness(*words, f"fsrcnn={a}", "--weights", f"FSRCNN={b}")
        assert [one["weights"]["tag"] for one in json.loads(shown.stdout)] == ["a", "b"]
        shown = harness(*words, f"fsrcnn={a}", "--weights", "FSRCNN=absent.pth")
        assert shown.exit_code == 2 and "There is no weights file absent.pth" in shown.stderr

    def test_beside_the_installed_weights_by_their_tag(self, harness, photos, saved) -> None:
        """Weights that someone tuned, and those that they began with."""
        tuned = f"fsrcnn={saved('tuned.pth', 0)}"
        shown = harness("run", "--models", f"fsrcnn:repro,{tuned}", "--datasets", photos, "--json")
        assert [one["weights"]["tag"] for one in json.loads(shown.stdout)] == ["repro", "tuned"]
        for models in (f"fsrcnn,{tuned}", f"{tuned},FSRCNN"):
            shown = harness("run", "--models", models, "--datasets", photos)
            assert shown.exit_code == 2 and "give fsrcnn:TAG" in shown.stderr

    @pytest.fixture
    def trained(self, tmp_path: Path) -> list[str]:
        """Two trainings of FSRCNN with their notes, as harness train writes them."""
        files = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            state = MODELS.get("fsrcnn").build(scale=4).state_dict()
            tensors = {name: value.numpy() for name, value in state.items()}
            sha256 = tensors_digest(tensors)
            weights = Weights(WeightsInfo("repro", "", sha256, sha256), tensors)
            path = save_weights(weights, MODELS.get("fsrcnn"), 4, tmp_path / f"seed{seed}")
            write_notes(path, json.dumps({"tensors_sha256": sha256}))
            files.append(f"fsrcnn={path}")
        return files

    def test_trainings_of_one_tag_have_those_of_their_folders(
        self, harness, photos, trained
    ) -> None:
        models = ",".join(["bicubic", *trained])
        shown = harness("run", "--models", models, "--datasets", photos, "--json")
        _, *records = json.loads(shown.stdout)
        tags = [one["weights"]["tag"] for one in records]
        assert tags == ["seed1-fsrcnn-x4-repro", "seed2-fsrcnn-x4-repro"]
        rows = json.loads(harness("compare", "fsrcnn:seed*", "bicubic", "--json").stdout)
        assert {row["number_a"] for row in rows if row["dataset"] == "photos"} == {2}
        alone = harness(
            *("run", "--models", trained[0], "--datasets", photos, "--json", "--results", "alone")
        )
        assert json.loads(alone.stdout)[0]["weights"]["tag"] == "repro"

    def test_each_training_below_bicubic_is_named(self, harness, photos, trained) -> None:
        shown = harness("run", "--models", ",".join(trained), "--datasets", photos)
        warned = re.findall(r"Warning: (\S+) scores less than bicubic", shown.stderr)
        assert warned == ["fsrcnn:seed1-fsrcnn-x4-repro", "fsrcnn:seed2-fsrcnn-x4-repro"]

    def test_equal_weights_run_once_and_the_user_is_told(self, harness, photos, saved) -> None:
        named = [f"fsrcnn={saved(f'{name}.pth', 0)}" for name in "ab"]
        shown = harness("run", "--models", ",".join(named), "--datasets", photos, "--json")
        assert len(json.loads(shown.stdout)) == 1
        assert "a.pth and " in shown.stderr and "b.pth hold the same weights" in shown.stderr

    def test_a_file_that_was_trained_again_has_runs_of_two_names(
        self, harness, photos, saved
    ) -> None:
        for seed in (0, 1):
            model = f"fsrcnn={saved('mine.pth', seed)}"
            assert harness("run", "--models", model, "--datasets", photos).exit_code == 0
        lines = harness("list", "runs").stdout.splitlines()[2:]
        tags = {re.findall(r"mine-[0-9a-f]{8}", line)[0] for line in lines}
        assert len(tags) == 2
        words = ("report", "results", "--datasets", "photos", "--models", "fsrcnn")
        shown = harness(*words)
        (newest,) = re.findall(r"shown: (mine-[0-9a-f]{8})\.", shown.stderr)
        assert f"| FSRCNN:{newest}" in shown.stdout
        assert "fsrcnn has 2 checkpoints at x4" in shown.stderr
        runs = ResultStore(Path("results/local")).records()
        last = max(runs, key=lambda run: run.provenance["utc"])
        assert newest.endswith(str(last.identity.weights_sha256)[:8])
        other = (tags - {newest}).pop()
        shown = harness(*words, "--weights-of", f"fsrcnn:{other}")
        assert f"| FSRCNN:{other}" in shown.stdout and "checkpoints" not in shown.stderr
        every = harness(*words[:-1], "fsrcnn:*")
        assert every.stdout.count("| FSRCNN:mine-") == 2 and "checkpoints" not in every.stderr

    def test_a_tag_names_imported_weights_only(self, harness, photos, saved) -> None:
        words = ("run", "--models", "fsrcnn:a", "--datasets", photos, "--json")
        unknown = harness(*words)
        assert unknown.exit_code == 1
        assert "harness weights import fsrcnn FILE --tag a" in unknown.stderr
        assert harness("weights", "import", "fsrcnn", saved("a.pth", 0)).exit_code == 0
        (found,) = json.loads(harness(*words).stdout)
        assert found["weights"]["tag"] == "a"

    def test_the_check_holds_a_file_of_another_name_against_the_reference(
        self, harness, photos, saved
    ) -> None:
        """A pipeline's build/model.pth is held against best.pth, which was accepted."""
        best = f"fsrcnn={saved('best.pth', 0)}"
        harness("run", "--models", best, "--datasets", photos, "--results", "reference")
        for seed, code in ((0, 0), (1, 3)):
            results = f"local{seed}"
            built = f"fsrcnn={saved(f'{seed}/model.pth', seed)}"
            harness("run", "--models", built, "--datasets", photos, "--results", results)
            words = ("--results", results, "--reference", "reference", "--require")
            shown = harness("check", *words)
            assert shown.exit_code == code, shown.output


def help_of(harness, verb: tuple[str, ...]) -> tuple[str, list[str]]:
    """The help of a verb, and the examples at its end."""
    text = harness(*verb, "--help").output
    example = re.compile(r"^ +(harness .*)$", re.MULTILINE)
    return text, example.findall(re.split(r"\n +Examples?:\n", text)[-1])


@pytest.mark.parametrize("verb", [(), ("data",), ("weights",), *verbs()], ids=" ".join)
def test_every_help_ends_with_examples_that_can_be_typed(harness, verb: tuple[str, ...]) -> None:
    Path("results/local").mkdir(parents=True)
    text, found = help_of(harness, verb)
    assert found and text.endswith(f"{found[-1]}\n")
    assert all(len(line) <= 80 for line in text.splitlines())
    for command in found:
        words = shlex.split(command)[1:]
        assert tuple(words[: len(verb)]) == verb
        if words[-1] != "--help":
            parse(words)


@pytest.mark.parametrize("verb", ["list", "claims", "data where", "weights where"])
def test_the_examples_that_read_what_is_here_run(harness, verb: str) -> None:
    _, found = help_of(harness, tuple(verb.split()))
    for command in found:
        shown = harness(*shlex.split(command)[1:])
        assert shown.exit_code == 0 and shown.stdout


def test_without_a_verb_it_says_how_to_start(harness) -> None:
    shown = harness()
    commands = re.findall(r"^  harness (.*?)(?:   .*)?$", shown.stdout, re.MULTILINE)
    assert shown.exit_code == 0 and len(commands) == 4
    Path("results/local").mkdir(parents=True)
    assert all(parse(command.split()) for command in commands)
    listed = harness("--help").stdout
    assert (
        listed.index("\n  run ")
        < listed.index("\nFor authors of plug-ins")
        < listed.index("accept")
    )
    assert all(f"\n  {name} " in listed for name in main.commands)


def test_words_are_separated_by_commas_or_spaces_or_repeated(tmp_path: Path) -> None:
    for words in (["drfn,edsr"], ["drfn edsr"], [" drfn , edsr "], ["drfn", "edsr"]):
        options = [word for text in words for word in ("--models", text)]
        assert parse(["run", *options]).params["models"] == ["drfn", "edsr"]
    Path("my nets, old").mkdir()
    Path("my nets, old/a.pth").touch()
    for path in ("my nets, old/a.pth", "srcnn=my nets, old/a.pth"):
        assert parse(["run", "--models", path]).params["models"] == [path]
    for text in ("bicubic,srcnn=my.pth,vdsr", "bicubic srcnn=my.pth vdsr"):
        Path("my.pth").touch()
        words = ["bicubic", "srcnn=my.pth", "vdsr"]
        assert parse(["run", "--models", text]).params["models"] == words
    assert parse(["data", "fetch", "set5,set14", "t91"]).params["names"] == ["set5", "set14", "t91"]


def test_names_are_found_in_any_case(harness, photos: Path) -> None:
    words = ("run", "--json", "--datasets", photos, "--models")
    first, second = (
        json.loads(harness(*words, *more).stdout)[0]["identity"]
        for more in (["bicubic", "--metric", "ssim-whole"], ["BICUBIC", "--metric", "SSIM-Whole"])
    )
    assert first == second and first["model"] == "bicubic"
    (row,) = json.loads(harness("list", "Papers", "--paper", "DRFN2020", "--json").stdout)
    assert row["tables"] == 1
    assert harness("report", "Table2", "--paper", "Drfn2020", "--format", "md").exit_code == 0
    assert Path("results/local/reports/table2.md").exists()
    checked = harness("check", "--models", "SRCNN", "--datasets", "Set5")
    assert checked.exit_code == 3 and "No expected" not in checked.stderr
    for words in ("data verify DEMO", "complexity SRC*"):
        Path("results/local").mkdir(parents=True, exist_ok=True)
        assert harness(*words.split()).exit_code == 0


class TestFirstImages:
    def test_are_a_set_of_their_own_that_is_compared_with_nothing(self, harness) -> None:
        words = ("run", "--models", "bicubic", "--datasets", "demo", "--json")
        (some,) = json.loads(harness(*words, "--limit", 2).stdout)
        assert (some["identity"]["dataset"], some["verified"]) == ("demo-first2", False)
        checked = ("check", "--models", "bicubic", "--datasets", "demo", "--json")
        verdicts = {row["verdict"] for row in json.loads(harness(*checked).stdout)}
        assert verdicts == {"not run"}
        explained = harness("explain", some["id"][:12], "--json")
        assert [row["psnr"] for row in json.loads(explained.stdout) if row["own"]] == [
            pytest.approx(some["means"]["psnr"], abs=1e-4)
        ]
        (whole,) = json.loads(harness(*words).stdout)
        assert whole["images"][:2] == [
            one | {"seconds": whole["images"][place]["seconds"]}
            for place, one in enumerate(some["images"])
        ]
        (same,) = json.loads(harness(*words, "--limit", 99).stdout)
        assert same["id"] == whole["id"] != some["id"]

    def test_of_a_folder_too(self, harness, photos: Path) -> None:
        harness("run", "--models", "bicubic", "--datasets", photos, "--limit", 1)
        (record,) = ResultStore(Path("results/local")).records()
        assert [image.image for image in record.images] == ["a"]
        assert record.identity.dataset == "photos-first1" and not record.verified


def test_quiet_prints_the_table_and_errors_only(harness, photos: Path) -> None:
    words = ("run", "--models", "bicubic", "--datasets", f"{photos},manga109", "-q")
    shown = harness(*words)
    assert shown.exit_code == 0 and shown.stderr == "" and "photos" in shown.stdout
    nothing = harness("run", "--models", "bicubic", "--datasets", "manga109", "-q")
    assert nothing.exit_code == 1 and nothing.stderr.startswith("Skipped: Manga109")
    assert "Set55" in harness(*words, "--datasets", "Set55").stderr


@pytest.mark.parametrize(
    ("model", "address"),
    [
        ("edsr", "published at https://cv.snu.ac.kr/research/EDSR/models/edsr_x4-4f62e9ef.pt"),
        ("rdn", "https://github.com/yulunzhang/RDN"),
        ("memnet", "--models memnet=FILE"),
    ],
)
def test_a_model_without_weights_is_skipped_if_only_a_glob_selects_it(
    harness, photos: Path, model: str, address: str
) -> None:
    def shown(*words: str):
        return harness("run", "--datasets", photos, "--models", *words)

    skipped = shown(f"bicubic,{model[:-1]}[{model[-1]}]")
    (line,) = (one for one in skipped.stderr.splitlines() if one.startswith("Skipped: "))
    assert skipped.exit_code == 0
    assert f"no weights for {model} at x4" in line and address in line
    assert shown(f"bicubic,{model[:-1]}[{model[-1]}]", "--strict").exit_code == 1
    assert shown("bicubic,rdn").exit_code == 1


def test_a_model_for_another_scale_is_skipped_if_only_a_glob_selects_it(harness, photos) -> None:
    words = ("run", "--datasets", photos, "--scale", 3, "--models")
    assert "Skipped: lapsrn is not defined for x3" in harness(*words, "bicubic,lap*").stderr
    assert harness(*words, "bicubic,lapsrn").exit_code == 1


def test_a_folder_of_the_search_path_that_is_not_there_is_named(harness, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", "/nowhere:/elsewhere")
    shown = harness("run", "--models", "bicubic", "--datasets", "manga109")
    assert "HARNESS_DATA names /nowhere, which is no folder; ':' separates several" in shown.stderr
    monkeypatch.setenv("HARNESS_WEIGHTS", "/elsewhere")
    shown = harness("run", "--models", "srcnn", "--datasets", "demo")
    assert "HARNESS_WEIGHTS names /elsewhere, which is no folder" in shown.stderr
    monkeypatch.setenv("HARNESS_DATA", "/nowhere")
    shown = harness("run", "--models", "bicubic", "--datasets", "demo", "--limit", 1, "--quiet")
    assert shown.exit_code == 0 and shown.stderr.count("HARNESS_DATA names /nowhere") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run --models folder --datasets demo", "as in NAME=folder"),
        ("run --models SRCN --datasets demo", "did you mean srcnn"),
        ("report tabel2", "did you mean table2 or table1? There are ablation, claims"),
        ("raport", "Did you mean 'report'?"),
        ("evaluate", "Did you mean 'run'?"),
        ("--plugin notes.py run --models bicubic", "Put --plugin after the command."),
        ("run bicubic", "Did you mean harness run --models bicubic?"),
        ("run --models bicubic --datasets demo set5", "Did you mean --datasets demo,set5?"),
        ("run --models bicubic edsr --datasets demo", "Did you mean --models bicubic,edsr?"),
        ("run --model bicubic --datasets demo", "'--model'. Did you mean '--models'?"),
        ("compare mine:a,mine:b", "Did you mean harness compare mine:a mine:b?"),
        ("explain mine:a", "'mine:a' is no id of a run: give the first digits of one"),
        ("run --models mine --datasets demo", "load the file that registers it with --plugin"),
        ("check-model mine.py", "load the file with --plugin mine.py"),
        ("run --models notes.py --datasets demo", "load it with --plugin notes.py"),
        ("accept mine", "'mine' is no id of a run: give ids, see harness list runs, or all"),
        ("data fetch bsds40", "Among the training sets there is bsds400"),
        ("claims --paper notes.txt", "give a TOML file, see docs/papers.md"),
        ("claims --paper folder", "is a folder, not a file): give a TOML file"),
        ("report complexity --grey as-rgb", "--grey is for reports other than ablation"),
        ("weights import srcnn gone.mat", "There is no weights file gone.mat"),
        ("complexity srcnn:repro", "do not matter here"),
        ("explain gone.png notes.txt", "There is no image gone.png"),
    ],
)
def test_a_newcomers_mistake_gets_its_remedy(harness, words: str, said: str) -> None:
    Path("folder").mkdir()
    Path("notes.txt").write_text("no paper")
    Path("notes.py").touch()
    shown = harness(*words.split())
    assert shown.exit_code == 2 and said in shown.stderr


def test_a_folder_of_sets_is_told_from_a_set(harness, photos: Path) -> None:
    shown = harness("run", "--models", "bicubic", "--datasets", photos.parent)
    (way,) = re.findall(r"folders are .*photos.*: name one, or set (\S+) and", shown.stderr)
    assert way == f"HARNESS_DATA={photos.parent}"


def test_counts_are_json_too(harness) -> None:
    (row,) = json.loads(harness("complexity", "srcnn", "--format", "json").stdout)
    assert row["parameters"] == 57281 and row["parameters_printed"] is None


def test_under_one_rule_for_grey_images_only_reports_that_follow_it_are_written(harness) -> None:
    assert harness("report", "all", "--grey", "as-rgb", "--format", "md,csv").exit_code == 0
    names = {path.name for path in Path("reports").iterdir()}
    assert "table2-as-rgb.md" in names and "rules-as-rgb.md" not in names
