"""The paper's claims, each with the evidence and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.paper import comparison_claims, network_claims, print_claims, record_claims
from harness.paper.verdicts import Evidence, Finding, Judgement, Verdict, judge_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Judgement", "Verdict", "judge"]

JUDGES: Mapping[str, Callable[[Evidence], Finding]] = {
    "parameters": network_claims.parameters,
    "rdn-parameters": network_claims.rdn_parameters,
    "depth": network_claims.depth,
    "receptive-field": network_claims.receptive_field,
    "downscaling-filters": network_claims.downscaling_filters,
    "training-time": network_claims.training_time,
    "similar-performance": comparison_claims.similar_performance,
    "fewer-parameters": comparison_claims.fewer_parameters,
    "computing-power": comparison_claims.computing_power,
    "superior": comparison_claims.superior,
    "highest": record_claims.highest,
    "table1-table2": print_claims.table1_table2,
    "feature-fusion": record_claims.feature_fusion,
    "connections": record_claims.connections,
    "vdsr-b100": print_claims.vdsr_b100,
    "dcsr-urban100": print_claims.dcsr_urban100,
    "one-pipeline": record_claims.one_pipeline,
    "grey-image": record_claims.grey_image,
    "figures": print_claims.figures,
    "other-results": print_claims.other_results,
}
"""The function that judges each claim of ``drfn2020.toml`` that is not judged ``by_hand``."""


def judge(runs: pd.DataFrame, paper: Mapping[str, Any]) -> tuple[Judgement, ...]:
    """Judge every claim of the paper, then every row of its Table 2.

    Args:
        runs: the output of `Records.table`; may be empty.
        paper: the output of `harness.paper.schema.paper`.
    """
    evidence = Evidence(runs, paper)
    claims = [
        Judgement(claim["key"], claim["statement"], claim["where"], *_judge(claim, evidence))
        for claim in paper["claims"]
    ]
    return (*claims, *judge_rows(evidence))


def _judge(claim: Mapping[str, str], evidence: Evidence) -> Finding:
    """Judge one claim; it is not measured if no number decides it, or its network is missing."""
    if "by_hand" in claim:
        return Finding("not measured", claim["by_hand"])
    try:
        return JUDGES[claim["key"]](evidence)
    except UsageError as error:
        return Finding("not measured", str(error))
