"""The table of results for one's own paper, made from the reference records and of own runs."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_fields

from harness.errors import UsageError
from harness.paper.findings import Findings
from harness.paper.schema import paper
from harness.record import RunRecord
from harness.report.own_table import OwnTable, own_table
from harness.report.table import Table
from harness.run.store import ResultStore
from tests.records import frame, record, with_metric

ROOT = Path(__file__).parents[2]
DRFN = '"Deep Residual Fusion Network for Single Image Super-Resolution"'


@pytest.fixture(scope="module")
def reference() -> Sequence[RunRecord]:
    return ResultStore(ROOT / "results/reference").records()


def mine(name: str = "mine", dataset: str = "set5", psnr: float = 31.0) -> RunRecord:
    """A run of a network that no plug-in registers, as after the run."""
    return record(name, dataset, [psnr], ssim=0.87, tag="file", protocol="BI-x4/rgb")


def made(records: Sequence[RunRecord], *, of: str = "drfn2020", **wanted: object) -> Table:
    return own_table(Findings(frame(*records), paper(of)), OwnTable(**wanted))


def body(table: Table) -> list[list[str]]:
    """The rows, without the marks of weights."""
    return [[cell.rstrip("†") for cell in line] for line in table.lines]


def test_a_line_for_each_method_and_a_column_for_each_set_in_the_order_asked_for(reference) -> None:
    table = made(
        [*reference, mine()],
        models=["mine", "SRCNN", "edsr", "bicubic"],
        datasets=["b100", "Set5"],
        printed=["EDSR"],
    )
    assert table.headers == ["Method", "B100", "Set5"]
    assert body(table) == [
        ["mine", "-", "31.00/0.8700"],
        ["SRCNN", "26.90/0.7103", "30.49/0.8628"],
        ["EDSR*", "27.71/0.7420", "32.46/0.8968"],
        ["Bicubic", "25.96/0.6674", "28.42/0.8104"],
    ]
    text = table.render("tex")
    assert r"EDSR* & \textbf{27.71}/\textbf{0.7420} & \textbf{32.46}/\textbf{0.8968}" in text
    assert r"SRCNN & \underline{26.90}/\underline{0.7103} & 30.49/0.8628" in text
    assert r"mine & - & \underline{31.00}/\underline{0.8700}" in text
    assert f"* As printed in {DRFN}." in table.caption
    assert table.caption.startswith(
        "PSNR (dB) / SSIM on luma, x4, bicubic degradation, border of 4 px left out. "
        "Bold: the best of its column; underlined: the second best. *"
    )
    rules = "compared in uint8): SRCNN, Bicubic. Pipeline rgb"
    assert rules in table.render("md").partition("| Bicubic")[2], "below the table"
    comments, begin, _ = text.partition("\n\\begin{table}\n")
    assert begin and rules in comments.replace("\n% ", " ")
    assert all(line.startswith("% ") for line in comments.splitlines())


def test_without_printed_methods_every_number_was_measured(reference) -> None:
    table = made(reference, models=["bicubic", "drfn"], datasets=["set5"])
    assert body(table) == [["Bicubic", "28.42/0.8104"], ["DRFN", "30.73/0.8701"]]
    assert [line[1] for line in table.lines] == ["28.42/0.8104", "30.73/0.8701†"]
    assert "As printed" not in table.caption
    assert table.caption.endswith("† Not the authors' weights of this network.")
    assert "DRFN with 3,902 steps" in table.remarks[-1]


def test_a_printed_method_needs_no_run_and_hides_the_run_that_there_is(reference) -> None:
    table = made(
        reference, models=["drfn", "memnet"], datasets=["set5"], printed=["memnet", "drfn"]
    )
    assert body(table) == [["DRFN*", "32.16/0.8936"], ["MemNet*", "31.74/0.8893"]]


def test_digits_and_metrics_are_the_users_but_print_gets_none_that_it_lacks(reference) -> None:
    words = {"models": ["bicubic", "edsr"], "datasets": ["set5"], "printed": ["edsr"]}
    table = made(reference, **words, metrics=["ssim", "psnr"], digits=[2, 3])
    assert body(table) == [["Bicubic", "0.81/28.422"], ["EDSR*", "0.90/32.46"]]
    only = made(reference, **words, metrics=["psnr"])
    assert body(only) == [["Bicubic", "28.42"], ["EDSR*", "32.46"]]
    assert only.caption.startswith("PSNR (dB) on luma, x4, ")


def test_of_a_metric_whose_better_direction_is_unknown_none_is_best() -> None:
    runs = [with_metric(mine(name), "mae", [value]) for name, value in (("a", 1.5), ("b", 2.5))]
    ran = Findings(frame(*runs), None)
    text = own_table(ran, OwnTable(metrics=("psnr", "ssim"))).render("tex")
    assert text.count(r"\textbf{31.00}") == 2, "the first place is shared"
    from harness.registry import METRICS, register_metric

    register_metric("mae")(lambda sr, hr: abs(sr - hr).mean())
    assert "mae" in METRICS
    table = own_table(ran, OwnTable(metrics=("mae",)))
    assert body(table) == [["a", "1.50"], ["b", "2.50"]]
    assert table.caption.startswith("MAE on luma, x4")
    assert "textbf" not in table.render("tex")


def test_sizes_are_those_of_the_network_that_ran_or_that_is_registered(reference) -> None:
    own = replace(mine(), parameters=1_592_000, macs=90_900_000_000)
    table = made(
        [*reference, own],
        models=["bicubic", "srcnn", "edsr", "mine"],
        datasets=["set5"],
        printed=["edsr"],
        columns=["params", "macs"],
    )
    assert table.headers == ["Method", "Params", "MACs (G)", "Set5"]
    assert [line[1:3] for line in body(table)] == [
        ["-", "-"],
        ["57.3k", "52.70"],
        ["43.1M", "2,894.55"],
        ["1.59M", "90.90"],
    ]
    assert "MACs for an output of 1280 x 720 pixels." in table.caption


def test_names_caption_and_label_are_the_users(reference) -> None:
    table = made(
        reference,
        models=["drfn"],
        datasets=["set5"],
        renamed={"drfn": "Ours & more"},
        caption="Results on Set5.",
        label="tab:sota",
    )
    text = table.render("tex")
    best = "Bold: the best of its column; underlined: the second best."
    assert rf"\caption{{Results on Set5. {best} \dag{{}} Not" in text
    assert r"}\label{tab:sota}" in text
    assert r"Ours \& more & 30.73/0.8701\dag{}" in text, "one method is not the best of any"
    said = " ".join([table.caption, *table.remarks])
    assert "Ours & more with 3,902 steps" in said and "DRFN" not in said
    assert table.name == "sota"


def test_each_checkpoint_that_is_named_has_a_line() -> None:
    runs = [
        record("mine", "set5", [psnr], ssim=0.87, tag=tag, protocol="BI-x4/rgb")
        for tag, psnr in (("a", 30.0), ("b", 31.0), ("c", 32.0))
    ]
    for words, lines in (
        (["mine:b"], {"mine:b": "31.00"}),
        (["mine:c", "mine:a"], {"mine:c": "32.00", "mine:a": "30.00"}),
        (["mine:*"], {"mine:a": "30.00", "mine:b": "31.00", "mine:c": "32.00"}),
    ):
        table = made(runs, models=words, metrics=["psnr"])
        assert dict(body(table)) == lines
    again = record("mine", "set14", [29.0], tag="old", weights="b", protocol="BI-x4/rgb")
    again = replace(again, provenance={"utc": "2025-01-01"})
    table = made([*runs, again], models=["Mine:OLD"], renamed={"mine:old": "Ours"})
    assert [line[0] for line in body(table)] == ["Ours"], "another tag of mine:b"
    assert body(made([*runs, again], models=["mine:old"]))[0][0] == "mine:b"
    table = made(runs, models=["mine:a", "mine:b"], renamed={"mine:b": "Ours"})
    assert [line[0] for line in body(table)] == ["mine:a", "Ours"]
    for name, said in (("mine", "several methods of"), ("other", "no method of")):
        with pytest.raises(UsageError, match=f"--rename {name} stands for {said} the table"):
            made(runs, models=["mine:a", "mine:b"], renamed={name: "Ours"})
    with pytest.raises(UsageError, match="No run has the weights mine:d: there are runs of mine:a"):
        made(runs, models=["mine:d"])


def test_the_remarks_say_which_checkpoint_had_which_training(reference) -> None:
    runs = [one for one in reference if one.identity.model == "drfn" and not one.identity.hyper]
    runs.append(record("drfn", "set5", [30.0], tag="mine", weights="f" * 64, protocol="BI-x4/rgb"))
    words = {"models": ["drfn:repro*", "drfn:mine"], "datasets": ["set5"], "metrics": ["psnr"]}
    table = made(runs, **words)
    assert len(table.lines) > 2 and all(line[1].endswith("†") for line in table.lines)
    notes = " ".join(table.remarks)
    assert all(f"{line[0]} with " in notes for line in table.lines)
    *_, (mine_too, psnr) = table.lines
    assert (mine_too, psnr) == ("DRFN:mine", "30.00†")
    assert f"{mine_too} with a training of which nothing is known" in notes


def test_other_weights_are_marked_without_the_plug_in_of_their_network() -> None:
    words = {"models": ["imdn", "mine"], "metrics": ["psnr"]}
    table = made([mine("imdn"), mine()], of="imdn2019", **words)
    assert [line[1] for line in table.lines] == ["31.00†", "31.00"]


def test_globs_select_rows_by_their_names() -> None:
    runs = [mine("mine-b"), mine("mine-a"), mine("other"), record("bicubic", "set5", weights=None)]
    assert [line[0] for line in body(made(runs, models=["other", "mine*"]))] == [
        "other",
        "mine-a",
        "mine-b",
    ]
    assert len(body(made(runs, models=["all"]))) == len(body(made(runs))) == 4


def test_scales_stand_one_below_the_other_unless_one_is_chosen() -> None:
    runs = [record("srcnn", "set5", [30.0], scale=scale) for scale in (4, 2)]
    words = {"models": ["edsr", "srcnn"], "datasets": ["set5"], "printed": ["edsr"]}
    table = made(runs, **words)
    assert [line[:2] for line in body(table)] == [["SRCNN", "x2"], ["EDSR*", "x4"], ["SRCNN", "x4"]]
    assert "best of its column and scale" in table.caption
    one = made(runs, **words, scale=4)
    assert [line[0] for line in body(one)] == ["EDSR*", "SRCNN"]


def test_a_run_that_failed_is_shown_as_failed() -> None:
    broken = replace(mine(), status="error", images=(), error="no memory")
    table = made([broken, mine(dataset="set14")], models=["mine"], datasets=["set5", "set14"])
    assert body(table) == [["mine", "failed", "31.00/0.8700"]]


def test_the_csv_says_which_numbers_are_printed_and_which_run_gave_the_others() -> None:
    run = mine()
    table = made([run], models=["mine", "edsr"], datasets=["set5"], printed=["edsr"])
    facts = {(row.model, row.metric): row for row in table.tidy.itertuples()}
    assert facts["mine", "psnr"].run == run.identity.id
    assert [facts[name, "psnr"].source for name in ("mine", "edsr")] == ["measured", "printed"]
    assert (facts["edsr", "ssim"].value, facts["edsr", "ssim"].run) == (0.8968, "")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"models": ["mien"]}, "method 'mien' is not known .*did you mean mine"),
        ({"models": ["vdsr"]}, "no run of vdsr on these sets .*--printed vdsr"),
        ({"models": ["fsrcnn"], "datasets": ["set14"]}, "no run of fsrcnn"),
        ({"datasets": ["set6"]}, "set 'set6' is not known .*did you mean set5"),
        ({"printed": ["ESDR"], "models": ["esdr"]}, "drfn2020 prints no .*did you mean edsr"),
        ({"printed": ["mine"], "models": ["mine"]}, "drfn2020 prints no number"),
        ({"printed": ["edsr"], "models": ["mine"]}, "not among the --models"),
        ({"metrics": ["pnsr"]}, "psnr"),
        ({"columns": ["flops"]}, "params and macs"),
        ({"digits": [2]}, "decimals for each of psnr, ssim"),
        ({"label": "tab:{x}"}, "no LaTeX label"),
        ({"models": ["mine"], "scale": 3}, "at x3"),
    ],
)
def test_what_cannot_be_in_the_table_is_named(wanted: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        made([mine(), record("fsrcnn", "set5")], **wanted)


def test_without_a_paper_nothing_is_printed() -> None:
    ran = Findings(frame(mine()), None)
    assert body(own_table(ran, OwnTable())) == [["mine", "31.00/0.8700"]]
    with pytest.raises(UsageError, match="--paper none prints no number"):
        own_table(ran, OwnTable(printed=["edsr"]))


def test_a_number_that_was_read_from_another_document_says_so() -> None:
    table = made([], of="rdn2018", models=["RDN"], printed=["rdn"], scale=4)
    assert body(table)[0][:2] == ["RDN*", "32.47/0.8990"]
    assert "(read from" in table.caption


def test_numbers_of_another_degradation_are_not_taken_from_print() -> None:
    printed = paper("drfn2020")
    (table,) = printed.tables
    other = replace_fields(printed, tables=(replace_fields(table, degradation="BD"),))
    findings = Findings(frame(mine()), other)
    with pytest.raises(UsageError, match="drfn2020 prints no number of it"):
        own_table(findings, OwnTable(models=["mine", "edsr"], printed=["edsr"]))
    assert printed.printed("edsr", False, 4, "set5") == {"psnr": "32.46", "ssim": "0.8968"}
    assert other.printed("edsr", False, 4, "set5") == {}


@pytest.mark.parametrize("datasets", [(), ("set5", "set14")], ids=["wide", "narrow"])
@pytest.mark.parametrize("layout", ["", "twocolumn"])
def test_it_compiles_in_an_article(reference, tmp_path: Path, layout: str, datasets) -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("no LaTeX engine is installed")
    table = made(
        [*reference, mine()],
        models=["bicubic", "srcnn", "vdsr", "srmdnf", "edsr", "mine"],
        datasets=datasets,
        printed=["edsr"],
        columns=["params"] if datasets else ["params", "macs"],
        renamed={"mine": "Ours (50% #1)"},
    )
    assert len(table.headers) == 4 if datasets else len(table.headers) > 7
    assert f"begin{{table{'' if datasets else '*'}}}" in table.render("tex")
    (tmp_path / "own.tex").write_text(
        f"\\documentclass[{layout}]{{article}}\\usepackage[T1]{{fontenc}}"
        "\\usepackage{booktabs,graphicx}\\begin{document}Table~\\ref{tab:own-table}."
        + table.render("tex")
        + "\\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "own.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "own.log").read_text(errors="replace")
    for fault in ("Missing character", "Overfull", "Float too large", "undefined"):
        assert fault not in log, log[log.index(fault) :][:300]


def test_the_command_writes_it_beside_the_runs_and_prints_it(harness) -> None:
    ResultStore(Path("results/local")).write(mine())
    words = ("report", "results", "--models", "edsr,mine", "--datasets", "set5,set14")
    shown = harness(*words, "--printed", "edsr", "--rename", "mine=Ours", "--format", "md,tex")
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.startswith("Run records read from results/local: 1.\n")
    assert re.search(r"\| Ours +\| <ins>31.00</ins>/<ins>0.8700</ins>", shown.stdout)
    folder = Path("results/local/reports")
    assert sorted(path.name for path in folder.iterdir()) == ["own-table.md", "own-table.tex"]
    assert (folder / "own-table.md").read_text() == shown.stdout
    assert "bold" not in harness(*words[:4], "--printed", "edsr", "--no-marks").stdout.lower()


@pytest.mark.parametrize(
    ("renames", "names"),
    [
        (["mine:a=Ours,mine:b=Ablation"], ["Ours", "Ablation"]),
        (["mine:a=Ours, large", "mine:b=Ours, small"], ["Ours, large", "Ours, small"]),
    ],
)
def test_names_are_separated_by_commas_or_given_one_by_one(harness, renames, names) -> None:
    for tag in ("a", "b"):
        run = record("mine", "set5", [31.0], tag=tag, protocol="BI-x4/rgb")
        ResultStore(Path("results/local")).write(run)
    words = [word for one in renames for word in ("--rename", one)]
    shown = harness("report", "results", "--models", "mine:a,mine:b", *words)
    assert shown.exit_code == 0, shown.output
    assert re.findall(r"(?m)^\| (.*?) +\| \*?\*?31", shown.stdout) == names


def test_the_tables_of_the_paper_say_how_to_make_one_of_ones_own(harness) -> None:
    ResultStore(Path("results/local")).write(mine())
    hint = "For a table of your own, add --models NAME,..."
    assert hint in harness("report", "results", "--format", "md").stderr
    assert hint not in harness("report", "results", "--models", "mine").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("table2 --datasets set5", "--datasets is for harness report results"),
        ("claims --models mine", "--models is for the reports results, crops and page"),
        ("results --digits 2,x", "--digits takes the decimals"),
        ("results --rename mine", "--rename takes NAME=TEXT"),
        ("results --models mine --format pdf", "can be written as md, tex, csv, html"),
        ("results --models mine --format doc", "No format is called 'doc'"),
        ("results --models mine --image set5/baby", "--image is for the reports crops and page"),
    ],
)
def test_options_that_do_not_fit_are_refused(harness, words: str, said: str) -> None:
    ResultStore(Path("results/local")).write(mine())
    shown = harness("report", *words.split())
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert said in shown.stderr
    assert not Path("results/local/reports").exists()
