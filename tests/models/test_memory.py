from pathlib import Path

import pytest

from harness.models import memory


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process in the control group ``/job/step``, of which ``job`` has a limit."""
    (tmp_path / "self").write_text("12:pids:/x\n0::/job/step\n")
    job = tmp_path / "groups/job"
    (job / "step").mkdir(parents=True)
    (job / "step/memory.max").write_text("max\n")
    for name, text in {
        "max": "4000\n",
        "current": "3000\n",
        "stat": "anon 1\ninactive_file 500\n",
    }.items():
        (job / f"memory.{name}").write_text(text)
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "self")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    return job


def test_the_limit_of_a_container_counts_and_what_linux_can_drop_does_not(groups: Path) -> None:
    assert memory.free_bytes("cpu") == 4000 - 3000 + 500


def test_without_a_limit_the_machine_counts(groups: Path) -> None:
    (groups / "memory.max").write_text("max\n")
    assert memory.free_bytes("cpu") > 10**6
