"""A mistake in a paper's file is told in one sentence: the file, the key, and the near name."""

import re
from pathlib import Path
from typing import get_args

import pytest

from harness.cards import PRESETS
from harness.data.testsets import register_testsets
from harness.errors import UsageError
from harness.paper.schema import Paper, paper, remarks
from harness.paper.vocabulary import Beats, Rules
from harness.registry import load_plugins

GOOD = '''
[paper]
id = "one2020"
title = "One"
subject = "One"

[methods]
Bicubic = "bicubic"
One = "one"
Two = "two"
"One+" = "one+"

[[table]]
id = "results"
title = "Table 1"
columns = ["set5", "set14"]
exceptions = { Two = "full-range", "One | set5" = "as-rgb" }
cells = """
x4 | Bicubic | 28.42/0.8104 | 26.00/0.7027
x4 | One     | 32.00/0.8900 | 28.50/0.7800
x4 | One+    | 32.10/-      | -
x4 | Two     | 31.00/0.8800 | -/-
"""

[[ablation]]
id = "parts"
title = "Table 2"
model = "one"
set = "set14"
scale = 4
whole = "all"
variants = { all = { x = true }, less = { x = false } }
psnr = [28.50, 28.30]

[[plot]]
id = "sizes"
title = "Figure 1"
set = "set14"
scale = 4
parameters = { One = 1_000 }

[numbers]
depth = { value = 4, where = "Section 1", quote = "4 layers" }

[[ambiguity]]
key = "blocks"
where = "Section 2"
quote = "some blocks"
question = "How many?"
taken = { text = "Four.", arguments = { blocks = 4 } }
others = [{ text = "Five.", parameters = 1_200 }]
evidence = "It says 1k."

[[doubt]]
cell = "One | set5 | ssim"
seen = "unusual"
reason = "Odd."

[[claim]]
key = "size"
where = "Section 1"
quote = "1k"
test = { count = "parameters", about = "1k" }

[[claim]]
key = "looks"
where = "Section 1"
quote = "better"
by_hand = "No number."
'''
TEST = '{ count = "parameters", about = "1k" }'


