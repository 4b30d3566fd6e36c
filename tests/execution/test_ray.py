"""A suite on a Ray cluster of two nodes: same records, whatever dies on the way."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

from unlearn_bench.core.errors import ConfigError, OutputError
from unlearn_bench.execution.backend import Event, Setup, model_of
from unlearn_bench.execution.capacity import GIB
from unlearn_bench.execution.models import RECORDING, TRAINING
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import execute
from unlearn_bench.plugins import registry
from unlearn_bench.results.records import RunResult, read_records
from unlearn_bench.store import cache, layout
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Plan, expand
from unlearn_bench.suite.spec import RunSpec, Suite

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'unlearn-bench[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")
ray_backend = pytest.importorskip("unlearn_bench.execution.ray")
ray_office = pytest.importorskip("unlearn_bench.execution.ray_office")
ray_worker = pytest.importorskip("unlearn_bench.execution.ray_worker")

COSTS = "seconds|bytes|time_ratio|break_even"
ROW = ["method", "dataset", "model", "scenario", "seed", "metric", "split"]

# Leaves a note of which process it is at work in, and is slow only where it can be struck.
NOTING = '''\
"""Scale the weights, and say where."""

import os
import time
from pathlib import Path

import torch

from unlearn_bench.api import Access, Context, method

NOTES = Path({folder!r})


@method("noting", access=Access.FORGET)
def noting(model, ctx: Context, *, factor: float = 0.5, nap: float = 1.0):
    """Multiply every weight.

    Args:
        factor: What every weight is multiplied by.
        nap: Seconds.
    """
    if NOTES.is_dir():
        (NOTES / f"{{os.getpid()}} {{time.time_ns()}}").touch()
        time.sleep(nap)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model
'''

# What would end the process or the suite where it is called.
ENDING = '''
"""Methods that end their process."""

import os

from unlearn_bench.api import Access, method


@method("exits", access=Access.NONE)
def exits(model, ctx):
    """End the process."""
    os._exit(0)


@method("interrupts", access=Access.NONE)
def interrupts(model, ctx):
    """Pretend a Ctrl-C."""
    raise KeyboardInterrupt
'''
ENDS = {
    "exits": "SystemExit: os._exit(0) was called",
    "interrupts": "KeyboardInterrupt",
}

# Who trains the original with its log, who makes the reference, and two that want both.
FEW = ("amnesiac", "retrain", "noting")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that takes no runs and two nodes of one CPU, whose stores are their own."""
    homes = tmp_path_factory.mktemp("nodes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        # Ray's workers stand back behind all else by default: other tests would starve them.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("UNLEARN_BENCH_HOME", str(homes))
        made = cluster_utils.Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": 75 * 2**20,
                "include_dashboard": False,
            },
        )
        for name in ("one", "two"):
            add_node(made, env_vars={"UNLEARN_BENCH_HOME": str(homes / name)})
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        made.homes = homes
        yield made
        ray.shutdown()
        made.shutdown()


def add_node(cluster: Any, **options: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=75 * 2**20, **options)


