"""What the checkpoints of runs are called, and which of them a name stands for."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.record import RunRecord
from harness.run.names import all_tags, checkpoint_of, checkpoints_called
from harness.run.store import ResultStore
from tests.records import record

REFERENCE = ResultStore(Path(__file__).parents[2] / "results/reference").records()


def ran(tag: str, weights: str, year: int = 2026, **more: object) -> RunRecord:
    run = record("mine", tag=tag, weights=weights, **more)  # type: ignore[arg-type]
    return replace(run, provenance={"utc": f"{year}-01-01"})


def test_a_checkpoint_keeps_the_name_of_the_authors_and_of_this_project() -> None:
    for own in ("official", "repro"):
        runs = [ran("copy", "1", 2027), ran(own, "1"), ran("older", "1", 2025)]
        assert list(all_tags(runs).values()) == [[own, "copy", "older"]]


def test_others_have_the_tag_of_their_newest_run() -> None:
    runs = [ran("old", "1", 2025), ran("new", "1", 2027), ran("mid", "1", 2026)]
    assert [tags[0] for tags in all_tags(runs).values()] == ["new"]


def test_the_name_in_tables_comes_before_a_tag_of_another_checkpoint() -> None:
    a, b = ran("a", "1"), [ran("a", "2", 2025), ran("b", "2")]
    tags = all_tags([a, *b])
    assert checkpoints_called("MINE:A", tags) == [checkpoint_of(a)]
    assert checkpoints_called("mine:[ab]", tags) == [checkpoint_of(a), checkpoint_of(b[0])]


def test_a_tag_of_several_checkpoints_names_none_of_them() -> None:
    tags = all_tags([ran("a", "1" * 64), ran("a", "2" * 64), ran("a", "3" * 64, scale=2)])
    assert checkpoints_called("mine:a-22222222", tags) == [("mine", 4, "2" * 64)]
    with pytest.raises(UsageError, match="mine:a-11111111 and mine:a-22222222"):
        checkpoints_called("mine:a", tags)


def test_tags_that_differ_in_case_alone_are_told_apart() -> None:
    tags = all_tags([ran("A", "1" * 64), ran("a", "2" * 64)])
    assert [names[0] for names in tags.values()] == ["A-11111111", "a-22222222"]
    assert checkpoints_called("mine:A-1*", tags) == [("mine", 4, "1" * 64)]


def test_one_name_may_stand_for_a_checkpoint_of_each_scale() -> None:
    tags = all_tags([ran("a", str(scale), scale=scale) for scale in (2, 4)])
    assert [scale for _, scale, _ in checkpoints_called("mine:a", tags)] == [2, 4]


def test_the_committed_records_have_these_checkpoints() -> None:
    """DRFN was trained here twice with its default arguments."""
    runs = [run for run in REFERENCE if not run.identity.hyper]
    names = {f"{model}:{tag}" for (model, *_), (tag, *_) in all_tags(runs).items() if tag}
    assert {"fsrcnn:official", "fsrcnn:repro", "rdn:images"} <= names
    drfn = {name for name in names if name.startswith("drfn")}
    assert drfn == {"drfn:repro-5d37c3e9", "drfn:repro-191ee22e"}
