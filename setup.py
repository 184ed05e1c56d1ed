"""The text for package indexes, where the files that README.md links to do not lie beside it."""

import re
from pathlib import Path

from setuptools import setup


def _named(link: re.Match[str]) -> str:
    text, file = link.groups()
    return f"`{file}`" if text == file else f"{text} (`{file}`)"


README = Path("README.md").read_text(encoding="utf-8")
WITHOUT_PICTURES = re.sub(r"!\[[^]]*\]\([^)]+\)\n\n", "", README)

setup(
    long_description=re.sub(r"\[([^]]+)\]\((?!https?:)([^)]+)\)", _named, WITHOUT_PICTURES),
    long_description_content_type="text/markdown",
)
