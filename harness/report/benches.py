"""What ``harness bench`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.report.table import json_text, markdown_table

if TYPE_CHECKING:
    from harness.run.bench import Bench, Roof

_HEADERS = [
    "model",
    "set",
    "images",
    "forward (s)",
    "harness (s)",
    "harness / forward",
    "MP/s",
    "GFLOP/s",
    "of roof",
    "peak (MB)",
]


def bench_markdown(roof: Roof, benches: Sequence[Bench]) -> str:
    """The roof in a sentence, then one line a model and set."""
    compared = any(bench.naive is not None for bench in benches)
    headers = [*_HEADERS, *(["naive (s)", "naive / harness", "PSNR differs (dB)"] * compared)]
    table = markdown_table(headers, [_line(roof, bench) for bench in benches])
    return (
        f"The roof of this machine: {roof.flops / 1e9:.0f} GFLOP/s in fp32 matrix products, "
        f"{roof.bandwidth / 1e9:.1f} GB/s of memory.\n\n{table}"
    )


def bench_json(roof: Roof, benches: Sequence[Bench]) -> str:
    """The same for machines."""
    return json_text({"roof": asdict(roof), "benches": [asdict(one) for one in benches]})


def _line(roof: Roof, bench: Bench) -> list[str]:
    line = [
        bench.model,
        bench.dataset,
        str(bench.images),
        f"{bench.forward:.2f} ({bench.layout})",
        f"{bench.harness:.2f}",
        f"{bench.over_forward:.3f}",
        f"{bench.megapixels / bench.harness:.2f}",
        "" if bench.flops is None else f"{bench.flops / 1e9:.0f}",
        "" if bench.flops is None else f"{bench.flops / roof.flops:.0%}",
        "" if bench.peak_bytes is None else f"{bench.peak_bytes / 1e6:.0f}",
    ]
    if bench.naive is not None:
        line += [f"{bench.naive:.2f}", f"{bench.naive_over:.2f}", f"{bench.difference:.0e}"]
    return line
