"""Make papers for tests: changed copies of a paper's TOML."""

from itertools import count
from pathlib import Path

from harness.paper.schema import Paper, paper
from harness.registry import PAPERS

_COPIES = count()


def changed(folder: Path, *replacements: tuple[str, str], of: str = "drfn2020") -> Paper:
    """Read a copy of a paper in which each first text, which is there once, is the second."""
    text = PAPERS.get(of).read_text(encoding="utf-8")
    for old, new in replacements:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / f"changed-{next(_COPIES)}.toml"
    path.write_text(text, encoding="utf-8")
    return paper(str(path))
