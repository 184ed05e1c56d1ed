"""A mistake in a paper's file is told in one sentence: the file, the key, and the near name."""

import re
from pathlib import Path
from typing import get_args

import pytest

from harness.cards import PRESETS
from harness.errors import UsageError
from harness.paper.schema import Paper, paper
from harness.paper.vocabulary import Rules

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
    "key of the paper": ('title = "One"', 'titel = "One"', "paper: ...titel... mean title"),
    "key of a table": ("columns", "colums", "[[table]] results: ...colums... mean columns"),
    "key of an ablation": ("whole", "hole", "[[ablation]] parts: ...hole... mean whole"),
    "key of a plot": ("\nparameters", "\nparams", "[[plot]] sizes: ...params... mean parameters"),
    "key of a number": ("{ value", "{ valeu", "numbers: ...valeu... mean value"),
    "type of a number": ("{ value = 4", '{ value = "4"', "numbers.value: Expected `float"),
    "key of an ambiguity": ("evidence", "proof", "[[ambiguity]] blocks: ...'proof': there are key"),
    "key of the reading": ("taken = { text", "taken = { txt", "blocks: taken: ... mean text"),
    "key of a reading": ("[{ text", "[{ txt", "blocks: others[0]: ...'txt': did you mean text"),
    "a reading alone": (
        '[{ text = "Five.", parameters = 1_200 }]',
        "[]",
        "blocks: others: Expected",
    ),
    "two counts": (
        "{ blocks = 4 }",
        "{ blocks = 4 }, parameters = 1_000",
        "blocks: taken: the parameters of a network that can be built are counted",
    ),
    "two ambiguities": (
        "[[doubt]]",
        GOOD[GOOD.index("[[ambiguity]]") : GOOD.index("[[doubt]]")] + "[[doubt]]",
        "two ambiguities are called 'blocks'",
    ),
    "key of a doubt": ("reason", "raeson", "[[doubt]] One | set5 | ssim: ... mean reason"),
    "key of a claim": ("by_hand", "byhand", "[[claim]] looks: ...byhand... mean by_hand"),
    "no paper": ('[paper]\nid = "one2020"\ntitle = "One"\nsubject = "One"\n', "", "field `paper`"),
    "no methods": (GOOD[GOOD.index("[methods]") : GOOD.index("[[table]]")], "", "field `methods`"),
    "no title": ('title = "Table 1"', "", "[[table]] results: ...field `title`"),
    "no scale": ("scale = 4\nwhole", "whole", "[[ablation]] parts: ...field `scale`"),
    "no reason": ('reason = "Odd."', "", "[[doubt]] One | set5 | ssim: ...field `reason`"),
    # Types
    "title of a table": ('"Table 1"', "1", "[[table]] results: title: Expected `str`, got `int`"),
    "date": ('"Table 1"', "2020-01-01", "[[table]] results: title: Expected `str`, got `date`"),
    "one column": ('["set5", "set14"]', '"set5"', "results: columns: Expected `array`, got `str`"),
    "text in a list": ("28.30]", '"28.30"]', "parts: psnr[1]: Expected `float`, got `str`"),
    "one doubt": ("[[doubt]]", "[doubt]", "doubt: Expected `array`, got `object`"),
    "number of a method": ('Two = "two"', "Two = 2", "methods: Expected `str`"),
    "id with a slash": ('"results"', '"re/sults"', "re/sults: id: Expected"),
    "empty id": ('"results"', '""', "[[table]] : id: Expected"),
    "id that is a number": ('"results"', "5", "[[table]] 5: id: Expected `str`"),
    "empty name of the paper": ('"one2020"', '""', "paper.id: Expected"),
    "exception": ('Two = "full-range"', "Two = 3", "results: exceptions: Expected `str`"),
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
    "no number": ("28.50/", "28.5O/", "'28.5O/0.7800' of One is not of the form psnr/ssim"),
    "negative": ("28.50/", "-28.50/", "'-28.50/0.7800' of One is not of the form"),
    "nan": ("28.50/", "nan/", "'nan/0.7800' of One is not of the form"),
    "inf": ("28.50/", "inf/", "'inf/0.7800' of One is not of the form"),
    "one score": ("28.50/0.7800", "28.50", "'28.50' of One is not of the form psnr/ssim"),
    "three scores": (
        "28.50/0.7800",
        "28.50/1/2",
        "'28.50/1/2' of One is not of the form psnr/ssim",
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
    "row twice": (
        "x4 | Two",
        "x4 | One",
        "two ids, columns, rows or keys of claims are called 'results-one'",
    ),
    "no columns": ('["set5", "set14"]', "[]", "results: columns: Expected `array` of length >= 1"),
    "empty column": ('"set14"]', '""]', "results: columns[1]: Expected"),
    "no scores": ("columns", "scores = {}\ncolumns", "results: scores: ... of length >= 1"),
    "decimals": (
        "columns",
        "scores = { psnr = 99 }\ncolumns",
        "results: scores: Expected `int` <= 9",
    ),
    "other scores": ("columns", "scores = { psnr = 2 }\ncolumns", "not of the form psnr"),
    "border": ("columns", "border = -1\ncolumns", "results: border: Expected `int` >= 0"),
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
        "parts: scale: Expected `int` >= 1",
    ),
    "set of a plot": ('1"\nset = "set14"', '1"\nset = "set1"', "sizes: no set ... mean set14"),
    "scale of a plot": (
        "scale = 4\nparam",
        "scale = 3\nparam",
        "sizes: no set with numbers at x3 is called 'set14'",
    ),
    "method of a plot": ("{ One = 1_000", "{ Oen = 1_000", "sizes: no method ... mean One"),
    "no parameters": ("{ One = 1_000", "{ One = 0", "sizes: parameters: Expected `float` > 0"),
    "id of an ablation with a dot": ('"parts"', '"pa.rts"', "pa.rts: id: Expected"),
    "variant with a slash": ("less =", '"le/ss" =', "parts: variants: Expected"),
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
    "id twice": ('"sizes"', '"results"', "are called 'results'"),
    "key twice": ('"looks"', '"size"', "are called 'size'"),
    "key of a row": ('"looks"', '"results-one"', "are called 'results-one'"),
    "key of a table's id": ('"looks"', '"results"', "are called 'results'"),
    # Claims
    "test and by_hand": ("by_hand", f"test = {TEST}\nby_hand", "looks: it needs either a test or"),
    "neither": ('by_hand = "No number."', "", "looks: it needs either a test or a judgement"),
    "empty test": (TEST, "{}", "size: it needs either a test or a judgement"),
    "test in words": (TEST, '"count"', "size: test: Expected `object`, got `str`"),
}
TESTS = {
    "unknown test": ('{ cont = "parameters" }', "no test is called 'cont': did you mean count"),
    "key of a test": ('{ count = "depth", abuot = "5" }', "no key ...abuot... mean about"),
    "two tests": ('{ count = "depth", about = "5", pareto = "macs" }', "no key ...pareto"),
    "quantity": ('{ count = "parametres" }', "count: no value ... mean parameters"),
    "count of nothing": ('{ count = "depth" }', "needs either about or at_least"),
    "count of both": ('{ count = "depth", about = "5", at_least = 5 }', "either about or at_least"),
    "count in words": ('{ count = "depth", about = "5 M" }', "about: Expected"),
    "count as a number": ('{ count = "depth", about = 5 }', "about: Expected `str`, got `int`"),
    "count of nan": ('{ count = "depth", at_least = nan }', "at_least: Expected `float` >= 0"),
    "method": ('{ beats = ["Tow"] }', "no other method ...Tow... mean Two"),
    "itself": ('{ beats = ["One"] }', "no other method is called 'One'"),
    "own method": ('{ beats = ["Two"], method = "Oen" }', "Oen has no row in any table"),
    "table": ('{ beats = ["Two"], table = "t" }', "One has no row in t"),
    "set": ('{ beats = ["Two"], sets = ["set6"] }', "no set ...set6... mean set5"),
    "metric": ('{ beats = ["Two"], metrics = ["psrn"] }', "no metric ...psrn... mean psnr"),
    "no metric": ('{ beats = ["Two"], metrics = [] }', "metrics: ... of length >= 1"),
    "no list": ('{ beats = "Two" }', "beats: Expected `array`, got `str`"),
    "no column": ('{ beats = ["Two"], sets = ["set14"] }', "One and Two have no numbers in the"),
    "no number": ('{ rank = "first", method = "Two", sets = ["set14"] }', "have no numbers in"),
    "no margin": ('{ within = ["Two"] }', "within needs either of or lead_over"),
    "two margins": (
        '{ within = ["Two"], of = 1, lead_over = "Bicubic" }',
        "either of or lead_over",
    ),
    "within none": ("{ within = [], of = 1 }", "within: ... of length >= 1"),
    "within a column": ('{ within = ["Two"], of = 1, sets = ["set14"] }', "One and Two have no"),
    "lead over none": ('{ within = ["Two"], lead_over = "Bicbic" }', "method ... mean Bicubic"),
    "fewer": ('{ within = ["Two"], of = 1, fewer = "layers" }', "fewer: no value ...'layers'"),
    "rank": ('{ rank = "second" }', "rank: no value ...'second': there are first, upper half"),
    "rank by": ('{ rank = "first", by = "size" }', "by: no value ...'size': there are scores"),
    "pareto": ('{ pareto = "scores" }', "pareto: no value ...'scores'"),
    "equals one": ('{ equals = ["depth"] }', "equals: Expected `array` of length 2, got 1"),
    "equals no number": ('{ equals = ["depth", "detph"] }', "no part of a cell is called 'detph'"),
    "equals two scores": ('{ equals = ["depth", "One | set5"] }', "'One | set5' names no metric"),
    "equals no variant": ('{ equals = ["depth", "parts | al"] }', "no part of a cell"),
    "equals no cell": ('{ equals = ["depth", "Two | set14 | psnr"] }', "is no printed cell"),
    "gain": ('{ gain = [["all", "les"]] }', "no variant ...'les'... mean less"),
    "gain of no ablation": (
        '{ gain = [["all", "less"]], ablation = "t" }',
        "no ablation ... parts",
    ),
    "gain of none": ("{ gain = [] }", "gain: Expected `array` of length >= 1"),
    "gain of one": ('{ gain = [["all"]] }', "gain[0]: Expected `array` of length 2, got 1"),
    "outlier": ('{ outlier = "set6", against = "Two" }', "no set ...set6... set5"),
    "outlier of none": ('{ outlier = "set5" }', "field `against`"),
    "against": ('{ outlier = "set5", against = "Tow" }', "no other method ...Tow... mean Two"),
    "against nothing": (
        '{ outlier = "set14", against = "Two" }',
        "no set ...'set14': did you mean set5",
    ),
    "against itself": ('{ outlier = "set14", against = "One" }', "no other method ...'One'"),
    "one way": ('{ spread = ["as-rgb"], cells = "set5" }', "spread: ... of length >= 2"),
    "cells": ('{ spread = ["as-rgb", "full-range"], cells = "set6" }', "no method, set ... set5"),
    "rules": ('{ spread = ["one", "two"], cells = "One", rules = "r" }', "no value"),
    "score": (
        '{ spread = ["one", "two"], cells = "One", metric = "mae" }',
        "metric is called 'mae'",
    ),
    "plug-in": ('{ plugin = "mine" }', "plugin: Expected"),
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
        is_told(message(tmp_path, ""), "field `paper`")

    def test_one_with_a_number_for_a_table(self, tmp_path: Path) -> None:
        text = "plot = [5]\n" + GOOD.replace("[[plot]]", "[[other]]")
        is_told(message(tmp_path, text), "plot[0]: Expected `object`, got `int`")

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

    def test_several_scales_and_fewer_decimals(self, tmp_path: Path) -> None:
        found = self.read(
            tmp_path,
            ("x4 | Two", "x2 | One"),
            ("32.00/0.8900", "32.0/0.89"),
            ("One | set5 |", "x4 | One | set5 |"),
        )
        assert [row.scale for row in found.rows] == [4, 4, 4, 2]
        assert found.rows[1].printed["set5", "psnr"] == 32.0

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