class Watcher:
    """Keeps what an observer is told, and calls back on each step."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.steps: list[tuple[int, str]] = []
        self.finished: list[int] = []

    def run_started(self, position: int, spec: RunSpec) -> None: ...

    def step(self, position: int, text: str) -> None:
        self.steps.append((position, text))

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        self.finished.append(position)

    def run_failed(self, trace: str) -> None: ...


class Joiner(Watcher):
    """Lets another node join when the second death is told of."""

    def __init__(self, cluster: Any) -> None:
        super().__init__()
        self.joined, self._cluster = False, cluster

    def notice(self, text: str) -> None:
        super().notice(text)
        if len(self.notices) >= 2 and not self.joined:
            self.joined = True
            add_node(self._cluster)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def noting(folder: Path) -> Iterator[Path]:
    """The file of a method that notes its process in ``folder/notes``, if that exists."""
    file = folder / "noting.py"
    file.write_text(NOTING.format(folder=str(folder / "notes")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
        registry.load_plugin(file)
        yield file


@pytest.fixture
def notes(folder: Path) -> Iterator[Path]:
    (folder / "notes").mkdir()
    yield folder / "notes"
    shutil.rmtree(folder / "notes")


@pytest.fixture(scope="module")
def serial(folder: Path, noting: Path) -> Path:
    """The results of a serial run of one seed."""
    run(plan(1), folder / "serial home", folder / "serial")
    return folder / "serial"


def plan(seeds: int, kept: Collection[str] | None = FEW, **changes: Any) -> Plan:
    """A plan with the runs of the methods that are ``kept``; of all, if that is None."""
    values = {
        "name": "s",
        "datasets": "digits",
        "models": "resnet4",
        "scenarios": "class:8",
        "methods": [
            "noting",
            {"name": "noting", "label": "again", "params": {"factor": 0.6}},
            {"name": "amnesiac", "params": {"repair_epochs": 0}},
        ],
        "seeds": seeds,
        "threads": 1,
        "recipe": {"epochs": 1, "lr": 4e-3},
        "relearn_steps": 4,
    }
    planned = expand(Suite.model_validate(values | changes), device="cpu")
    return only(planned, kept) if kept is not None else planned


def only(planned: Plan, kept: Collection[str]) -> Plan:
    return replace(planned, runs=tuple(spec for spec in planned.runs if spec.method in kept))


def run(
    given: Plan, home: Path, out: Path, backend: Any = None, watcher: Watcher | None = None
) -> list[RunResult]:
    runner = Runner(Store(home), torch.device("cpu"))
    return execute(given, runner, out, watcher or Watcher(), command="c", workers=backend)


def without_costs(out: Path) -> pd.DataFrame:
    records = read_records(out)
    assert not records.duplicated(ROW).any()
    costs = records["metric"].str.contains(COSTS)
    assert 0 < costs.sum() < len(costs)
    return records[~costs].reset_index(drop=True)


def strike(cluster: Any, notes: Path, struck: list[str], stop: threading.Event) -> None:
    """Kill a worker at work, then a node at work."""

    def at_work(but: int = 0) -> int:
        while not stop.is_set():
            for note in sorted(notes.iterdir()):
                pid, since = map(int, note.name.split())
                if pid != but and time.time_ns() - since < 5e8:
                    return pid
            time.sleep(0.02)
        raise AssertionError("nothing was at work any more")

    first = at_work()
    os.kill(first, signal.SIGKILL)
    struck.append("worker")
    second = at_work(but=first)
    node = node_of(cluster, second)
    cluster.remove_node(node, allow_graceful=False)
    struck.append("node")


def node_of(cluster: Any, pid: int) -> Any:
    """Return the node whose daemon is the parent of a worker process."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for node in cluster.worker_nodes:
        if any(info.process.pid == parent for info in node.all_processes["raylet"]):
            return node
    raise AssertionError(f"no node has the worker {pid}")


@pytest.mark.heavy
def test_workers_without_the_folder_get_and_give_artifacts_through_the_object_store(
    cluster: Any, noting: Path, serial: Path, home: Path, tmp_path: Path
) -> None:
    ending = tmp_path / "ending.py"
    ending.write_text(ENDING)
    registry.load_plugin(ending)
    few = plan(1).suite
    given = plan(1, [*FEW, *ENDS], methods=[*few.methods, *ENDS])
    sound = only(given, FEW)
    watcher = Watcher()
    backend = ray_backend.RayWorkers(Setup(home, "cpu", plugins=(noting, ending)), shared=False)
    results = run(given, home, tmp_path / "out", backend, watcher)
    # A method that ends its process fails alone, and no worker dies of it.
    errors = {result.method: result.error.partition(";")[0] for result in results}
    assert errors == dict.fromkeys([*FEW, "again"], "") | ENDS and not watcher.notices
    found = without_costs(tmp_path / "out")
    found = found[~found["method"].isin(ENDS)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, without_costs(serial))

    # The original is trained once, for both nodes, by the run that wants its log. Of a run that
    # lands soon, messages may come too late to be told; the store is always right: a log is kept
    # before the original whose training it was taken from, one recorded again after it.
    steps = [text for _, text in watcher.steps]
    assert steps.count(TRAINING) <= 1
    assert not any(text.startswith(RECORDING) for text in steps)
    [log], [original] = (
        list((home / "artifacts" / kind).iterdir()) for kind in ("training_log", "original")
    )
    assert log.stat().st_mtime_ns < original.stat().st_mtime_ns
    for place in (home, cluster.homes / "one", cluster.homes / "two"):
        [original] = (place / "artifacts" / "original").iterdir()
        assert json.loads((original / "spec.json").read_text())["identity"]["seed"] == 0

    # Everything came home, so that a run that continues here makes nothing again.
    made = list((home / "artifacts" / "unlearned").iterdir())
    assert len(made) == len(sound.runs)
    watcher = Watcher()
    run(sound, home, tmp_path / "again", None, watcher)
    assert {text for _, text in watcher.steps} == {"load original", "evaluate"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("seeds", "kept"),
    [
        pytest.param(1, FEW, marks=pytest.mark.thorough),
        pytest.param(3, None, marks=pytest.mark.heavy, id="24 runs"),
    ],
)
def test_with_a_worker_and_a_node_killed_the_records_are_those_of_a_serial_run(
    seeds: int,
    kept: Collection[str] | None,
    cluster: Any,
    noting: Path,
    serial: Path,
    notes: Path,
    home: Path,
    tmp_path: Path,
) -> None:
    given = plan(seeds, kept)
    if seeds > 1:
        serial = tmp_path / "serial"
        run(given, tmp_path / "serial home", serial)
    struck: list[str] = []
    stop = threading.Event()
    lightning = threading.Thread(target=strike, args=(cluster, notes, struck, stop))
    lightning.start()
    watcher = Joiner(cluster)
    backend = ray_backend.RayWorkers(Setup(home, "cpu", plugins=(noting,)))
    try:
        results = run(given, home, tmp_path / "out", backend, watcher)
    finally:
        stop.set()
        lightning.join()
    assert struck == ["worker", "node"] and watcher.joined
    assert {result.status for result in results} == {"ok"}
    retried = [text for text in watcher.notices if "retry" in text]
    assert len(retried) >= 2 and "WorkerCrashed" in "".join(retried)
    assert sorted(watcher.finished) == list(range(len(given.runs)))
    pd.testing.assert_frame_equal(without_costs(tmp_path / "out"), without_costs(serial))
    assert not list((home / "locks").glob(".seen*"))


