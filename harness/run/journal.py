"""What is known of a run under way, on disk."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from harness.errors import HarnessError
from harness.files import TEXT, regular, write_atomically
from harness.protocol.protocols import RULES
from harness.record import Execution, Identity, ImageResult, digest
from harness.run.provenance import packages, source_digest


class Journal:
    """Results of single images, appended as they come, so that a killed run can go on.

    A journal of another execution (device, threads) or software, be it the harness itself, is not
    continued: a record tells of one.
    """

    def __init__(self, path: Path, identity: Identity, execution: Execution) -> None:
        self.path = path
        self._metrics = set(identity.metrics)
        software = {"packages": packages(), "harness_sha256": source_digest()}
        numbers = {"rules": RULES, "inference": identity.inference}
        facts = {"execution": asdict(execution), **software, **numbers}
        self._header = {"id": identity.id, **facts}

    def read(self) -> list[ImageResult]:
        """The results so far, up to the first line that is not one (cut off by a kill, say)."""
        try:
            header, *lines = regular(self.path, TEXT).read_bytes().split(b"\n")[:-1]
            if json.loads(header) != self._header:
                return []
        except (OSError, ValueError, RecursionError):
            return []
        results = []
        for line in lines:
            try:
                result = _sealed_result(line)
            except Exception:  # what is no result fails in many ways
                break
            if set(result.scores) != self._metrics:
                break
            results.append(result)
        return results

    def start(self, results: list[ImageResult]) -> None:
        """Begin anew with the results that still hold.

        Raises:
            HarnessError: the folder cannot be written.
        """
        lines = [json.dumps(self._header) + "\n", *map(_sealed_line, results)]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, "".join(lines))
        except OSError as error:
            raise HarnessError(f"The journal {self.path} cannot be written ({error}).") from error

    def append(self, result: ImageResult) -> None:
        """Add one result.

        Raises:
            HarnessError: it cannot be written, because the disk is full, say.
        """
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_sealed_line(result))
        except OSError as error:
            raise HarnessError(f"The journal {self.path} cannot be written ({error}).") from error

    def remove(self) -> None:
        """Forget the journal; the record stands."""
        self.path.unlink(missing_ok=True)


def _sealed_line(result: ImageResult) -> str:
    """A line of a journal: a result and the digest that tells whether it was damaged."""
    row = result.to_json()
    return json.dumps({"result": row, "sha256": digest(row)}) + "\n"


def _sealed_result(line: bytes) -> ImageResult:
    data = json.loads(line)
    if digest(data["result"]) != data["sha256"]:
        raise ValueError("not what its SHA-256 says")
    return ImageResult.from_json(data["result"])