def message(folder: Path, text: str | bytes, name: str = "mine.toml") -> str:
    """Return the error message for a paper's file."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return told(path)


def told(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        paper(str(path))
    return str(caught.value)


def test_without_a_mistake_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    found = paper(str(tmp_path / "mine.toml"))
    assert [row.method for row in found.rows] == ["Bicubic", "One", "One+", "Two"]
    assert [(row.model, row.self_ensemble) for row in found.rows] == [
        *(("bicubic", False), ("one", False), ("one", True), ("two", False))
    ]
    assert found.rows[2].printed == {("set5", "psnr"): 32.1}
    assert found.rows[3].sets == ["set5"]
    assert found.tests["looks"] is None


# By mistake: the text to replace, its replacement, and the error message ("..." stands for words).
MISTAKES = {
    # Keys
    "key of the file": ("[[plot]]", "[[plots]]", "no key is called 'plots': did you mean plot?"),
    "key of the paper": ('title = "One"', 'titel = "One"', "[paper]: ...titel... mean title"),
    "key of a table": ("columns", "colums", "[[table]] results: ...colums... mean columns"),
    "key of an ablation": ("whole", "hole", "[[ablation]] parts: ...hole... mean whole"),
    "key of a plot": ("\nparameters", "\nparams", "[[plot]] sizes: ...params... mean parameters"),
    "key of a number": ("{ value", "{ valeu", "[numbers]: ...valeu... mean value"),
    "type of a number": (
        "{ value = 4",
        '{ value = "4"',
        "[numbers]: value must be a number or a list",
    ),
    "key of an ambiguity": ("evidence", "proof", "[[ambiguity]] blocks: ...'proof': there are key"),
    "key of the reading": ("taken = { text", "taken = { txt", "blocks: taken: ... mean text"),
    "key of a reading": ("[{ text", "[{ txt", "blocks: others[0]: ...'txt': did you mean text"),
    "a reading alone": (
        '[{ text = "Five.", parameters = 1_200 }]',
        "[]",
        "blocks: others must be a list of length >= 1",
    ),
    "two counts": (
        "{ blocks = 4 }",
        "{ blocks = 4 }, parameters = 1_000",
        "blocks: taken: the parameters of a network that can be built are counted",
    ),
    "two ambiguities": (
        "[[doubt]]",
        GOOD[GOOD.index("[[ambiguity]]") : GOOD.index("[[doubt]]")] + "[[doubt]]",
        "[[ambiguity]] blocks stands twice",
    ),
    "key of a doubt": ("reason", "raeson", "[[doubt]] One | set5 | ssim: ... mean reason"),
    "key of a claim": ("by_hand", "byhand", "[[claim]] looks: ...byhand... mean by_hand"),
    "no paper": (
        '[paper]\nid = "one2020"\ntitle = "One"\nsubject = "One"\n',
        "",
        "[paper] is missing",
    ),
    "no methods": (
        GOOD[GOOD.index("[methods]") : GOOD.index("[[table]]")],
        "",
        "[methods] is missing",
    ),
    "no title": ('title = "Table 1"', "", "[[table]] results: title is missing"),
    "no scale": ("scale = 4\nwhole", "whole", "[[ablation]] parts: scale is missing"),
    "no reason": ('reason = "Odd."', "", "[[doubt]] One | set5 | ssim: reason is missing"),
    # Types
    "title of a table": (
        '"Table 1"',
        "1",
        "[[table]] results: title must be text in quotation marks",
    ),
    "date": ('"Table 1"', "2020-01-01", "[[table]] results: title must be text in quotation marks"),
    "one column": (
        '["set5", "set14"]',
        '"set5"',
        'results: columns must be a list, such as ["one", "two"]',
    ),
    "text in a list": ("28.30]", '"28.30"]', "parts: psnr[1] must be a number"),
    "one doubt": ("[[doubt]]", "[doubt]", "(write [[doubt]] in place of [doubt])"),
    "number of a method": ('Two = "two"', "Two = 2", "each value of methods must be text"),
    "id with a slash": ('"results"', '"re/sults"', "re/sults: id must be a word of letters"),
    "empty id": ('"results"', '""', "[[table]] : id must be a word"),
    "id that is a number": ('"results"', "5", "[[table]] 5: id must be text"),
    "empty name of the paper": ('"one2020"', '""', "[paper]: id must be a word"),
    "exception": (
        'Two = "full-range"',
        "Two = 3",
        "results: each value of exceptions must be text",
    ),
    "kind of a doubt": ('"unusual"', '"odd"', "seen: ...'odd': there are print, measurement"),
    # Cells
    "a cell too few": (
        " | 28.50/0.7800",
        "",
        "results: the row 'x4 | One ...is not a scale such as x4, a method and 2",
    ),
    "a cell too many": (
        "28.50/0.7800",
        "28.50/0.7800 | -",
        "the row 'x4 | One ...is not a scale such as x4, a method and 2",
    ),
    "no number": ("28.50/", "28.5O/", "'28.5O/0.7800' ...is not of the form psnr/ssim"),
    "negative": ("28.50/", "-28.50/", "'-28.50/0.7800' ...is not of the form"),
    "nan": ("28.50/", "nan/", "'nan/0.7800' ...is not of the form"),
    "inf": ("28.50/", "inf/", "'inf/0.7800' ...is not of the form"),
    "one score": ("28.50/0.7800", "28.50", "'28.50' ...is not of the form psnr/ssim"),
    "three scores": ("28.50/0.7800", "28.50/1/2", "'28.50/1/2' ...is not of the form psnr/ssim"),
    "a PSNR with one decimal": (
        "28.50/",
        "28.5/",
        "One on Set14: 28.5 has 1 decimal, and the table has 2 of psnr...{ psnr = 1, ssim = 4 }",
    ),
    "an SSIM with three": (".7800", ".780", "0.780 has 3 decimals, and the table has 4 of ssim"),
    "a PSNR with three": ("28.50/", "28.500/", "28.500 has 3 decimals, and the table has 2 of ps"),
    "scores without point": ("28.50/0.7800", "28/1", "28 has 0 decimals, and the table has 2 of"),
    "SSIM above one": ("0.7800", "7.800", "One on Set14: 7.800 is no SSIM, which is at most 1"),
    "scores in another order": (
        "28.50/0.7800",
        "0.7800/28.50",
        "28.50 is no SSIM, which is at most 1: a cell is psnr/ssim",
    ),
    "decimal comma": ("28.50/", "28,50/", "'28,50/0.7800' ...psnr/ssim: write numbers with a po"),
    "dash of print": (
        "28.50/0.7800",
        "\N{EM DASH}",
        "psnr/ssim: write -/- where nothing is printed",
    ),
    "no scale in a row": ("x4 | One ", "One ", "the row 'One ...is not a scale"),
    "scale of zero": ("x4 | One ", "x0 | One ", "the row 'x0 ...is not a scale"),
    "unknown method": ("x4 | One ", "x4 | Onee ", "results: no method ...Onee... mean One"),
    "empty method": ("x4 | One ", "x4 | ", "results: no method is called ''"),
    "bar in a method": (
        "x4 | One ",
        "x4 | O|e ",
        "the row 'x4 | O|e ...is not a scale such as x4, a method and 2",
    ),
    "row twice": ("x4 | Two", "x4 | One", "the row One at x4 of results stands twice"),
    "column twice": ('"set14"]', '"Set5"]', "column set5 of results stands twice"),
    "method twice": ('Two = "two"', 'One = "two"', "(One stands twice in [methods], line 10)"),
    "border in words": ("columns", 'border = "4"\ncolumns', "border must be a whole number"),
    "table with a report's name": (
        '"results"',
        '"rules"',
        "[[table]] rules: a report has this name: choose another id",
    ),
    "plot with a report's name": ('"sizes"', '"claims"', "[[plot]] claims: a report has this"),
    "no columns": ('["set5", "set14"]', "[]", "results: columns must be a list of length >= 1"),
    "empty column": ('"set14"]', '""]', "results: columns[1] must be a word"),
    "no scores": (
        "columns",
        "scores = {}\ncolumns",
        "results: scores must be a table of length >= 1",
    ),
    "decimals": (
        "columns",
        "scores = { psnr = 99 }\ncolumns",
        "results: each value of scores must be a whole number <= 9",
    ),
    "other scores": ("columns", "scores = { psnr = 2 }\ncolumns", "not of the form psnr"),
    "border": ("columns", "border = -1\ncolumns", "results: border must be a whole number >= 0"),
    # Names
    "subject": ('subject = "One"', 'subject = "Onne"', "[paper]: no method ...Onne... mean One"),
    "preset": ("columns", 'rules = "usuall"\ncolumns', "results: ...no value ... mean usual"),
    "preset of a method": (
        '"full-range"',
        '"fullrange"',
        "results: ...no value ... mean full-range",
    ),
    "preset of a set": ('"as-rgb"', '"asrgb"', "results: ...no value ... mean as-rgb"),
    "method of a preset": ("{ Two =", "{ Tow =", "results: no method ...Tow... mean Two"),
    "set of a preset": (
        '"One | set5" =',
        '"One | set6" =',
        "results: no ...set6... mean One | set5",
    ),
    "variant": ('"all"\nvar', '"al"\nvar', "parts: no variant ...'al'... mean all"),
    "no variants": ("{ all = { x = true }, less = { x = false } }", "{}", "parts: no variant"),
    "title of a variant": ("psnr =", 'titles = { les = "L" }\npsnr =', "parts: ... mean less"),
    "a PSNR too few": (", 28.30]", "]", "parts: ...differ in length or names"),
    "reading": (
        "psnr =",
        'readings = [["all", "les"]]\npsnr =',
        "parts: ...differ in length or names",
    ),
    "rules of an ablation": (
        "psnr =",
        'rules = "a"\npsnr =',
        "parts: ...no value ...: there are us",
    ),
    "scale of an ablation": (
        "scale = 4\nwhole",
        "scale = 0\nwhole",
        "parts: scale must be a whole number >= 1",
    ),
    "set of a plot": ('1"\nset = "set14"', '1"\nset = "set1"', "sizes: no set ... mean set14"),
    "scale of a plot": (
        "scale = 4\nparam",
        "scale = 3\nparam",
        "sizes: no set with numbers at x3 is called 'set14'",
    ),
    "method of a plot": ("{ One = 1_000", "{ Oen = 1_000", "sizes: no method ... mean One"),
    "no parameters": (
        "{ One = 1_000",
        "{ One = 0",
        "sizes: each value of parameters must be a number > 0",
    ),
    "id of an ablation with a dot": ('"parts"', '"pa.rts"', "pa.rts: id must be a word"),
    "variant with a slash": ("less =", '"le/ss" =', "parts: each key of variants must be a word"),
    "doubt of no set": ("One | set5 |", "One | set6 |", "no part of a cell ...set6... mean set5"),
    "doubt of no number": ("One | set5 |", "Two | set14 |", "is no printed cell: write table"),
    "doubt of no score": ("One | set5 | ssim", "One+ | set5 | ssim", "is no printed cell: write"),
    "doubt of no method": ("One | set5 |", "set5 |", "is several printed cells: write table"),
    "doubt of no scale": (
        'cell = "One | set5 |',
        'cell = "x3 | One | set5 |',
        "no part ...'x3': there are results, x4",
    ),
    "doubt of two cells": ("x4 | Two", "x2 | One", "is several printed cells: write table | x4"),
    "doubt of two methods": (
        'cell = "One | set5',
        'cell = "One | Two | set5',
        "is no printed cell: write table",
    ),
    "empty doubt": ('cell = "One | set5 | ssim"', 'cell = ""', "no part of a cell is called ''"),
    "id twice": ('"sizes"', '"parts"', "[[ablation]] parts and [[plot]] parts have one name"),
    "key twice": ('"looks"', '"size"', "[[claim]] size stands twice"),
    "key of a row": ('"looks"', '"results-one"', "[[claim]] results-one and the row One at x4"),
    "key of a table's id": (
        '"looks"',
        '"results"',
        "[[table]] results and [[claim]] results have one name",
    ),
    # Claims
    "test and by_hand": ("by_hand", f"test = {TEST}\nby_hand", "looks: it needs either a test or"),
    "neither": ('by_hand = "No number."', "", "looks: it needs either a test or a judgement"),
    "empty test": (TEST, "{}", "size: it needs either a test or a judgement"),
    "test in words": (TEST, '"count"', "size: test must be a table"),
}
TESTS = {
    "unknown test": ('{ cont = "parameters" }', "no test is called 'cont': did you mean count"),
    "key of a test": ('{ count = "depth", abuot = "5" }', "no key ...abuot... mean about"),
    "two tests": ('{ count = "depth", about = "5", pareto = "macs" }', "no key ...pareto"),
    "quantity": ('{ count = "parametres" }', "count: no value ... mean parameters"),
    "count of nothing": ('{ count = "depth" }', "needs either about or at_least"),
    "count of both": ('{ count = "depth", about = "5", at_least = 5 }', "either about or at_least"),
    "count in words": ('{ count = "depth", about = "5 M" }', "about must be a number such as 5.2M"),
    "count as a number": ('{ count = "depth", about = 5 }', "about must be text"),
    "count of nan": ('{ count = "depth", at_least = nan }', "at_least must be a number >= 0"),
    "method": ('{ beats = ["Tow"] }', "no other method ...Tow... mean Two"),
    "itself": ('{ beats = ["One"] }', "no other method is called 'One'"),
    "own method": ('{ beats = ["Two"], method = "Oen" }', "Oen has no row in any table"),
    "table": ('{ beats = ["Two"], table = "t" }', "One has no row in t"),
    "set": ('{ beats = ["Two"], sets = ["set6"] }', "no set ...set6... mean set5"),
    "metric": ('{ beats = ["Two"], metrics = ["psrn"] }', "no metric ...psrn... mean psnr"),
    "no metric": ('{ beats = ["Two"], metrics = [] }', "metrics must be a list of length >= 1"),
    "no list": ('{ beats = "Two" }', 'beats must be a list, such as ["one", "two"]'),
    "no column": ('{ beats = ["Two"], sets = ["set14"] }', "One and Two have no numbers in the"),
    "no number": ('{ rank = "first", method = "Two", sets = ["set14"] }', "have no numbers in"),
    "no margin": ('{ within = ["Two"] }', "within needs either of or lead_over"),
    "two margins": (
        '{ within = ["Two"], of = 1, lead_over = "Bicubic" }',
        "either of or lead_over",
    ),
    "within none": ("{ within = [], of = 1 }", "within must be a list of length >= 1"),
    "within a column": ('{ within = ["Two"], of = 1, sets = ["set14"] }', "One and Two have no"),
    "lead over none": ('{ within = ["Two"], lead_over = "Bicbic" }', "method ... mean Bicubic"),
    "fewer": ('{ within = ["Two"], of = 1, fewer = "layers" }', "fewer: no value ...'layers'"),
    "rank": ('{ rank = "second" }', "rank: no value ...'second': there are first, upper half"),
    "rank by": ('{ rank = "first", by = "size" }', "by: no value ...'size': there are scores"),
    "pareto": ('{ pareto = "scores" }', "pareto: no value ...'scores'"),
    "equals one": ('{ equals = ["depth"] }', "equals must be a list of length 2"),
    "equals no number": ('{ equals = ["depth", "detph"] }', "no part of a cell is called 'detph'"),
    "equals two scores": ('{ equals = ["depth", "One | set5"] }', "'One | set5' names no metric"),
    "equals no variant": ('{ equals = ["depth", "parts | al"] }', "no part of a cell"),
    "equals no cell": ('{ equals = ["depth", "Two | set14 | psnr"] }', "is no printed cell"),
    "gain": ('{ gain = [["all", "les"]] }', "no variant ...'les'... mean less"),
    "gain of no ablation": (
        '{ gain = [["all", "less"]], ablation = "t" }',
        "no ablation ... parts",
    ),
    "gain of none": ("{ gain = [] }", "gain must be a list of length >= 1"),
    "gain of one": ('{ gain = [["all"]] }', "gain[0] must be a list of length 2"),
    "outlier": ('{ outlier = "set6", against = "Two" }', "no set ...set6... set5"),
    "outlier of none": ('{ outlier = "set5" }', "against is missing"),
    "against": ('{ outlier = "set5", against = "Tow" }', "no other method ...Tow... mean Two"),
    "against nothing": (
        '{ outlier = "set14", against = "Two" }',
        "no set ...'set14': did you mean set5",
    ),
    "against itself": ('{ outlier = "set14", against = "One" }', "no other method ...'One'"),
    "one way": ('{ spread = ["as-rgb"], cells = "set5" }', "spread must be a list of length >= 2"),
    "cells": ('{ spread = ["as-rgb", "full-range"], cells = "set6" }', "no method, set ... set5"),
    "rules": ('{ spread = ["one", "two"], cells = "One", rules = "r" }', "no value"),
    "score": (
        '{ spread = ["one", "two"], cells = "One", metric = "mae" }',
        "metric is called 'mae'",
    ),
    "plug-in": ('{ plugin = "mine" }', "plugin must be of the form module:function"),
}


def is_told(said: str, expected: str, place: str = "") -> None:
    """It is one sentence about the file."""
    start = re.escape(f"cannot be read ({place}")
    assert re.match(rf"The paper \S+/mine\.toml {start}[^\n]*\)\.\Z", said), said
    assert re.search(".*".join(map(re.escape, expected.split("..."))), said), said


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_it_is_told(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    is_told(message(tmp_path, GOOD.replace(old, new, 1)), expected)


@pytest.mark.parametrize(("test", "expected"), TESTS.values(), ids=TESTS)
def test_a_mistake_in_a_test_is_told_with_its_claim(
    tmp_path: Path, test: str, expected: str
) -> None:
    is_told(message(tmp_path, GOOD.replace(TEST, test)), expected, "[[claim]] size: ")


def test_rules_are_presets() -> None:
    assert list(get_args(Rules)) == list(PRESETS)


class TestFiles:
    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        assert told(tmp_path / "mine.toml") == f"There is no paper file {tmp_path}/mine.toml."

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (GOOD.encode("utf-16"), "utf-8"),
            (b"\xff", "utf-8"),
            (b"title = ", "Invalid value"),
            (GOOD.replace("[[plot]]", "[plot"), "line 35"),
            (f"{GOOD}\n[paper]\n", "paper"),
            ("a = " + "[" * 100_000, ""),
            (f"a = 1{'0' * 5000}", "5001 digits"),
        ],
        ids=["utf-16", "no text", "cut", "open bracket", "table twice", "deep", "huge number"],
    )
    def test_one_that_is_no_toml(self, tmp_path: Path, content: str | bytes, why: str) -> None:
        said = message(tmp_path, content)
        assert re.match(r"The paper \S+/mine\.toml cannot be read \(.*\)\.\Z", said), said
        assert why in said

    def test_a_large_one(self, tmp_path: Path) -> None:
        said = message(tmp_path, GOOD + "#" * (1 << 20))
        assert "and at most 1,048,576 are read" in said

    @pytest.mark.parametrize("name", ["mine.toml", "mine"])
    def test_a_folder(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).mkdir()
        assert "is a folder, not a file" in told(tmp_path / name)

    @pytest.mark.parametrize("name", ["mine.toml", "mine.txt"])
    def test_one_with_a_byte_order_mark_or_another_suffix(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(GOOD, encoding="utf-8-sig")
        assert paper(str(tmp_path / name)).subject == "One"

    def test_an_empty_one(self, tmp_path: Path) -> None:
        is_told(message(tmp_path, ""), "[paper] is missing")

    def test_one_with_a_number_for_a_table(self, tmp_path: Path) -> None:
        text = "plot = [5]\n" + GOOD.replace("[[plot]]", "[[other]]")
        is_told(message(tmp_path, text), "plot[0] must be a table")

    def test_a_name_that_no_paper_has(self) -> None:
        with pytest.raises(UsageError, match="No paper is called 'drfn202': did you mean drfn2020"):
            paper("drfn202")

    def test_what_is_written_into_it_is_read(self, tmp_path: Path) -> None:
        said = message(tmp_path, GOOD.replace("[[plot]]", "[[plots]]"))
        assert "plots" in said
        assert "flots" in message(tmp_path, GOOD.replace("[[plot]]", "[[flots]]"))


class TestUnusual:
    """What is odd and no mistake."""

    @staticmethod
    def read(folder: Path, *changes: tuple[str, str]) -> Paper:
        text = GOOD
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "mine.toml").write_text(text)
        return paper(str(folder / "mine.toml"))

    def test_several_scales(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, ("x4 | Two", "x2 | One"), ("One | set5 |", "x4 | One | set5 |"))
        assert [row.scale for row in found.rows] == [4, 4, 4, 2]

    @pytest.mark.parametrize("name", ["bi", "Bicubic", "BICUBIC"])
    def test_bicubic_degradation_is_bi(self, tmp_path: Path, name: str) -> None:
        found = self.read(tmp_path, ("columns", f'degradation = "{name}"\ncolumns'))
        assert found.tables[0].degradation == "BI" and not found.tables[0].obstacle(4)

    def test_names_in_any_case_and_other_names_of_sets(self, tmp_path: Path) -> None:
        register_testsets()
        test = '{ beats = ["TWO"], sets = ["BSD100"], metrics = ["PSNR"], method = "one" }'
        found = self.read(
            tmp_path,
            ('["set5", "set14"]', '["BSDS100", "Set14"]'),
            ('"One | set5"', '"One | bsd100"'),
            ("columns", "scores = { PSNR = 2, SSIM = 4 }\ncolumns"),
            ("x4 | Two ", "x4 | two "),
            ('subject = "One"', 'subject = "ONE"'),
            ("One | set5 | ssim", "one | b100 | SSIM"),
            ('set = "set14"', 'set = "SET14"'),
            (TEST, test),
        )
        assert found.tables[0].columns == ("b100", "set14") and found.subject == "One"
        assert found.tables[0].preset("One", "b100") == PRESETS["as-rgb"]
        assert found.rows[-1].method == "Two" and found.rows[-1].sets == ["b100"]
        assert list(found.doubted) == [("results", 4, "One", "b100", "ssim")]
        assert {one.set for one in (*found.ablations, *found.plots)} == {"set14"}
        judged = found.tests["size"]
        assert judged == Beats(beats=("Two",), sets=("b100",), metrics=("psnr",), method="One")
        assert found.compared(judged).own == {(4, "b100", "psnr"): 32.0}

    def test_a_number_of_the_text_is_as_exact_as_the_quotation(self, tmp_path: Path) -> None:
        numbers = (
            'rounded = { value = 28.5, where = "", quote = "28.5 dB" }\n'
            'exact = { value = 28.5, where = "", quote = "28.50 dB" }\n'
            'words = { value = 28, where = "", quote = "half of 56" }\n'
        )
        found = self.read(tmp_path, ("[numbers]\n", f"[numbers]\n{numbers}"))
        digits = {name: one.rounding for name, one in found.numbers.items()}
        assert digits == pytest.approx(
            {"rounded": 0.05, "exact": 0.005, "words": 0.5, "depth": 0.5}
        )

    def test_a_method_with_dashes_slashes_and_spaces(self, tmp_path: Path) -> None:
        name = "Two (ours) - x2/x4 \N{GREEK SMALL LETTER ALPHA}"
        found = self.read(
            tmp_path,
            ("x4 | Two", f"x4 | {name}"),
            ('Two = "two"', f'"{name}" = ""'),
            ("{ Two =", f'{{ "{name}" ='),
        )
        row = found.rows[-1]
        assert row.method == name and row.key == "~two-ours---x2-x4-\N{GREEK SMALL LETTER ALPHA}"

    def test_a_method_without_network_is_not_a_model_of_its_name(self, tmp_path: Path) -> None:
        found = self.read(
            tmp_path, ('Two = "two"', 'VDSR = ""'), ("x4 | Two ", "x4 | VDSR"), ("{ Two", "{ VDSR")
        )
        assert (found.rows[-1].key, found.rows[-1].word) == ("~vdsr", "vdsr")

    def test_the_largest_scale_is_one_that_can_be_measured(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, ("x4 | Two", "x8 | Two"))
        assert found.largest_scale == 4

    def test_other_scores(self, tmp_path: Path) -> None:
        found = self.read(
            tmp_path, ("columns", "scores = { psnr = 2, mae = 4 }\ncolumns"), ("| ssim", "| mae")
        )
        assert found.rows[0].printed["set5", "mae"] == 0.8104

    def test_a_paper_without_tables(self, tmp_path: Path) -> None:
        text = (
            GOOD[: GOOD.index("[[table]]")]
            + GOOD[GOOD.index("[numbers]") : GOOD.index("[[doubt]]")]
        )
        (tmp_path / "mine.toml").write_text(text)
        found = paper(str(tmp_path / "mine.toml"))
        assert found.rows == () and found.claims == () and found.doubted == {}


FURTHER_TABLE = """
[[table]]
id = "further"
title = "Table 4"
scores = { sim = 4 }
columns = ["set5"]
cells = "x4 | One | 0.8000"

