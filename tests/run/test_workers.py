import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from harness.registry import load_plugins
from harness.run import workers
from harness.run.plan import plan
from harness.run.request import Request
from harness.run.spec import WorkersError
from tests.pictures import picture
from tests.run.processes import SLOW, Runner, SlowRun
from tests.run.test_evaluate import METRICS, PLUGIN, numbers

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
psutil = pytest.importorskip("psutil")

DASK = ("--executor", "dask")
LOCAL = (*DASK, "--workers", "2")
AGAIN = (*DASK, "--workers", "1")


def by_name(folder: Path) -> dict[str, dict[str, object]]:
    """The numbers of all records in a folder."""
    return {path.name: numbers(path) for path in folder.rglob("*.json")}


def test_workers_give_the_numbers_of_one_process_bit_for_bit(
    harness, photos: Path, tmp_path: Path, random_weights
) -> None:
    environment = set(os.environ)
    (tmp_path / "fails.py").write_text(PLUGIN)
    words = ["run", "--models", "fsrcnn,bicubic-rgb,fails", "--datasets", photos]
    words += ["--weights", f"fsrcnn={random_weights('fsrcnn')}", "--plugin", "fails.py"]
    words += ["--plugin", METRICS / "colour.py", "--metric", "mae-rgb"]
    shown = harness(*words, *LOCAL, "--results", "dask", "--save-images", "dask-pictures")
    assert shown.exit_code == 1, "one of the networks fails"
    assert "failed: RuntimeError: no memory left" in shown.output
    rows = [line.split()[0] for line in shown.stdout.splitlines()[3:]]
    assert rows == ["fsrcnn", "bicubic-rgb", "fails"], "in the order of the request"
    many = by_name(Path("dask"))
    executions = [record.pop("execution") for record in many.values()]
    assert [one["executor"] for one in executions] == ["dask"] * 3
    threads = torch.get_num_threads()
    torch.set_num_threads(executions[0]["threads"])
    harness(*words, "--results", "serial", "--save-images", "serial-pictures")
    torch.set_num_threads(threads)
    one = by_name(Path("serial"))
    assert {record.pop("execution")["executor"] for record in one.values()} == {"serial"}
    # How far a network came before it failed depends on how its images were dealt out.
    for record in [*many.values(), *one.values()]:
        if record["status"] == "error":
            del record["images"], record["means"]
    assert many == one
    pictures = [
        {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*.png")}
        for folder in ("dask-pictures", "serial-pictures")
    ]
    finished = [{one for one in made if one.parent.name[:6] != "fails-"} for made in pictures]
    assert finished[0] == finished[1] and len(finished[0]) == 6
    assert all(pictures[1].get(name, data) == data for name, data in pictures[0].items())
    assert "already finished" in harness(*words, *LOCAL, "--results", "dask").output
    assert not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & (os.environ.keys() - environment)


class TestFaults:
    def test_a_worker_that_is_killed_loses_and_repeats_no_finished_image(
        self, tmp_path: Path
    ) -> None:
        slow = SlowRun(tmp_path, images=12)
        runner = slow.start(*LOCAL)
        runner.until_images(slow.results, 2)
        victim = workers_of(runner)[0]
        kept = slow.kept()
        victim.kill()
        assert runner.wait() == 0, runner.said()
        lines = [line for line in runner.said().splitlines() if line.startswith("slow on photos")]
        assert len(lines) == 2, "it begins, and it ends"
        record = slow.record()
        assert (record["status"], len(record["images"])) == ("finished", 12)
        assert len(kept) >= 2 and all(slow.computed()[name] == 1 for name in kept)
        assert len(slow.computed()) == 12

    def test_an_interruption_leaves_finished_images_for_the_next_time(self, tmp_path: Path) -> None:
        slow = SlowRun(tmp_path, images=24)
        runner = slow.start(*LOCAL)
        runner.until_images(slow.results, 3)
        runner.interrupt()
        assert runner.wait() == 1, runner.said()
        assert runner.said().splitlines()[-1] == "Aborted!"
        assert "Traceback" not in runner.said()
        kept = slow.kept()
        assert not list(slow.results.rglob("*.lock"))
        again = slow.start(*AGAIN)
        assert again.wait() == 0, again.said()
        assert f"{len(kept)} already finished" in again.said()
        assert len(kept) >= 3 and all(slow.computed()[name] == 1 for name in kept)

    def test_a_client_that_is_killed_goes_on_from_its_journal(self, tmp_path: Path) -> None:
        slow = SlowRun(tmp_path, images=10)
        runner = slow.start(*LOCAL)
        runner.until_images(slow.results, 3)
        helpers = workers_of(runner)
        runner.kill()
        kept = slow.kept()
        assert psutil.wait_procs(helpers, timeout=20)[1] == [], "workers end with their client"
        again = slow.start(*AGAIN)
        assert again.wait() == 0, again.said()
        assert len(kept) >= 3 and all(slow.computed()[name] == 1 for name in kept)
        assert len(slow.record()["images"]) == 10

    def test_an_image_that_kills_its_workers_breaks_its_own_run_only(self, tmp_path: Path) -> None:
        (tmp_path / "one").mkdir()
        Image.fromarray(picture(40, 40)).save(tmp_path / "one/x.png")
        (tmp_path / "deadly.py").write_text(DEADLY)
        words = ["run", "--models", "deadly,bicubic", "--datasets", "one", "--plugin", "deadly.py"]
        # With one worker, the image of the second run lies ready where the first one kills. Dask
        # gives up on a task over which four workers died; here, one.
        patience = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
        runner = Runner([*words, *AGAIN], tmp_path, **patience)
        assert runner.wait() == 1
        assert "failed: Several workers died, one after the other, over x" in runner.said()
        records = [json.loads(path.read_text()) for path in tmp_path.rglob("x4/one/*.json")]
        states = {record["identity"]["model"]: record["status"] for record in records}
        assert states == {"deadly": "error", "bicubic": "finished"}

    def test_an_image_that_vanishes_is_named_and_the_run_can_be_completed(
        self, tmp_path: Path
    ) -> None:
        slow = SlowRun(tmp_path, images=12)
        runner = slow.start(*LOCAL)
        runner.until_images(slow.results, 1)
        (slow.photos / "10.png").rename(tmp_path / "aside.png")
        assert runner.wait() == 1
        assert "10.png is missing." in runner.said()
        assert slow.record()["status"] == "error"
        (tmp_path / "aside.png").rename(slow.photos / "10.png")
        assert slow.start().wait() == 0
        assert slow.record()["status"] == "finished"


DEADLY = """
import os
from harness.registry import register_model
from torch import nn

class Deadly(nn.Module):
    def forward(self, image):
        os._exit(1)

@register_model("deadly", pipeline="rgb", input="lr", scales=(4,), params=0)
def deadly(scale=4):
    return Deadly()
"""


def workers_of(runner: Runner) -> list[object]:
    """The worker processes that a client started."""
    children = psutil.Process(runner.process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


class Machines:
    """A scheduler and workers in processes of their own, as on several machines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def scheduler(self) -> str:
        """Start a scheduler; gives its address."""
        file = self.folder / f"scheduler-{len(self._started)}.json"
        self._start("scheduler", "--port", "0", "--host", "127.0.0.1", "--scheduler-file", file)
        while not file.exists() or not file.read_text().strip():
            assert self._started[-1].poll() is None
            time.sleep(0.05)
        return json.loads(file.read_text())["address"]

    def worker(self, address: str, *words: object, **env: str) -> None:
        """Start a worker."""
        self._start("worker", address, "--nthreads", "1", "--no-nanny", *words, **env)

    def kill(self, place: int) -> None:
        """Kill what was started at that place."""
        self._started[place].kill()
        self._started[place].wait()

    def end(self) -> None:
        """Kill all that was started."""
        for place in range(len(self._started)):
            self.kill(place)

    def _start(self, kind: str, *words: object, **env: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, words)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command += ["--no-dashboard"]
        self._started.append(
            subprocess.Popen(command, env=os.environ | env, cwd=self.folder, **quiet)
        )


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """A cluster of the test's own."""
    made = Machines(tmp_path)
    yield made
    made.end()


class TestCluster:
    def test_when_the_scheduler_dies_the_same_command_goes_on_with_another(
        self, tmp_path: Path, machines: Machines
    ) -> None:
        slow = SlowRun(tmp_path, images=10)
        address = machines.scheduler()
        machines.worker(address, **slow.env)
        runner = slow.start(*DASK, "--scheduler", address)
        runner.until_images(slow.results, 2)
        machines.kill(0)
        assert runner.wait() == 1
        assert runner.said().splitlines()[-1] == (
            "Error: The dask scheduler is gone: finished images are kept, and the same command "
            "goes on from there."
        )
        assert "Traceback" not in runner.said()
        kept = slow.kept()
        address = machines.scheduler()
        again = slow.start(*DASK, "--scheduler", address)
        again.until(lambda: "No worker is connected yet: waiting." in again.said())
        machines.worker(address, **slow.env)
        assert again.wait() == 0, again.said()
        assert len(kept) >= 2 and all(slow.computed()[name] == 1 for name in kept)
        assert len(slow.record()["images"]) == 10

    def test_workers_that_would_give_other_numbers_are_not_used(
        self, tmp_path: Path, machines: Machines
    ) -> None:
        slow = SlowRun(tmp_path, images=20)
        address = machines.scheduler()
        for threads in ("1", "2"):
            counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
            machines.worker(address, **slow.env | counts)
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=30)
        runner = slow.start(*DASK, "--scheduler", address)
        assert runner.wait() == 1
        assert "differs from the first one (threads " in runner.said()

    def test_tiles_are_chosen_by_the_memory_of_the_workers(
        self, harness, tmp_path: Path, machines: Machines
    ) -> None:
        (tmp_path / "one").mkdir()
        Image.fromarray(picture(480, 640)).save(tmp_path / "one/x.png")
        (tmp_path / "small.py").write_text(
            "from harness.models import resources\n"
            "resources.free_bytes = lambda device: 2 * 10**8\n"
        )
        address = machines.scheduler()
        machines.worker(address, "--preload", "small.py")
        words = ["run", "--models", "edsr-baseline", "--datasets", tmp_path / "one"]
        words += ["--tile", "auto"]
        far = harness(*words, *DASK, "--scheduler", address, "--json")
        assert far.exit_code == 0, far.output
        assert json.loads(far.stdout)[0]["identity"]["tile"] == 32
        assert "runs in tiles of 32 LR pixels" in far.stderr
        here = harness(*words, "--json")
        assert json.loads(here.stdout)[0]["identity"]["tile"] is None

    def test_a_scheduler_that_is_not_there_is_one_sentence(
        self, harness, photos: Path, monkeypatch
    ) -> None:
        monkeypatch.setattr(workers, "CONNECT_SECONDS", 0.5)
        words = ("run", "--models", "bicubic", "--datasets", photos, "--executor", "dask")
        shown = harness(*words, "--scheduler", "tcp://127.0.0.1:9")
        assert shown.exit_code == 1
        assert shown.stderr == (
            "Error: No dask scheduler answers at tcp://127.0.0.1:9: start one, or correct the "
            "address.\n"
        )
        wrong = harness(*words, "--scheduler", "nonsense")
        assert wrong.exit_code == 2 and "--scheduler takes tcp://host:port" in wrong.stderr

    @pytest.mark.parametrize(
        ("said_there", "said"),
        [
            (b"", "No dask scheduler answers at {}: start one"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "The server at {} is not a usable dask"),
        ],
        ids=["nothing", "http"],
    )
    def test_a_port_that_is_silent_or_speaks_otherwise_is_given_up(
        self, harness, photos: Path, monkeypatch, said_there: bytes, said: str
    ) -> None:
        monkeypatch.setattr(workers, "CONNECT_SECONDS", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as there:
            address = f"tcp://127.0.0.1:{there.getsockname()[1]}"

            def talk() -> None:
                with there.accept()[0] as caller:
                    caller.sendall(said_there)
                    while caller.recv(1 << 16):
                        pass

            talking = threading.Thread(target=talk, daemon=True)
            talking.start()
            words = ("--executor", "dask", "--scheduler", address)
            shown = harness("run", "--models", "bicubic", "--datasets", photos, *words)
            talking.join()
        assert shown.exit_code == 1
        (line,) = shown.stderr.splitlines()
        assert line.startswith(f"Error: {said.format(address)}")

    def test_the_address_of_a_worker_is_told_from_a_schedulers(
        self, harness, photos: Path, machines: Machines
    ) -> None:
        address = machines.scheduler()
        machines.worker(address)
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=30)
            (worker,) = client.scheduler_info()["workers"]
        words = ("--executor", "dask", "--scheduler", worker)
        shown = harness("run", "--models", "bicubic", "--datasets", photos, *words)
        assert shown.exit_code == 1
        assert shown.stderr == f"Error: {worker} is a dask worker: name its scheduler.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "2"], "need --executor dask"),
        (["--scheduler", "tcp://127.0.0.1:9"], "need --executor dask"),
        ([*LOCAL, "--scheduler", "tcp://127.0.0.1:9"], "not both"),
    ],
)
def test_options_that_do_not_fit_are_refused(harness, words, said) -> None:
    shown = harness("run", "--models", "bicubic", "--datasets", "demo", *words)
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_without_dask_the_way_to_get_it_is_said(harness, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    shown = harness("run", "--models", "bicubic", "--datasets", "demo", "--executor", "dask")
    assert shown.exit_code == 2
    assert "needs pip install -c constraints.txt '.[cluster]'" in shown.stderr


class TestWorker:
    @pytest.fixture(autouse=True)
    def new(self, monkeypatch) -> None:
        monkeypatch.setattr(workers, "_name", lambda: "node-5")
        monkeypatch.setattr(workers, "_loaded", {})
        monkeypatch.setattr(workers, "_sources", {})

    def parcel(
        self, photos: Path, model: str = "bicubic", **changes: object
    ) -> tuple[workers.Parcel, list[object]]:
        (run,) = plan(Request([model], [str(photos)])).runs
        known = {name: getattr(run, name) for name in ("image_set", "rules", "metrics")}
        facts, _ = workers.survey("cpu")
        made = workers.Parcel(run.identity.id, model, known, (), "cpu", facts, False)
        return replace(made, **changes), list(run.image_set.images)

    def test_it_returns_what_it_finished_before_an_error(self, photos: Path) -> None:
        parcel, images = self.parcel(photos)
        (photos / "c.png").unlink()
        returned = workers.score_shard(parcel, None, images)
        assert sorted(result.image for result, _ in returned.results) == ["a", "b"]
        assert "c.png is missing" in returned.error

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"facts": {"torch": "1.0"}}, r"differs from the first one \(torch .*, not 1.0\)"),
            ({"id": "0" * 64}, "has another version of bicubic or of the rules: .*restart it"),
            ({"plugins": (Path("/gone/my.py"),)}, "lacks a plug-in: There is no .* /gone/my.py"),
        ],
    )
    def test_it_refuses_what_would_give_other_numbers(self, photos, changes, said) -> None:
        parcel, images = self.parcel(photos, **changes)
        with pytest.raises(WorkersError, match=f"The worker node-5 on .* {said}"):
            workers.score_shard(parcel, None, images)

    def test_it_says_when_it_does_not_see_the_images(self, photos: Path) -> None:
        parcel, images = self.parcel(photos)
        images[1] = replace(images[1], path=Path("/gone/b.png"))
        with pytest.raises(WorkersError, match="does not see /gone: keep images in a folder"):
            workers.score_shard(parcel, None, images)

    def test_it_does_not_run_a_network_whose_file_has_changed_since_it_was_loaded(
        self, photos: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "slow.py"
        file.write_text(SLOW)
        load_plugins([file])
        parcel, images = self.parcel(photos, "slow")
        assert workers.score_shard(parcel, None, images).error == ""
        file.write_text(SLOW.replace("scale_factor=4", "scale_factor=4.0"))
        edited, _ = self.parcel(photos, "slow")
        assert edited.id != parcel.id
        with pytest.raises(WorkersError, match="has another version of slow .*and restart it"):
            workers.score_shard(edited, None, images)

    @pytest.mark.parametrize(
        ("name", "device"), [("5", "cuda:1"), ("node-2", "cuda:2"), ("tcp://10.0.0.1:4321", "cuda")]
    )
    def test_each_of_several_gpus_has_its_worker(self, monkeypatch, name, device) -> None:
        from harness.models import resources

        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.setattr(resources, "pick_device", lambda wanted: "cuda")
        assert workers.own_device("auto", name) == device
