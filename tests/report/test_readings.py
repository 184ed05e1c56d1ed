"""The report on readings has every question, and counts what it can build."""

from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_fields

from harness.errors import UsageError
from harness.paper.findings import Findings
from harness.paper.schema import Ambiguity, Paper, Reading, paper
from harness.registry import MODELS
from harness.report.ablation import readings
from harness.report.table import Table
from tests.records import frame

DRFN = paper("drfn2020")


def report(of: Paper) -> Table:
    (made,) = readings(Findings(frame(), of, None))
    return made


def with_reading(taken: Reading) -> Paper:
    texts = dict.fromkeys(("where", "quote", "question", "evidence"), "?")
    one = Ambiguity(key="depth", taken=taken, others=(Reading(text="Deeper."),), **texts)
    return replace_fields(DRFN, ambiguities=(one,))


def test_every_question_has_its_readings_its_quotation_and_its_evidence() -> None:
    table = report(DRFN)
    assert len(table.rows) == len(table.notes) == len(DRFN.ambiguities)
    assert len(table.tidy) == len(table.lines) == sum(len(one.readings) for one in DRFN.ambiguities)
    text = table.render("md")
    assert all(one.evidence in text.replace("\\", "") for one in DRFN.ambiguities)
    assert "There are 8 residual blocks in each RAG. (Section 3.3)" in text
    for form in table.formats:
        assert table.render(form)


def test_the_counts_of_the_two_residual_blocks_are_those_of_the_networks() -> None:
    rows = report(DRFN).tidy.query("key == 'residual-block'")
    assert list(rows["taken"]) == [True, False]
    assert list(rows["model"]) == ["drfn", "drfn-2conv"]
    assert list(rows["parameters"]) == [5_207_203, 9_933_987]
    assert report(DRFN).lines[0][-1] == "Taken: One (drfn, 5,207,203 parameters)."


def test_arguments_alone_are_those_of_the_paper_s_own_network() -> None:
    table = report(with_reading(Reading(text="Few.", arguments={"groups": 1, "blocks": 1})))
    assert [line[-1] for line in table.lines] == [
        "Taken: Few (drfn, groups=1, blocks=1, 381,837 parameters).",
        "Or: Deeper.",
    ]


def test_a_network_that_is_not_registered_or_not_of_this_scale_has_no_count() -> None:
    assert (
        report(with_reading(Reading(text="It.", model="nowhere"))).lines[0][-1]
        == "Taken: It (nowhere)."
    )
    card = replace(MODELS.get("drfn"), name="at-x2", scales=(2,))
    kept = MODELS.snapshot()
    MODELS.add("at-x2", card, "a plug-in")
    try:
        assert (
            report(with_reading(Reading(text="It.", model="at-x2")))
            .lines[0][-1]
            .endswith("(at-x2).")
        )
    finally:
        MODELS.restore(kept)


def test_arguments_that_the_network_does_not_take_are_told_with_their_question() -> None:
    wrong = with_reading(Reading(text="Shallow.", model="vdsr", arguments={"dept": 3}))
    with pytest.raises(UsageError, match=r"ambiguity\]\] depth .* dept=3.*unexpected .*'dept'"):
        report(wrong)


@pytest.mark.parametrize("of", [None, replace_fields(DRFN, ambiguities=())])
def test_without_open_questions_there_is_none(of: Paper | None) -> None:
    assert readings(Findings(frame(), of, None)) == []