[[ablation]]"""


class TestRemarks:
    """A valid paper with a likely mistake gets a remark."""

    @staticmethod
    def of(folder: Path, old: str = "", new: str = "") -> list[str]:
        load_plugins()
        register_testsets()
        text = GOOD.replace("28.30]", "28.31]").replace('= "one', '= "drfn')
        text = text.replace('= "two"', '= "edsr"').replace('"drfn2020"', '"mine"')
        assert old in text
        (folder / "mine.toml").write_text(text.replace(old, new, 1))
        return remarks(paper(str(folder / "mine.toml")))

    def test_of_a_good_one_there_are_none(self, tmp_path: Path) -> None:
        assert self.of(tmp_path) == []

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ('"edsr"', '"esdr"', "no model is called esdr: did you mean edsr, or a plug-in?"),
            ('"edsr"', '"quux"', "no model is called quux: it needs a plug-in."),
            (
                '2"\nmodel = "drfn"\nset = "set14"',
                '2"\nmodel = "drfn"\nset = "b10"',
                "no dataset is called b10: did you",
            ),
            ("[[ablation]]", FURTHER_TABLE, "no metric is called sim: did you mean ssim, or a pl"),
            ("columns", 'degradation = "BD"\ncolumns', "results: not measured, since the harness"),
            ("columns", "border = 0\ncolumns", "not of 0"),
            ("28.31]", "28.30]", "parts: if the PSNRs have not 2 decimals in print, set decimals."),
            ("set5 | ssim", "set5", "One | set5: without a metric, it is of psnr and ssim."),
        ],
    )
    def test_it_is_one_sentence(self, tmp_path: Path, old: str, new: str, said: str) -> None:
        assert said in " ".join(self.of(tmp_path, old, new))
