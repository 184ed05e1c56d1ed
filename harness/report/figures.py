"""Figures, drawn without a display and the same bytes every time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from harness.errors import printable
from harness.report.forms import Format, escape_html

if TYPE_CHECKING:
    from matplotlib import figure


_STYLE: Mapping[Any, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "svg.hashsalt": "drfn-harness",
    # Text stays text, which can be searched, edited and read aloud.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar sign in a name begins no formula
    # Deflate is not the same in every build of zlib.
    "pdf.compression": 0,
    "savefig.dpi": 150,
}
_METADATA: Mapping[str, Mapping[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Figure:
    """A figure to be written in several formats.

    Attributes:
        name: its files' stem.
        draw: makes the matplotlib figure, in the house style.
        formats: of ``png``, ``svg`` and ``pdf``, those that suit it.
        title: what the figure is, for those who do not see it; by default its name.
        description: what it shows.
    """

    name: str
    draw: Callable[[], figure.Figure]
    formats: tuple[Format, ...] = ("png", "svg", "pdf")
    title: str = ""
    description: str = ""

    def render(self, form: Format) -> bytes:
        """The figure as a PNG, SVG or PDF file, with its title and description."""
        import matplotlib
        from matplotlib.text import Text

        with matplotlib.rc_context(), warnings.catch_warnings():
            # A letter that the font lacks is drawn as a box.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
            matplotlib.rcParams.update(_STYLE)
            stream, drawn = BytesIO(), self.draw()
            for text in drawn.findobj(Text):
                text.set_text(printable(text.get_text(), keep="\n"))
            drawn.savefig(stream, format=form, metadata=self._metadata(form))
        return self._titled(stream.getvalue()) if form == "svg" else stream.getvalue()

    def _metadata(self, form: Format) -> Mapping[str, Any]:
        words = {"Title": self.title or self.name, "Description": self.description}
        names = {"png": ("Title", "Description"), "pdf": ("Title",)}.get(form, ())
        return {
            **_METADATA[form],
            **{name: printable(words[name]) for name in names if words[name]},
        }

    def _titled(self, svg: bytes) -> bytes:
        """Name and describe an SVG file to browsers and screen readers."""
        start, opening, rest = svg.decode().partition("<svg ")
        attributes, _, content = rest.partition(">")
        words = {"title": self.title or self.name, "desc": self.description}
        stem = self.name.replace(" ", "-")  # a list of ids has spaces between them
        said = {f"{stem}-{tag}": (tag, words[tag]) for tag in words if words[tag]}
        elements = "".join(
            f'\n <{tag} id="{escape_html(key)}">{escape_html(text)}</{tag}>'
            for key, (tag, text) in said.items()
        )
        role = f'role="img" aria-labelledby="{escape_html(" ".join(said))}"'
        return f"{start}{opening}{role} {attributes}>{elements}{content}".encode()