def kill_now_and_then(cluster: Any, kills: int, told: list[str], stop: threading.Event) -> None:
    """Kill workers at work, at random moments."""
    chance = random.Random(kills)
    while len(told) < kills and not stop.wait(chance.uniform(0.2, 4)):
        daemons = [i for n in cluster.worker_nodes for i in n.all_processes["raylet"]]
        found = [
            worker
            for daemon in daemons
            for worker in psutil.Process(daemon.process.pid).children()
            if "execute_run" in " ".join(worker.cmdline())
        ]
        if found:
            with contextlib.suppress(psutil.NoSuchProcess):
                struck = chance.choice(found)
                struck.kill()
                told.append(str(struck.pid))


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_random_kills_of_workers_lose_repeat_and_damage_nothing(
    cluster: Any, noting: Path, serial: Path, home: Path, tmp_path: Path
) -> None:
    given, kills, trials = plan(1), 20, 0
    told: list[str] = []
    stop = threading.Event()
    killer = threading.Thread(target=kill_now_and_then, args=(cluster, kills, told, stop))
    killer.start()
    try:
        while len(told) < kills:
            trials += 1
            place, out = tmp_path / f"home {trials}", tmp_path / f"out {trials}"
            for _ in range(9):  # a run that died four times in a row has failed
                results = run(
                    given,
                    place,
                    out,
                    ray_backend.RayWorkers(Setup(place, "cpu", plugins=(noting,))),
                )
                if all(result.status == "ok" for result in results):
                    break
            pd.testing.assert_frame_equal(without_costs(out), without_costs(serial))
            assert not [bad for _, bad in cache.verify(place) if bad]
            assert not list(place.rglob("damaged/*")) and not list(out.rglob("damaged/*"))
    finally:
        stop.set()
        killer.join()
    print(f"\n{trials} trials, {len(told)} kills")  # noqa: T201


