from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.hostile.case import Case, nothing

PAPER = """
[paper]
id = "{id}"
title = "{title}"
subject = "{subject}"

[methods]
V = "vdsr"

[[table]]
id = "{table}"
title = "T"
columns = ["set5"]
cells = "{cells}"
{more}
"""
FINE = {
    "id": "p",
    "title": "P",
    "subject": "V",
    "table": "t",
    "cells": "x4 | V | 31.35/0.8838",
    "more": "",
}
PLOT = """
[[plot]]
id = "f"
title = "F"
set = "set5"
scale = 4
parameters = { V = 0 }
"""
LIST = "list papers --paper p.toml"


def paper(name: str, said: str, words: str = LIST, code: int = 2, /, **parts: str) -> Case:
    make = partial(Path("p.toml").write_text, PAPER.format(**{**FINE, **parts}))
    return Case(f"paper: {name}", make, words, code, said)


def raw(name: str, content: bytes, said: str) -> Case:
    return Case(f"paper: {name}", partial(Path("p.toml").write_bytes, content), LIST, 2, said)


CASES = [
    paper("fine", "P", LIST, 0),
    paper("id that climbs out", "cannot be read ([paper]: id", id="../../x"),
    paper("id of a table that climbs out", "cannot be read ([[table]] ../x: id", table="../x"),
    paper("id that is a format", "cannot be read ([paper]: id", id="{0}"),
    paper("subject that is no method", "no method is called 'W'", subject="W"),
    paper("unknown key", "no key is called 'rulez': did you mean rules?", more='rulez = "usual"'),
    paper("unknown preset of rules", "no value is called 'x'", more='rules = "x"'),
    paper(
        "cells that are words",
        "V on Set5: 'many/0.8' is not of the form",
        cells="x4 | V | many/0.8",
    ),
    paper("cells without end", "is not of the form", cells=f"x4 | V | 1e{'9' * 999}/0.8"),
    paper("a scale of nothing", "is not a scale such as x4", cells="x0 | V | 31.35/0.8838"),
    paper(
        "a row too long",
        "is not a scale such as x4, a method and 1 cells",
        cells="x4 | V | 1/1 | 1/1 | 1/1",
    ),
    paper("decimals below zero", "cannot be read", more="scores = { psnr = -1 }"),
    paper(
        "words of a stranger",
        r"\x1b]0;title\x07",
        LIST,
        0,
        title="\\u001b]0;title\\u0007<script>alert(1)</script>",
    ),
    paper(
        "a claim on what is not there",
        "no other method is called 'W'",
        more='[[claim]]\nkey = "k"\nwhere = "w"\nquote = "q"\ntest = { beats = ["W"] }',
    ),
    paper(
        "a test that runs a program",
        "cannot be read",
        more='[[claim]]\nkey = "k"\nwhere = "w"\nquote = "q"\ntest = { plugin = "os:system(1)" }',
    ),
    paper("a key like a place", "no key is called", more='"a - at `$.table[9]" = 1'),
    paper("a count of nothing", "cannot be read ([[plot]] f", more=PLOT),
    raw("too large", b"#" * ((1 << 20) + 1), "at most 1,048,576 are read"),
    paper("unknown table", "no key is called 'clam': did you mean claim?", more="[[clam]]"),
    raw("no text", b"\0\xff", "cannot be read"),
    raw("nothing", b"", "[paper] is missing"),
    raw("nested", b"a = " + b"[" * 100_000, "cannot be read"),
    Case("paper: a folder", Path("p.toml").mkdir, LIST, 2, "is a folder, not a file"),
    Case("paper: not there", nothing, "report all --paper p.toml", 2, "There is no paper file"),
    Case("paper: a path", nothing, "report all --paper ../x", 2, "There is no paper file"),
    Case(
        "paper: a device",
        nothing,
        "claims --paper /dev/zero",
        2,
        "/dev/zero is a device, not a file",
    ),
]
