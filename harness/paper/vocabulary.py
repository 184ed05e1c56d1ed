"""The tests that a claim can name, as data; docs/papers.md has an example of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Scale = Annotated[int, Meta(ge=1, le=99)]
Amount = Annotated[float, Meta(ge=0, le=1e18)]

Quantity = Literal["parameters", "macs", "depth", "receptive_field", "narrowest_1x1"]
"""What can be counted on a network: see `harness.paper.claims.QUANTITIES`."""

Rules = Literal["usual", "full-range", "as-rgb", "edsr", "imdn", "vdsr"]
"""A preset of rules: see `harness.cards.PRESETS`."""


class Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a paper's TOML; other keys than its fields are refused."""


class ClaimTest(Data, frozen=True, kw_only=True):
    """How a claim is judged; the first field of each test names it."""


class Count(ClaimTest, frozen=True, kw_only=True):
    """A count on a network is about a printed number, or at least some number.

    Attributes:
        about: as printed, such as ``5.2M``: a count fits if it rounds to these digits.
        leaves_room: the text is open to networks that were not counted: it cannot be refuted.
    """

    count: Quantity
    of: str = ""
    readings: tuple[str, ...] = ()
    about: Annotated[str, Meta(pattern=r"\A(\d+(\.\d+)?[kMG]?)?\Z")] = ""
    at_least: Amount | None = None
    leaves_room: bool = False

    def __post_init__(self) -> None:
        if bool(self.about) == (self.at_least is not None):
            raise ValueError("the test count needs either about or at_least")

    def fits(self, count: float) -> bool:
        """Whether the network's count is the claimed one."""
        if self.at_least is not None:
            return count >= self.at_least
        claimed = self.about.rstrip("kMG")
        unit = {"k": 1e3, "M": 1e6, "G": 1e9}.get(self.about[-1], 1.0)
        decimals = len(claimed.partition(".")[2])
        return round(count / unit, decimals) == float(claimed)


class Compare(ClaimTest, frozen=True, kw_only=True):
    """A test of a row against other rows of a table.

    By default of the paper's subject, in the first table that has it, in all columns.
    """

    method: str = ""
    table: str = ""
    sets: tuple[str, ...] = ()
    metrics: Annotated[tuple[str, ...], Meta(min_length=1)] = ("psnr",)

    @property
    def others(self) -> tuple[str, ...]:
        """The methods that the test names beside its own."""
        return ()


class Beats(Compare, frozen=True, kw_only=True):
    """The method is better than others, or all if none is named, by so much in every column.

    With ``self_ensemble``, it runs with self-ensemble, and the table needs no such row.
    """

    beats: tuple[str, ...]
    by: Amount = 0.0
    self_ensemble: bool = False

    @property
    def others(self) -> tuple[str, ...]:
        """The methods that it is said to beat."""
        return self.beats


class Within(Compare, frozen=True, kw_only=True):
    """The method is at most a margin behind others, perhaps with less of something.

    Attributes:
        lead_over: instead of ``of``: the margin is the method's largest lead over this one.
    """

    within: Annotated[tuple[str, ...], Meta(min_length=1)]
    of: Amount | None = None
    lead_over: str = ""
    fewer: Quantity | None = None

    def __post_init__(self) -> None:
        if (self.of is None) == (not self.lead_over):
            raise ValueError("the test within needs either of or lead_over")

    @property
    def others(self) -> tuple[str, ...]:
        """The methods that it is behind, and that which it leads."""
        return (*self.within, self.lead_over) if self.lead_over else self.within


class Rank(Compare, frozen=True, kw_only=True):
    """The method is in the upper half of every column, or the first; of quantities the largest."""

    rank: Literal["first", "upper half"]
    by: Literal["scores"] | Quantity = "scores"


class Pareto(Compare, frozen=True, kw_only=True):
    """No method with a better score in a column has as little or less of the quantity."""

    pareto: Quantity


class Outlier(Compare, frozen=True, kw_only=True):
    """In a set, the method stands on the same side of another one as in the other columns."""

    outlier: str
    against: str

    @property
    def others(self) -> tuple[str, ...]:
        """The method that it is compared with."""
        return (self.against,)


class Equals(ClaimTest, frozen=True, kw_only=True):
    """Two printed numbers are the same; see `harness.paper.schema.Paper.number`."""

    equals: tuple[str, str]


class Gain(ClaimTest, frozen=True, kw_only=True):
    """In an ablation, by default the first, the first variant of each pair is better."""

    gain: Annotated[tuple[tuple[str, str], ...], Meta(min_length=1)]
    ablation: str = ""


class Spread(ClaimTest, frozen=True, kw_only=True):
    """Printed numbers follow one of several ways to score, not a mix of them.

    Attributes:
        spread: presets of rules (usual, full-range, as-rgb); or models, such as one interpolation
            in each pipeline.
        cells: a method or a set.
        rules: with models: the preset of their runs.
    """

    spread: Annotated[tuple[str, ...], Meta(min_length=2)]
    cells: str
    metric: str = "psnr"
    rules: Rules = "usual"


class Plugin(ClaimTest, frozen=True, kw_only=True):
    """A function judges: it gets the findings, the claim and the options; see docs/papers.md."""

    plugin: Annotated[str, Meta(pattern=r"\A[\w.]+:\w+\Z")]
    options: dict[str, Any] = {}


TESTS: Mapping[str, type[ClaimTest]] = {
    one.__name__.lower(): one
    for one in (Count, Beats, Within, Rank, Pareto, Equals, Gain, Outlier, Spread, Plugin)
}
"""The tests by the field that names them."""
