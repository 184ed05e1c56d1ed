"""Judges claims from run records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.paper.print_claims import PSNR, SSIM
from harness.paper.schema import listed, title
from harness.paper.select import speaks_for_the_authors
from harness.paper.statistics import ablations
from harness.paper.tolerances import PRINTED
from harness.paper.verdicts import Finding
from harness.protocol.rules import protocol

if TYPE_CHECKING:
    from harness.cards import GreyRule
    from harness.paper.verdicts import Evidence
    from harness.record import RunRecord


def highest(evidence: Evidence) -> Finding:
    """Compare the gain that self-ensemble needs with the gain that it gives."""
    drfn = {name: evidence.table2["drfn"][name][PSNR] for name in evidence.sets}
    best = {name: _best_of_the_others(evidence, name) for name in evidence.sets}
    text = (
        "No such row is printed. To be the highest, self-ensemble would have to add "
        f"{_by_set({name: best[name] - drfn[name] for name in evidence.sets})} dB"
        f"{_without_misprints(evidence, drfn, best)}"
    )
    pairs = _ensemble_pairs(evidence)
    if not pairs:
        advice = "what it adds is measured by running drfn with and without --self-ensemble"
        return Finding("not measured", f"{text}; {advice}.")
    scores = {name: (a.means["psnr"], b.means["psnr"]) for name, (a, b) in pairs.items()}
    gains = {name: ensemble - plain for name, (plain, ensemble) in scores.items()}
    text = f"{text}; with the weights that were measured it adds {_by_set(gains)} dB"
    reached = {
        name: ensemble >= best[name]
        for name, (plain, ensemble) in scores.items()
        if plain >= drfn[name] - PRINTED.psnr
    }
    ids = _ids(pairs.values())
    if not reached:
        return Finding("not measured", f"{text}, but they do not reach the plain row.", ids)
    return Finding("reproduced" if all(reached.values()) else "refuted", f"{text}.", ids)


def _best_of_the_others(evidence: Evidence, dataset: str, *, misprints: bool = True) -> float:
    return max(
        row[dataset][PSNR]
        for name, row in evidence.table2.items()
        if name != "drfn" and dataset in row
        if misprints or (name, dataset, "psnr") not in evidence.misprints
    )


def _without_misprints(
    evidence: Evidence, drfn: Mapping[str, float], best: Mapping[str, float]
) -> str:
    """State the gain needed without the best cells that contradict other printed numbers."""
    sound = {name: _best_of_the_others(evidence, name, misprints=False) for name in best}
    changed = {name: sound[name] - drfn[name] for name in best if sound[name] < best[name]}
    if not changed:
        return ""
    return f" ({_by_set(changed)} without a cell that contradicts other printed numbers)"


def _ensemble_pairs(evidence: Evidence) -> dict[str, tuple[RunRecord, RunRecord]]:
    """Pair runs of DRFN without and with self-ensemble, with the same weights, by set."""
    return {
        name: (plain, ensemble)
        for name in evidence.sets
        if (plain := evidence.run("drfn", name))
        and (ensemble := evidence.run("drfn", name, self_ensemble=True))
        and plain.identity.weights_sha256 == ensemble.identity.weights_sha256
    }


def _by_set(values: Mapping[str, float]) -> str:
    """Write values by set, such as ``0.31 on Set5 and 0.19 on Set14``."""
    return listed([f"{value:.2f} on {title(name)}" for name, value in values.items()])


def _ids(pairs: Iterable[Sequence[RunRecord]]) -> tuple[str, ...]:
    return tuple(run.identity.id for pair in pairs for run in pair)


def one_pipeline(evidence: Evidence) -> Finding:
    """Compare bicubic interpolation under both pipelines with its printed row."""
    pairs = {
        name: (luma, colour)
        for name in evidence.sets
        if (luma := evidence.run("bicubic", name, "full-range"))
        and (colour := evidence.run("bicubic-rgb", name, "full-range"))
    }
    if not pairs:
        return Finding("not measured", "Run harness run --models bicubic,bicubic-rgb first.")
    follows = {
        name: _nearest_pipeline(evidence.table2["bicubic"][name][SSIM], *pair)
        for name, pair in pairs.items()
    }
    nearest = listed([f"{pipeline} on {title(name)}" for name, pipeline in follows.items()])
    text = (
        "Networks on luma are fed luma that was degraded in double (pipeline y), those on RGB, as "
        "DRFN, colour that was degraded in uint8 (rgb). For bicubic interpolation this moves PSNR "
        f"by up to {_largest_effect(pairs.values(), 'psnr'):.3f} dB and SSIM by up to "
        f"{_largest_effect(pairs.values(), 'ssim'):.4f} (DRFN leads MSRN on Set14 by "
        f"{_lead(evidence):.2f} dB). By SSIM the printed Bicubic row follows {nearest}."
    )
    mixed = len(set(follows.values())) > 1
    return Finding("inconsistent in print" if mixed else "reproduced", text, _ids(pairs.values()))


def _nearest_pipeline(printed: float, *runs: RunRecord) -> str:
    nearest = min(runs, key=lambda run: abs(run.means["ssim"] - printed))
    return protocol(nearest.identity.protocol).pipeline


def _largest_effect(pairs: Iterable[tuple[RunRecord, RunRecord]], metric: str) -> float:
    return max(abs(two.means[metric] - one.means[metric]) for one, two in pairs)


def _lead(evidence: Evidence) -> float:
    """Return DRFN's lead over MSRN on Set14 (dB), the smallest that the paper argues from."""
    drfn, msrn = (evidence.table2[name]["set14"][PSNR] for name in ("drfn", "msrn"))
    return float(drfn - msrn)


