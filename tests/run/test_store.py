import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.list import RUN_COLUMNS
from harness.errors import HarnessError, MismatchError, UsageError
from harness.record import (
    Execution,
    Identity,
    ImageResult,
    RunRecord,
    WeightsInfo,
    digest,
    finite_mean,
)
from harness.run import store as store_module
from harness.run.store import Journal, ResultStore, accept_records, find_run, read_record
from tests.records_docs import DOCUMENT, filled

EXECUTION = Execution("cpu", 2)
IMAGES = tuple(
    ImageResult(name, {"psnr": value, "ssim": 0.9}, 0.1)
    for name, value in (("a", 30.25), ("b", 28.5))
)


def record(model: str = "drfn", **fields: object) -> RunRecord:
    identity = Identity(model, 4, "set5", "BI-x4/rgb", "s", "p", "d", 1, "w", {"width": 64})
    info = WeightsInfo("repro", "w.safetensors", "a", "b", "Apache-2.0")
    provenance = {"utc": "2026-01-01T00:00:00+00:00", "packages": {"torch": "2.13.0"}}
    made = RunRecord(
        identity, "finished", IMAGES, EXECUTION, provenance, info, 5, 6, (320, 180), True
    )
    return replace(made, **fields)


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def test_a_record_comes_back_as_it_was_written(store: ResultStore) -> None:
    path = store.write(record())
    assert path == store.root / "x4/set5" / f"drfn-{record().identity.id[:12]}.json"
    assert read_record(path) == record()
    assert store.finished(record().identity) == record()
    assert record().means == {"psnr": 29.375, "ssim": 0.9}


def test_a_perfect_image_has_an_infinite_psnr_in_sound_json(store: ResultStore) -> None:
    perfect = replace(IMAGES[0], scores={"psnr": float("inf"), "ssim": 1.0}, note="alpha dropped")
    path = store.write(record(images=(perfect,)))
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["means"]["psnr"] == "inf"
    assert read_record(path).images == (perfect,)


def test_a_broken_run_is_kept_but_does_not_count_as_done(store: ResultStore) -> None:
    store.write(record(status="error", error="out of memory"))
    assert store.finished(record().identity) is None
    assert [one.error for one in store.records()] == ["out of memory"]
    (row,) = store.read().table().to_dict("records")
    assert (row["status"], row["psnr"]) == ("error", None)


def test_a_record_of_another_identity_is_not_taken(store: ResultStore) -> None:
    assert store.finished(record().identity) is None
    other = replace(record().identity, tile=64)
    store.write(record())
    assert store.finished(other) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [('"schema_version": 3', '"schema_version": 4'), ('"tile": null', '"tile": 5'), ("}", "")],
)
def test_a_damaged_record_is_named(store: ResultStore, old: str, new: str) -> None:
    path = store.write(record())
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(HarnessError, match=r"drfn-.*json is not a valid run record"):
        store.finished(record().identity)


def test_a_number_that_was_altered_is_found_out(store: ResultStore) -> None:
    path = store.write(record())
    path.write_text(path.read_text().replace('"psnr": 28.5', '"psnr": 28.54'))
    with pytest.raises(MismatchError, match=r"29.375\D.* those of its images are .*29.395\D"):
        read_record(path)


def test_a_mean_has_the_same_digits_in_every_version_of_python(store: ResultStore) -> None:
    """From 3.12 on, sum() gives 1.0 for ten times 0.1; the committed records have the plain sum."""
    images = tuple(ImageResult(f"{i}", {"psnr": 0.1, "ssim": 0.1}, 0.1) for i in range(10))
    assert finite_mean([0.1] * 10) == 0.9999999999999999 / 10
    made = record(images=images).to_json()
    made["means"] = {"psnr": 0.1, "ssim": 0.1}  # as a record that an earlier version made on 3.12
    made["sha256"] = digest({name: value for name, value in made.items() if name != "sha256"})
    path = store.write(record(images=images))
    path.write_text(json.dumps(made))
    assert read_record(path).means == dict.fromkeys(("psnr", "ssim"), finite_mean([0.1] * 10))


