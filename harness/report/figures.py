"""Figures, drawn without a display and the same bytes every time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.partial import write_atomically
from harness.errors import HarnessError, printable
from harness.report.forms import Format

if TYPE_CHECKING:
    from matplotlib import figure

    from harness.run.train_log import Row

_STYLE: Mapping[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "svg.hashsalt": "drfn-harness",
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
    """

    name: str
    draw: Callable[[], figure.Figure]
    formats: tuple[Format, ...] = ("png", "svg", "pdf")

    def render(self, form: Format) -> bytes:
        """The figure as a PNG, SVG or PDF file."""
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
            drawn.savefig(stream, format=form, metadata=_METADATA[form])
        return stream.getvalue()


def draw_training(rows: Sequence[Row], unit: str, path: Path) -> None:
    """Draw loss, in its unit, and validation PSNR against the steps, as a PNG file.

    Raises:
        HarnessError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.add_subplot()
    dot = "o" if len(rows) == 1 else ""  # of one row there is no line
    losses = [row.loss for row in rows]
    left.plot([row.step for row in rows], losses, marker=dot, color="0.6", lw=1)
    left.set(xlabel="step", ylabel=f"training loss ({unit})", yscale="log")
    scored = [(row.step, row.psnr) for row in rows if row.psnr is not None]
    right = left.twinx()
    right.plot([step for step, _ in scored], [psnr for _, psnr in scored], "o-", color="C0", ms=3)
    right.set_ylabel("validation PSNR (dB)", color="C0")
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    try:
        write_atomically(path, stream.getvalue())
    except OSError as error:
        raise HarnessError(f"The curve {path} cannot be written ({error}).") from error