def grey_image(evidence: Evidence) -> Finding:
    """Measure the effect of the rule for Set14's grey image, and find each row's rule."""
    pairs = {
        name: (full, as_rgb)
        for name in evidence.table2
        if (full := evidence.run(name, "set14", "full-range")) and speaks_for_the_authors(full)
        if (as_rgb := evidence.run(name, "set14", "as-rgb")) and speaks_for_the_authors(as_rgb)
    }
    if not pairs:
        return Finding(
            "not measured",
            "Run harness run --models bicubic --datasets set14 --grey full-range, and again with "
            "--grey as-rgb.",
        )
    gain = min(two.means["psnr"] - one.means["psnr"] for one, two in pairs.values())
    groups: dict[GreyRule, list[str]] = {}
    for name, pair in pairs.items():
        rule = _rule(evidence.table2[name]["set14"][PSNR], *pair)
        if rule:
            groups.setdefault(rule, []).append(evidence.table2[name]["method"])
    follows = [f"{listed(names)} follows {rule}" for rule, names in groups.items()]
    text = (
        "Set14 holds a grey image. Scoring it as RGB instead of over its full range raises the "
        f"mean by {gain:.3f} dB or more{_times(gain, _lead(evidence))}. The printed PSNR of "
        f"{', that of '.join(follows)}"
    )
    ids = _ids(pairs.values())
    if len(groups) > 1:
        return Finding("inconsistent in print", f"{text}: the column mixes both rules.", ids)
    return Finding("not measured", f"{text}; the rule of DRFN and MSRN is not known.", ids)


def _times(effect: float, lead: float) -> str:
    """Write an effect as a multiple of a lead (dB); nothing if the lead is 0."""
    return f", {effect / lead:.1f} times the {lead:.2f} dB between the two" if lead else ""


def _rule(printed: float, full: RunRecord, as_rgb: RunRecord) -> GreyRule | None:
    """Find the grey rule under which the measured PSNR agrees with the printed one, if any."""
    distances = [abs(run.means["psnr"] - printed) for run in (full, as_rgb)]
    if min(distances) > PRINTED.psnr:
        return None
    return "full-range" if distances[0] <= distances[1] else "as-rgb"


def feature_fusion(evidence: Evidence) -> Finding:
    """Judge the gain of the feature fusion, without and with the connections."""
    return _ablated(evidence, [("ff", "none"), ("both", "lsc")])


def connections(evidence: Evidence) -> Finding:
    """Judge the gain of the long and short connections, without and with the feature fusion."""
    return _ablated(evidence, [("lsc", "none"), ("both", "ff")])


def _ablated(evidence: Evidence, pairs: Sequence[tuple[str, str]]) -> Finding:
    """Judge whether the first variant of each pair is better than the second."""
    table = evidence.paper["table1"]
    text = "Printed"
    for reading in table["readings"]:
        cells = dict(zip(reading["variants"], table["psnr"], strict=True))
        gains = listed([f"{cells[more] - cells[less]:+.2f}" for more, less in pairs])
        text += f"{':' if text == 'Printed' else ', or'} {gains} dB (columns {reading['name']})"
    measured = ablations(evidence.runs, evidence.paper)
    needed = {name for pair in pairs for name in pair}
    best = next((one for one in measured if needed <= one.runs.keys()), None)
    if best is None:
        return Finding(
            "not measured",
            f"{text}. To measure it, train the four variants alike (harness train drfn --variant "
            "none, ff, lsc, both) and run them on Set14.",
        )
    intervals = [best.gain(more, less) for more, less in pairs]
    text += (
        f". Measured on Set14 with {best.budget} a variant: {listed([str(i) for i in intervals])} "
        "dB (95 % over images)"
    )
    floor = evidence.table2["bicubic"][table["set"]][PSNR]
    unlearned = [f"{n} ({best.psnr(n):.2f} dB)" for n in sorted(needed) if best.psnr(n) < floor]
    if unlearned:
        text += (
            f"; what still falls short of bicubic interpolation ({floor:.2f} dB) after so little "
            f"training says nothing of a trained network: {listed(unlearned)}"
        )
    elif all(one.difference > 0 for one in intervals):
        return Finding("reproduced", f"{text}.", best.ids())
    return Finding("not measured", f"{text}; so short a training cannot refute it.", best.ids())