def test_any_bit_that_flips_in_a_record_is_found_out(store: ResultStore) -> None:
    path = store.write(record())
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            read = read_record(path)
        except HarnessError:
            continue
        # Only white space between two values may change unnoticed.
        assert read == record() and whole[place : place + 1].isspace(), place


scores = st.one_of(st.floats(0, 200), st.just(float("inf")))


@given(
    st.lists(st.tuples(scores, st.floats(-1, 1), st.floats(0, 1e4)), min_size=1, max_size=5),
    st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
)
@settings(max_examples=50, deadline=None)
def test_any_record_survives_the_way_through_json(rows, facts) -> None:
    images = tuple(
        ImageResult(f"{i}", {"psnr": psnr, "ssim": ssim}, round(seconds, 4))
        for i, (psnr, ssim, seconds) in enumerate(rows)
    )
    made = record(images=images, provenance=facts, status="error", error="ünexpected\n")
    text = json.dumps(made.to_json(), allow_nan=False)
    assert RunRecord.from_json(json.loads(text)) == made


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "", "a\nb", "\x1b[2J", "\udcff", 5])
def test_a_record_whose_names_lead_elsewhere_is_refused(store: ResultStore, name) -> None:
    for fields in ({"model": name}, {"dataset": name}, {"scale": name}):
        hostile = record(identity=replace(record().identity, **fields))
        path = store.root / "x4/set5/hostile.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(hostile.to_json()))
        wrong = r"is not a valid name|Expected `(str|int)`|surrogates|another scale"
        with pytest.raises(HarnessError, match=wrong):
            read_record(path)


def test_the_table_of_runs_has_what_reports_need(store: ResultStore) -> None:
    store.write(record())
    (row,) = store.read().table().to_dict("records")
    assert (row["model"], row["dataset"], row["psnr"], row["count"]) == ("drfn", "set5", 29.375, 2)
    assert (row["tag"], row["verified"], row["protocol"]) == ("repro", True, "BI-x4/rgb")


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = ResultStore(tmp_path / "file")
    with pytest.raises(HarnessError, match="cannot be written"):
        broken.write(record())
    with pytest.raises(HarnessError, match=r"The journal .* cannot be written"):
        Journal(broken, record().identity, EXECUTION).start([])


class TestJournal:
    def test_results_come_back_one_by_one(self, store: ResultStore) -> None:
        journal = Journal(store, record().identity, EXECUTION)
        assert journal.read() == []
        journal.start([IMAGES[0]])
        journal.append(IMAGES[1])
        assert journal.read() == list(IMAGES)
        journal.remove()
        assert journal.read() == []

    def test_a_line_that_was_cut_off_is_dropped(self, store: ResultStore) -> None:
        journal = Journal(store, record().identity, EXECUTION)
        journal.start(list(IMAGES))
        journal.path.write_text(journal.path.read_text()[:-20])
        assert journal.read() == [IMAGES[0]]

    def test_a_journal_of_another_run_or_execution_is_not_continued(
        self, store: ResultStore
    ) -> None:
        Journal(store, record().identity, EXECUTION).start(list(IMAGES))
        assert Journal(store, record().identity, Execution("cuda", 2)).read() == []
        Journal(store, record().identity, EXECUTION).path.write_text("not json\n")
        assert Journal(store, record().identity, EXECUTION).read() == []

    @pytest.mark.parametrize(
        "line",
        [b"[1]", b'{"psnr": 3}', b'{"result": 1, "sha256": 1}', b"\xff\xfe", b"{", b"[" * 100_000],
    )
    def test_what_is_no_result_ends_the_journal_and_nothing_else(
        self, store: ResultStore, line: bytes
    ) -> None:
        journal = Journal(store, record().identity, EXECUTION)
        journal.start([IMAGES[0]])
        with journal.path.open("ab") as stream:
            stream.write(line + b"\n")
        journal.append(IMAGES[1])
        assert journal.read() == [IMAGES[0]]

    def test_a_digit_that_flipped_in_the_journal_is_found_out(self, store: ResultStore) -> None:
        journal = Journal(store, record().identity, EXECUTION)
        journal.start(list(IMAGES))
        journal.path.write_text(journal.path.read_text().replace("28.5", "28.7"))
        assert journal.read() == [IMAGES[0]]

    def test_a_full_disk_is_named(self, store: ResultStore) -> None:
        journal = Journal(store, record().identity, EXECUTION)
        journal.start([])
        journal.path.unlink()
        journal.path.symlink_to("/dev/full")
        with pytest.raises(HarnessError, match=r"The journal .* No space left on device"):
            journal.append(IMAGES[0])


