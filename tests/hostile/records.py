from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from harness.cli import main
from harness.record import Identity, digest
from tests.hostile.case import Case

AGAIN = "run --models bicubic --datasets ./good"


def record(change: Callable[[dict], object], *, sealed: bool = True) -> Callable[[], None]:
    """Make a finished run and change its record; ``sealed`` makes the hash right again."""

    def make() -> None:
        CliRunner().invoke(main, AGAIN.split())
        (path,) = Path("results").rglob("*.json")
        data = json.loads(path.read_text())
        change(data)
        if sealed:
            data["sha256"] = digest({k: v for k, v in data.items() if k != "sha256"})
        path.write_text(json.dumps(data))

    return make


def renamed(data: dict, **names: object) -> None:
    data["identity"] |= names
    data["id"] = Identity.from_json(data["identity"]).id


def raw(content: bytes) -> Callable[[], None]:
    def make() -> None:
        Path("results/local/x4/set").mkdir(parents=True)
        Path("results/local/x4/set/bicubic-0.json").write_bytes(content)

    return make


def judged(name: str, make: Callable[[], object], said: str) -> Case:
    """A bad record that ``claims`` names and leaves out; the other records are judged."""
    return Case(f"record: {name}", make, "claims --results results/local", 0, said)


UNSOUND = "is not a valid run record"
CASES = [
    judged("newer schema", record(lambda d: d.update(schema_version=4)), "schema 4, this"),
    judged("older schema", record(lambda d: d.update(schema_version=1)), "schema 1, this"),
    judged(
        "digit of a score",
        record(lambda d: d["images"][0].update(psnr=30.01), sealed=False),
        "was altered",
    ),
    judged(
        "digit of a time",
        record(lambda d: d["images"][0].update(seconds=9), sealed=False),
        "does not match its SHA-256",
    ),
    judged("mean, hash and all", record(lambda d: d["means"].update(psnr=40)), "was altered"),
    judged("no hash", record(lambda d: d.pop("sha256"), sealed=False), UNSOUND),
    judged("another identity", record(lambda d: d["identity"].update(tile=9)), "id is not the"),
    judged(
        "model that is a path",
        record(lambda d: renamed(d, model="../../../sprung")),
        "is not a valid name",
    ),
    judged("image that is a number", record(lambda d: d["images"][0].update(image=5)), UNSOUND),
    judged("score that is a word", record(lambda d: d["images"][0].update(psnr="x")), UNSOUND),
    judged("no provenance", record(lambda d: d.update(provenance=5)), UNSOUND),
    judged("list", raw(b"[]"), UNSOUND),
    judged("half", raw(b'{"schema_version": 2, "id"'), UNSOUND),
    judged("nested 10^5 deep", raw(b"[" * 10**5), UNSOUND),
    judged("not in UTF-8", raw(b"\xff\xfe"), UNSOUND),
    Case(
        "record: accepting what climbs out",
        record(lambda d: renamed(d, model="../../../sprung")),
        "accept all",
        2,
        "There are no finished runs in",
    ),
]


def journal(content: bytes) -> Callable[[], None]:
    """Replace the journal of the next run."""

    def make() -> None:
        record(lambda data: None)()
        (path,) = Path("results").rglob("*.json")
        path.with_suffix(".journal").write_bytes(content)
        path.unlink()

    return make


AGAIN = "run --models bicubic --datasets ./good"
CASES += [
    Case("journal: noise", journal(b"\xff\0\n\n\n" * 99), AGAIN, 0, "1 image computed"),
    Case("journal: nested deep", journal(b"[" * 10**5 + b"\n"), AGAIN, 0, "1 image computed"),
    Case("journal: empty", journal(b""), AGAIN, 0, "1 image computed"),
]


def special(name: str) -> Callable[[], None]:
    """Put a FIFO in place of a file of the next run."""

    def make() -> None:
        record(lambda data: None)()
        (path,) = Path("results").rglob("*.json")
        place = path.with_suffix(name)
        path.unlink()
        os.mkfifo(place)

    return make


CASES += [
    Case("record: FIFO", special(".json"), AGAIN, 1, "is a FIFO, not a file"),
    Case("record: FIFO among others", special(".json"), "list runs", 0, "damaged"),
    Case(
        "record: FIFO that is judged", special(".json"), "claims --results results/local", 0, "FIFO"
    ),
    Case("journal: FIFO", special(".journal"), AGAIN, 1, "is a FIFO, not a file"),
]