def until(backend: Any, wanted: Any) -> Event:
    """Read events until one is ``wanted``."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for event in backend.events():
            if wanted(event):
                return event
    raise AssertionError("nothing came")


@pytest.fixture(scope="module")
def backend(cluster: Any, noting: Path, folder: Path) -> Iterator[Any]:
    """A backend at work, whose runs may take a second: one for all, an office is a process."""
    setup = Setup(folder / "office", "cpu", plugins=(noting,))
    with ray_backend.RayWorkers(setup, timeout=1.0) as made:
        yield made


@pytest.mark.thorough
def test_other_code_on_a_node_is_refused_by_name(backend: Any) -> None:
    backend.submit(0, plan(1).runs[0], "the driver's key", {})
    error = until(backend, lambda event: event.last).error
    assert "on node " in str(error) and "install the same unlearn-bench" in str(error)


@pytest.mark.thorough
def test_a_run_is_ended_when_its_time_is_up(backend: Any, notes: Path, home: Path) -> None:
    given = plan(1, methods={"name": "noting", "params": {"nap": 600.0}})
    spec = next(spec for spec in given.runs if spec.method == "noting")
    key = Runner(Store(home), torch.device("cpu")).key(spec)
    assert backend.takes(spec) and not backend.busy
    backend.submit(7, spec, key, {})
    assert until(backend, lambda event: event.last) == Event(7, timed_out=True)
    assert not backend.busy


@pytest.mark.thorough
def test_an_office_that_is_killed_is_begun_again(backend: Any) -> None:
    asked = {"kind": "original", "identity": {"seed": 1}}
    assert ray.get(backend._office.lacks.remote(*asked.values()))
    ray.kill(backend._office, no_restart=False)
    assert ray.get(backend._office.lacks.remote(*asked.values()), timeout=60)


@pytest.mark.thorough
def test_a_head_that_does_not_answer_ends_the_suite_in_one_line(
    backend: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = next(s for s in plan(1).runs if s.method == "noting")
    assert backend.takes(spec)
    monkeypatch.setattr(ray_backend, "GONE", 0.0)
    for name, value in {"_address": "127.0.0.1:1", "_next_look": 0.0, "_silent": None}.items():
        monkeypatch.setattr(backend, name, value)
    assert not backend.takes(spec)
    with pytest.raises(OutputError, match="the Ray cluster is gone .*repeat the same command"):
        backend.wait(lambda event: None)
    backend.__exit__(None, None, None)
    assert not list((folder / "office" / "locks").glob(".seen*"))


@pytest.mark.thorough
def test_a_gpu_is_shared_by_measured_memory_only_where_asked_for(cluster: Any, home: Path) -> None:
    spec = plan(1, methods="finetune").runs[0]
    alone = ray_backend.RayWorkers(Setup(home, "cuda", threads=1))
    many = ray_backend.RayWorkers(Setup(home, "cuda", threads=1), most=8)
    for backend in (alone, many):
        assert backend.needs(spec) == {"num_cpus": 1.0, "num_gpus": 1.0}
        backend.shares.measured(model_of(spec), 4 * GIB, 24 * GIB)
    assert alone.needs(spec)["num_gpus"] == 1.0
    assert many.needs(spec)["num_gpus"] == 0.3333
    assert many.takes(spec), "Ray queues it until a node with a GPU joins"


@pytest.mark.thorough
def test_runs_too_large_for_every_node_are_refused(cluster: Any) -> None:
    ray_backend.check_fits(1)
    with pytest.raises(ConfigError, match="a run takes 3 CPUs, the largest node .* has 1; write"):
        ray_backend.check_fits(3)


def test_an_office_away_from_the_driver_tells_it_what_to_take_home(
    home: Path, tmp_path: Path
) -> None:
    async def hand_in() -> list[dict[str, Any]]:
        office = ray_office.Office(tmp_path / "elsewhere", "no token", None)
        assert await office.fetch("original", {"seed": 1}) is None
        tensors = {"w": torch.arange(3.0)}
        made = Store(tmp_path / "node").get_or_build("original", {"seed": 1}, lambda: (tensors, {}))
        await office.keep("original", {"seed": 1}, ray_office.pack(made))
        assert await office.fetch("original", {"seed": 1}) == ray_office.pack(made)
        await office.keep("original", {"seed": 1}, ray_office.pack(made))
        return await office.news()

    assert asyncio.run(hand_in()) == [{"artifact": ("original", {"seed": 1})}]


class Remote:
    """Looks like the handle of an actor, whose coroutines run on ``loop``; notes the calls."""

    def __init__(self, actor: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._actor, self._loop, self.calls = actor, loop, []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._actor, name)

        def remote(*arguments: Any) -> Any:
            self.calls.append(name)
            return asyncio.run_coroutine_threadsafe(method(*arguments), self._loop)

        return SimpleNamespace(remote=remote)


@pytest.fixture
def office_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens an office, at work in a thread as an actor is in a process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    monkeypatch.setattr(ray, "get", lambda answer: answer.result(timeout=20))

    async def opened(home: Path, shared: bool | None) -> Any:
        return ray_office.Office(home, "no token", shared)

    def open_one(home: Path, shared: bool | None = None) -> Remote:
        return Remote(asyncio.run_coroutine_threadsafe(opened(home, shared), loop).result(), loop)

    yield open_one
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def built() -> Any:
    return {"w": torch.arange(3.0)}, {}


def never() -> Any:
    raise AssertionError("made again")


def told(office: Any) -> list[dict[str, Any]]:
    office.end_news.remote().result()
    return list(office.news.remote().result())


def test_a_worker_may_share_the_office_s_store_where_the_driver_s_is_out_of_sight(
    home: Path, tmp_path: Path, office_of: Any
) -> None:
    office = office_of(tmp_path / "elsewhere")
    worker = ray_office.RemoteStore(home, print, office)
    # The worker has the key locked while it asks, and the office's store is the same folder.
    assert not worker.get_or_build("original", {"seed": 1}, built).reused
    assert worker.get_or_build("original", {"seed": 1}, never).reused
    assert told(office) == [{"artifact": ("original", {"seed": 1})}]


def test_an_office_that_waits_for_a_lock_answers_others_meanwhile(
    home: Path, tmp_path: Path, office_of: Any
) -> None:
    office = office_of(tmp_path / "elsewhere")
    made = Store(tmp_path / "node").get_or_build("original", {"seed": 1}, built)
    with layout.lock(home, made.key, wait=False):  # type: ignore[union-attr]
        kept = office.keep.remote("original", {"seed": 1}, ray_office.pack(made))
        assert office.fetch.remote("original", {"seed": 1}).result(timeout=20) is None
        assert not kept.done()
    kept.result(timeout=20)
    assert layout.holds(home, "original", {"seed": 1})


def test_what_a_node_has_already_reaches_the_others_and_what_it_got_is_not_sent_back(
    home: Path, tmp_path: Path, office_of: Any
) -> None:
    office = office_of(home, shared=False)
    Store(tmp_path / "one").get_or_build("original", {"seed": 1}, built)  # by an earlier suite
    one, two = (ray_office.RemoteStore(tmp_path / n, print, office) for n in ("one", "two"))
    assert one.get_or_build("original", {"seed": 1}, never).reused
    assert office.calls == ["lacks", "keep"]
    assert not two.get_or_build("original", {"seed": 1}, never).reused
    two.get_or_build("original", {"seed": 1}, never)
    one.get_or_build("original", {"seed": 1}, never)
    assert office.calls == ["lacks", "keep", "fetch"]


def test_files_that_a_node_does_not_have_reach_it_by_content(home: Path, tmp_path: Path) -> None:
    here = tmp_path / "mine.py"
    here.write_bytes(b"one")
    assert ray_worker.file_here(here, b"one") == here
    copy = ray_worker.file_here(here, b"two")
    assert copy != here and copy.name == "mine.py" and copy.read_bytes() == b"two"
    assert home in copy.parents and ray_worker.file_here(here, b"two") == copy


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
def test_no_cluster_is_one_line_that_says_how_to_start_one(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match=f"--address {address}: no Ray .*`ray start --head`"):
        ray_backend.connect(address)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_server_that_is_not_ray_is_refused_soon(
    answer: bytes, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would wait for minutes"))
    monkeypatch.setattr(ray_backend, "KNOCK", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.sendall(answer)
            connection.recv(1)
            held.append(connection)

        held: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--address {address}: no Ray cluster answers"):
            ray_backend.connect(address)


def test_a_cluster_that_is_gone_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would wait for minutes"))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    with pytest.raises(ConfigError, match="--address auto: no Ray cluster answers .*refused"):
        ray_backend.connect("auto")


def test_a_cluster_that_asks_for_a_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ray.exceptions.AuthenticationError("Token authentication is enabled")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_backend, "knock", lambda address: None)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match="the cluster asks for a token .*RAY_AUTH_MODE=token"):
        ray_backend.connect("127.0.0.1:6379")


def test_what_ray_raises_is_one_line_but_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(OutputError, match="is gone .ActorDiedError: .*continues from here"):
        with ray_backend.cluster_needed():
            raise ray.exceptions.ActorDiedError()
    defect = ray.exceptions.RayTaskError("run", "Traceback", ValueError("bug"))
    with pytest.raises(ray.exceptions.RayTaskError), ray_backend.cluster_needed():
        raise defect


def test_an_address_without_ray_is_refused(cli: Any, tiny: Path) -> None:
    ended = cli("run", tiny, "--address", "auto")
    assert ended.code == 2 and "only for --backend ray" in ended.error