ODD = (None, [], {}, "", "x", -1, True, 10**30, {"x": None})


def places(value: object, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """The way to every value within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner:
        yield (*path, key)
        if isinstance(one, dict | list):
            yield from places(one, *path, key)


def odd_records() -> Iterator[dict]:
    """A sound record with another value, or none, in one place; its hashes fit again."""
    for way in places(record().to_json()):
        for odd in (*ODD, ...):
            data = record().to_json()
            inner = data
            for key in way[:-1]:
                inner = inner[key]
            if odd is ...:
                del inner[way[-1]]
            else:
                inner[way[-1]] = odd
            with suppress(Exception):  # where even the identity is none
                data["id"] = Identity.from_json(data["identity"]).id if "id" not in way else odd
            if data.get("id") is not ...:
                yield data | {"sha256": digest({k: v for k, v in data.items() if k != "sha256"})}


def test_a_record_with_an_odd_field_is_left_out_or_fit_for_every_report(harness) -> None:
    folder = Path("odd/x4/set5")
    folder.mkdir(parents=True)
    for number, data in enumerate(odd_records()):
        with suppress(ValueError):  # a name that JSON has not
            (folder / f"drfn-{number}.json").write_text(json.dumps(data))
    assert len(list(folder.iterdir())) > 300
    kept = ResultStore(Path("odd")).records()
    assert 20 < len(kept) < 300
    reports = ("page", "table2", "rules", "literature", "differences")
    for words in ("list runs", "claims", *(f"report {name}" for name in reports)):
        shown = harness(*words.split(), "--results", "odd")
        assert shown.exit_code == 0, (words, shown.output)
        assert "Left out: odd/x4/set5/drfn-0.json is not a valid run record" in shown.stderr


class TestSeveralFolders:
    """Records of two machines, read as if they were in one folder."""

    @pytest.fixture
    def folders(self, tmp_path: Path) -> tuple[Path, Path]:
        for name in ("a", "b"):
            ResultStore(tmp_path / name).write(record())
        ResultStore(tmp_path / "b").write(record("edsr"))
        return tmp_path / "a", tmp_path / "b"

    @staticmethod
    def rescored(apart: float, **fields: object) -> RunRecord:
        other = replace(IMAGES[1], scores={"psnr": 28.5 + apart, "ssim": 0.9})
        return record(images=(IMAGES[0], other), **fields)

    def test_equal_records_count_once(self, folders: tuple[Path, Path], harness) -> None:
        ResultStore(folders[1]).write(self.rescored(5e-5, provenance={"utc": "2026-02-02"}))
        both = ResultStore(*folders)
        assert both.records() == [record(), record("edsr")]
        read = both.read()
        assert len(read.table()) == len(read.sound) == 2 and not read.bad
        words = [word for folder in folders for word in ("--results", folder)]
        rows = json.loads(harness("list", "runs", "--json", *words).stdout)
        assert [row["model"] for row in rows] == ["drfn", "edsr"]

    def test_scores_that_differ_are_named_and_the_first_folders_are_used(
        self, folders: tuple[Path, Path], harness
    ) -> None:
        path = ResultStore(folders[1]).write(self.rescored(0.25))
        first = ResultStore(folders[0]).path(record().identity)
        both = [word for folder in folders for word in ("--results", folder)]
        for code, words in (
            (0, ["list", "runs", "--csv"]),
            (0, ["claims"]),
            (0, ["report", "table2"]),
            (3, ["check", "--reference", folders[0]]),
            (1, ["explain", record().identity.id]),  # its images are not here
        ):
            shown = harness(*words, *both)
            said = f"{first} and {path} are records of one run, {record().identity.id[:12]}"
            assert shown.stderr.count(said) == 1, words
            assert "the psnr of b, by 0.25" in shown.stderr
            assert shown.exit_code == code, (words, shown.output)
        assert f"The run record is {first}.\n" in shown.stderr
        assert ResultStore(*folders).records()[0].means["psnr"] == 29.375
        assert ResultStore(*folders[::-1]).records()[0].means["psnr"] == 29.5
        assert (folders[0] / "reports/table2.md").exists()

    def test_a_finished_run_counts_before_a_failed_one(self, folders: tuple[Path, Path]) -> None:
        ResultStore(folders[0]).write(record(status="error", error="out of memory"))
        for order in (folders, folders[::-1]):
            kept = ResultStore(*order).records()
            assert [one.status for one in kept] == ["finished", "finished"]
            assert {one.identity.model for one in kept} == {"drfn", "edsr"}

    def test_a_copy_of_the_reference_records_adds_nothing(self, tmp_path: Path) -> None:
        reference = Path(__file__).parents[2] / "results/reference"
        shutil.copytree(reference, tmp_path / "copy")
        both = ResultStore(reference, tmp_path / "copy").read()
        assert both.sound == ResultStore(reference).read().sound and not both.bad
        (tested,) = both.finished("05dc0b9de64d").values()
        first = tested.images[0]
        scores = {**first.scores, "psnr": first.scores["psnr"] + 0.01}
        altered = replace(tested, images=(replace(first, scores=scores), *tested.images[1:]))
        path = ResultStore(tmp_path / "copy").write(altered)
        joined = ResultStore(reference, tmp_path / "copy").read()
        assert joined.sound == both.sound
        ((named, error),) = joined.bad.items()
        assert named == path and f"the psnr of {first.image}, by 0.01" in str(error)

    def test_a_run_of_the_second_folder_can_be_named(self, folders: tuple[Path, Path]) -> None:
        for places in (
            [ResultStore(*folders).read()],
            [ResultStore(one).read() for one in folders],
        ):
            path, _ = find_run(record("edsr").identity.id[:8], places)
            assert path.is_relative_to(folders[1])

    def test_a_record_is_named_only_where_no_sound_one_has_its_id(
        self, folders: tuple[Path, Path]
    ) -> None:
        broken = ResultStore(folders[0]).path(record().identity)
        broken.write_text("{")
        wanted = record().identity.id[:8]
        path, _ = find_run(wanted, [ResultStore(*folders).read()])
        assert path == ResultStore(folders[1]).path(record().identity)
        with pytest.raises(HarnessError, match="is not a valid run record"):
            find_run(wanted, [ResultStore(one).read() for one in folders])

    def test_a_command_reads_each_record_once(
        self, folders: tuple[Path, Path], harness, monkeypatch
    ) -> None:
        both = [word for folder in folders for word in ("--results", folder)]
        paths: list[Path] = []

        def counted(path: Path) -> RunRecord:
            paths.append(path)
            return read_record(path)

        monkeypatch.setattr(store_module, "read_record", counted)
        Path("empty").mkdir()
        for words in (
            "list runs",
            "list runs --csv",
            "claims",
            "report table2",
            "check --reference empty",
            "explain 0 --reference empty",
        ):
            paths.clear()
            harness(*words.split(), *both)
            assert sorted(paths) == [path for one in folders for path in ResultStore(one).paths()]


def test_the_document_of_records_is_what_the_types_make_of_it() -> None:
    text = DOCUMENT.read_text()
    assert text == filled(text), "run python -m tests.records_docs"
    types = re.findall(r"<!-- fields of (\w+) -->\n\| field \| type \| meaning \|\n", text)
    assert types == [
        "RunRecord",
        "PluginFacts",
        "WeightsInfo",
        "Execution",
        "ImageResult",
        "Identity",
    ]
    others = re.findall(r"^- `(\w+)` is ", text, re.MULTILINE)
    stored = [spec.name for spec in dataclasses.fields(RunRecord)]
    assert sorted(stored + others) == sorted(record().to_json())


def test_the_document_of_records_has_every_column_and_no_other() -> None:
    (table,) = re.findall(
        r"^\| column \| meaning \|\n\|---\|---\|\n((?:\|.*\n)+)", DOCUMENT.read_text(), re.M
    )
    cells = [line.split("|")[1] for line in table.splitlines()]
    columns = re.findall(r"`(\w+)`", " ".join(cells))
    assert columns == [*RUN_COLUMNS, "image", "metric", "value", "infinite"]


class TestAccept:
    def test_two_at_once_lose_nothing(self, store: ResultStore, tmp_path: Path) -> None:
        for number in range(20):
            store.write(record(identity=replace(record().identity, tile=number + 1)))
        reference = ResultStore(tmp_path / "reference")
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(accept_records, ["all"], store, reference) for _ in range(2)]
        moved = [one.result() for one in both if one.exception() is None]
        assert sum(map(len, moved)) == 20 == len(reference.records())
        assert all(isinstance(one.exception(), UsageError | None) for one in both)

    def test_a_system_without_locks_is_said(
        self, store: ResultStore, tmp_path: Path, monkeypatch
    ) -> None:
        store.write(record())
        monkeypatch.setattr("harness.files.fcntl", None)
        with pytest.raises(HarnessError, match="cannot lock files"):
            accept_records(["all"], store, ResultStore(tmp_path / "reference"))
        assert len(store.records()) == 1

    @pytest.mark.parametrize("kind", ["fifo", "link", "dangling"])
    def test_a_lock_that_is_no_file_is_neither_opened_nor_removed(
        self, store: ResultStore, tmp_path: Path, kind: str
    ) -> None:
        store.write(record())
        lock, elsewhere = store.root / "accept.lock", tmp_path / "elsewhere"
        target = {"link": Path("/dev/null"), "dangling": elsewhere}.get(kind)
        lock.symlink_to(target) if target else os.mkfifo(lock)
        with pytest.raises(HarnessError, match=r"accept\.lock cannot be written"):
            accept_records(["all"], store, ResultStore(tmp_path / "reference"))
        assert os.path.lexists(lock) and not elsewhere.exists()

    def test_a_folder_that_is_named_twice_is_read_once(self, store: ResultStore) -> None:
        store.write(record())
        again = ResultStore(store.root, store.root / "x4/..")
        assert again.read().folders == str(store.root) and len(again.paths()) == 1

    def test_records_cannot_be_accepted_onto_themselves(self, store: ResultStore) -> None:
        path = store.write(record())
        with pytest.raises(UsageError, match="are the reference already"):
            accept_records(["all"], store, ResultStore(path.parents[2] / "x4/.."))
        assert path.exists()

    def test_a_record_is_moved_from_where_it_lies(self, store: ResultStore, tmp_path: Path) -> None:
        path = store.write(record()).rename(store.root / "x4/set5/renamed.json")
        (path.parent / "notes.json").write_text("{}")
        accept_records(["all"], store, ResultStore(tmp_path / "reference"))
        assert [one.name for one in store.paths()] == ["notes.json"]

    def test_chosen_records_move_to_the_reference(self, store: ResultStore, tmp_path: Path) -> None:
        reference = ResultStore(tmp_path / "reference")
        store.write(record("drfn")), store.write(record("edsr"))
        store.write(record("rdn", status="error"))
        (moved,) = accept_records([record("edsr").identity.id[:8]], store, reference)
        assert read_record(moved) == record("edsr")
        assert [one.identity.model for one in store.records()] == ["drfn", "rdn"]
        accept_records(["all"], store, reference)
        assert [one.identity.model for one in reference.records()] == ["drfn", "edsr"]
        assert [one.identity.model for one in store.records()] == ["rdn"]

    def test_an_id_must_name_one_finished_run(self, store: ResultStore, tmp_path: Path) -> None:
        store.write(record("drfn", status="error")), store.write(record("edsr"))
        unfinished = record("drfn").identity.id[:8]
        wrong = {"zzz": "is no id", "": "is no id", unfinished: "names 0 finished runs"}
        for wanted, said in wrong.items():
            with pytest.raises(UsageError, match=said):
                accept_records([wanted], store, ResultStore(tmp_path / "reference"))
