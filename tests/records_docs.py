"""The tables of fields in docs/records.md, made from the docstrings of the types.

``python -m tests.records_docs`` writes them.
"""

import re
from inspect import get_annotations, getdoc
from pathlib import Path

from harness import record

DOCUMENT = Path(__file__).parents[1] / "docs/records.md"


def filled(text: str) -> str:
    """The document with the fields of a type below each comment that names one."""
    table = re.compile(r"(<!-- fields of (\w+) -->\n)(?:\|.*\n)*")
    return table.sub(lambda found: found[1] + _table(getattr(record, found[2])), text)


def _table(kind: type) -> str:
    meanings = _meanings(kind)
    types = {
        name: getattr(hint, "__forward_arg__", hint)  # that of a TypedDict
        for name, hint in get_annotations(kind).items()
    }
    rows = [(f"`{name}`", f"`{types[name]}`", meanings[name]) for name in types]
    assert len(rows) == len(meanings), f"the docstring of {kind.__name__} lists an unknown field"
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = [" | ".join(line) for line in [("field", "type", "meaning"), ("---",) * 3, *cells]]
    return "".join(f"| {line} |\n" for line in lines)


def _meanings(kind: type) -> dict[str, str]:
    """The meaning of each field, from the list of attributes in a docstring."""
    _, _, attributes = str(getdoc(kind)).partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    return {name: " ".join(text.rstrip(".").split()).replace("``", "`") for name, text in entries}


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text()))
