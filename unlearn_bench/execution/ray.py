"""Runs on a Ray cluster: one task per run, scheduled, placed and watched over by Ray.

Ray decides where a task runs, queues what does not fit yet and uses nodes that join. What is
ours: artifacts reach whoever needs them, steps reach the display, and a run whose worker or node
died is given out again.

Each worker looks whether it sees the store's folder. If so it works in it, as a local process
does. If not it keeps a store of its own, and asks the *office*, an actor on the driver's node,
for what others have made: originals, references, what was seen of them. Tensors travel through
Ray's object store, as safetensors. With ``ray://`` the office runs on the cluster's head, and the
driver takes home what it collects.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
import safetensors.torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from unlearn_bench.core.errors import ConfigError, UserError
from unlearn_bench.core.files import write_atomically
from unlearn_bench.execution.backend import Event, Setup, build_runner, model_of, perform
from unlearn_bench.execution.capacity import GpuShares
from unlearn_bench.execution.run import Runner
from unlearn_bench.plugins import registry
from unlearn_bench.store import layout
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Artifact, Built, Store
from unlearn_bench.suite.spec import OriginalFile, RunSpec

RETRIES = 3
# Runs given out beyond what the cluster holds, so that no worker waits for the driver.
AHEAD = 2
# Seconds after which the driver looks around even if nobody told it anything.
HEARTBEAT = 2.0
STARVED = 30.0
# For runs to end in good order when the suite is interrupted.
PATIENCE = 5.0

Packed = tuple[bytes, Mapping[str, Any]]


@dataclass(frozen=True)
class Job:
    """What every task of a suite is told.

    Attributes:
        setup: As for local workers; paths are the driver's.
        token: Name and content of a file in the driver's store, by which a worker knows it.
        plugins: Path and text of the files that register methods.
        original: The user's own weights, if the suite starts from some.
        unlearned: The user's unlearned models by their SHA-256.
        folder: The driver's working folder, for datasets named by relative paths.
        shared: Whether workers see the store's folder; None where each looks for itself.
    """

    setup: Setup
    token: str
    plugins: tuple[tuple[Path, str], ...]
    original: bytes | None
    folder: Path
    shared: bool | None
    unlearned: Mapping[str, bytes] = field(default_factory=dict)

    def sees_the_store(self) -> bool:
        """Whether the store's folder here is the driver's."""
        if self.shared is not None:
            return self.shared
        return (self.setup.home / self.token).is_file()


def connect(address: str) -> None:
    """Join the cluster at ``address``, unless this process is part of one.

    Args:
        address: ``auto`` for the one that this machine belongs to, ``HOST:PORT`` or
            ``ray://HOST:PORT``.

    Raises:
        ConfigError: If there is none.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        _knock(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # ray raises many kinds: connection, version, protocol
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"--address {address}: no Ray cluster answers ({reason}); start one by "
            "`ray start --head`, join it from other machines by `ray start --address=HOST:6379`"
        ) from error


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at ``HOST:PORT``: Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def cluster_has_gpus() -> bool:
    """Whether any node of the cluster has a GPU."""
    return bool(ray.cluster_resources().get("GPU"))


class RemoteStore(Store):
    """The store of a worker that does not see the driver's: what it lacks, it asks the office for.

    Args:
        home: On this node.
        notify: As for :class:`Store`.
        office: Of the suite.
    """

    def __init__(self, home: Path, notify: Callable[[str], None], office: Any) -> None:
        super().__init__(home, notify)
        self._office = office
        self._handed_in: set[str] = set()

    def get_or_build(
        self, kind: str, identity: Mapping[str, Any], build: Callable[[], Built]
    ) -> Artifact:
        """Return the artifact from here, from the office, or built; the office gets it as well."""
        named = kind, dict(identity)

        def fetch_or_build() -> Built:
            packed: Packed | None = ray.get(self._office.fetch.remote(*named))
            if packed is None:
                return build()
            self._handed_in.add(layout.key_of(*named)[1])
            return safetensors.torch.load(packed[0]), packed[1]

        artifact = super().get_or_build(kind, identity, fetch_or_build)
        # What an earlier suite left on this node, the other nodes would have to make again.
        if artifact.key not in self._handed_in:
            # Only now, when the key is unlocked: the office's store may be this very folder.
            if not artifact.reused or ray.get(self._office.lacks.remote(*named)):
                ray.get(self._office.keep.remote(*named, _pack(artifact)))
            self._handed_in.add(artifact.key)
        return artifact


def _pack(artifact: Artifact) -> Packed:
    # Cloned: tied weights share storage, which safetensors refuses.
    tensors = {name: tensor.clone() for name, tensor in artifact.tensors.items()}
    return safetensors.torch.save(tensors), dict(artifact.notes)


class Office:
    """An actor that hands artifacts from one node to another and tells the driver what goes on.

    It serves all workers from one thread: what may take long is done in others.

    Args:
        job: Of the suite.
    """

    def __init__(self, job: Job) -> None:
        self._at_home = job.sees_the_store() or job.shared is False
        self._store = Store(job.setup.home if self._at_home else default_home())
        self._told: list[dict[str, Any]] = []
        self._collected: set[str] = set()
        self._news = asyncio.Event()

    async def fetch(self, kind: str, identity: Mapping[str, Any]) -> Packed | None:
        """Return an artifact if it is there.

        Who asks has it locked, perhaps in this very store: waiting for that lock would never end.
        """

        def packed() -> Packed | None:
            found = self._store.find(kind, identity)
            return None if found is None else _pack(found)

        return await asyncio.to_thread(packed)

    async def lacks(self, kind: str, identity: Mapping[str, Any]) -> bool:
        """Say whether an artifact is yet to be handed in."""
        if not layout.holds(self._store.home, kind, identity):
            return True
        self._collect(kind, identity)
        return False

    async def keep(self, kind: str, identity: Mapping[str, Any], packed: Packed) -> None:
        """Store an artifact."""
        await asyncio.to_thread(_unpack_into, self._store, kind, identity, packed)
        self._collect(kind, identity)

    def _collect(self, kind: str, identity: Mapping[str, Any]) -> None:
        """Tell a driver that does not see this store to take an artifact home, once."""
        key = layout.key_of(kind, identity)[1]
        if not self._at_home and key not in self._collected:
            self._collected.add(key)
            self._tell({"artifact": (kind, dict(identity))})

    async def tell(self, what: dict[str, Any]) -> None:
        """Take a message for the driver."""
        self._tell(what)

    def _tell(self, what: dict[str, Any]) -> None:
        self._told.append(what)
        self._news.set()

    async def news(self) -> list[dict[str, Any]]:
        """Return what was told since the last call, waiting until there is something."""
        await self._news.wait()
        self._news.clear()
        told, self._told = self._told, []
        return told

    async def end_news(self) -> None:
        """Let :meth:`news` return at once, with nothing if nothing was told."""
        self._news.set()


def _unpack_into(store: Store, kind: str, identity: Mapping[str, Any], packed: Packed) -> None:
    store.get_or_build(kind, identity, lambda: (safetensors.torch.load(packed[0]), packed[1]))


@dataclass
class _Flight:
    """A run that was given out: its place in the plan, which attempt, since when it runs."""

    position: int
    attempt: str
    model: str
    deadline: float | None = None


class RayWorkers:
    """Executes runs as tasks of the cluster that :func:`connect` joined.

    Args:
        setup: As for local workers; ``threads`` is what each run takes of a node's CPUs.
        most: Runs at a time at most; None for as many as the cluster holds. A GPU is shared by
            several only where ``most`` is more than there are GPUs: then by measured memory.
        timeout: Seconds that a run may take, from when it starts on a worker.
        original: The user's own weights.
        unlearned: The user's unlearned models.
        shared: Whether workers see the store's folder; by default each looks for itself.
    """

    retries = RETRIES

    def __init__(
        self,
        setup: Setup,
        *,
        most: int | None = None,
        timeout: float | None = None,
        original: OriginalFile | None = None,
        notify: Callable[[str], None] = lambda _: None,
        shared: bool | None = None,
        unlearned: Sequence[OriginalFile] = (),
    ) -> None:
        self.timeout = timeout
        self._most, self._notify = most, notify
        self._gpu = setup.device.startswith("cuda")
        gpus = ray.cluster_resources().get("GPU", 0)
        self._shares = GpuShares(shared=most is not None and most > gpus)
        absolute = replace(
            setup,
            home=setup.home.resolve(),
            data_root=(setup.data_root or Path("data")).resolve(),
            plugins=(),
        )
        self._job = Job(
            absolute,
            f"locks/.seen-{uuid.uuid4().hex}",
            tuple((path.resolve(), path.read_text()) for path in setup.plugins),
            original.path.read_bytes() if original else None,
            Path.cwd(),
            shared,
            {file.sha256: file.path.read_bytes() for file in unlearned},
        )
        self._task = ray.remote(_run)
        self._flights: dict[Any, _Flight] = {}
        self._queued: list[Event] = []
        self._starved: float | None = None

    def __enter__(self) -> Self:
        home = self._job.setup.home
        write_atomically(home / self._job.token, "here\n")
        self._store = Store(home)
        here = ray.get_runtime_context().get_node_id()
        place = NodeAffinitySchedulingStrategy(here, soft=False)
        self._office = (
            ray.remote(Office)
            .options(num_cpus=0, scheduling_strategy=place, max_concurrency=1000)
            .remote(self._job)
        )
        # Once in the object store, not once per task: it may hold the weights of an original.
        self._job_there = ray.put(self._job)
        self._news = self._office.news.remote()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        left = list(self._flights)
        self._flights.clear()
        with contextlib.suppress(ray.exceptions.RayError):
            for task in left:
                ray.cancel(task)  # raises KeyboardInterrupt there: what is half-written goes
            if left:
                _, left = ray.wait(left, num_returns=len(left), timeout=PATIENCE)
            for task in left:
                ray.cancel(task, force=True)
            # What was handed in last is still to be taken home.
            ray.get(self._office.end_news.remote(), timeout=PATIENCE)
            list(self._read_news(ray.get(self._news, timeout=PATIENCE)))
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self._office)
        (self._job.setup.home / self._job.token).unlink(missing_ok=True)

    @property
    def at_a_time(self) -> int:
        """Runs that the cluster holds now, as far as they may be given out."""
        threads = self._job.setup.threads or 1
        room = max(1, int(ray.cluster_resources().get("GPU" if self._gpu else "CPU", 0) / threads))
        return min(room, self._most) if self._most else room

    @property
    def busy(self) -> bool:
        """Whether any run has been given out that has not ended."""
        return bool(self._flights)

    def takes(self, spec: RunSpec) -> bool:
        """Whether the cluster has room for this run, or will have as soon as another ends."""
        room = self._room(spec)
        if self._most is not None:
            return len(self._flights) < min(self._most, room + AHEAD)
        return len(self._flights) < room + AHEAD

    def _needs(self, spec: RunSpec) -> dict[str, float]:
        threads = float(spec.threads or self._job.setup.threads or 1)
        if not self._gpu:
            return {"num_cpus": threads}
        return {"num_cpus": float(spec.threads or 1), "num_gpus": self._shares.of(model_of(spec))}

    def _room(self, spec: RunSpec) -> int:
        """Return how many such runs the nodes hold that are there now."""
        needs = self._needs(spec)
        wanted = {"CPU": needs["num_cpus"], "GPU": needs.get("num_gpus", 0.0)}
        room = 0
        for node in _nodes():
            has = node["Resources"]
            room += min(int(has.get(n, 0.0) / w) for n, w in wanted.items() if w)
        return room

    def submit(self, position: int, spec: RunSpec, key: str, failed: Mapping[str, str]) -> None:
        """Hand the run to Ray, which queues it until a node has room."""
        attempt = uuid.uuid4().hex
        options = {**self._needs(spec), "max_retries": 0}
        run = self._task.options(**options)
        task = run.remote(self._job_there, self._office, attempt, spec, key, dict(failed))
        self._flights[task] = _Flight(position, attempt, model_of(spec))
        self._queued.append(Event(position, step="wait for a worker"))

    def events(self) -> Iterator[Event]:
        """Wait until a worker told something or ended, at most for a heartbeat."""
        yield from self._queued
        self._queued.clear()
        self._warn_if_starved()
        ready, _ = ray.wait([self._news, *self._flights], num_returns=1, timeout=self._patience())
        if self._news in ready:
            yield from self._read_news(ray.get(self._news))
            self._news = self._office.news.remote()
        for task in ready:
            if task in self._flights:
                yield self._landed(task)
        now = time.monotonic()
        late = [t for t, f in self._flights.items() if f.deadline is not None and f.deadline <= now]
        for task in late:
            ray.cancel(task, force=True)
            yield Event(self._flights.pop(task).position, timed_out=True)

    def _patience(self) -> float:
        ends = [f.deadline for f in self._flights.values() if f.deadline is not None]
        return max(0.0, min([HEARTBEAT, *(end - time.monotonic() for end in ends)]))

    def _read_news(self, told: list[dict[str, Any]]) -> Iterator[Event]:
        flights = {flight.attempt: flight for flight in self._flights.values()}
        for what in told:
            if "artifact" in what:
                kind, identity = what["artifact"]
                if layout.holds(self._store.home, kind, identity):
                    continue
                packed = ray.get(self._office.fetch.remote(kind, identity))
                if packed is not None:
                    _unpack_into(self._store, kind, identity, packed)
                continue
            flight = flights.get(what.pop("attempt"))
            if flight is None:
                continue  # of a run that was given up meanwhile
            # Messages may overtake each other: the first to come says that the run has begun.
            if self.timeout is not None and flight.deadline is None:
                flight.deadline = time.monotonic() + self.timeout
            if not what.pop("started", False):
                yield Event(flight.position, **what)

    def _landed(self, task: Any) -> Event:
        """Return the event that ends a run: its answer, or how its worker died."""
        flight = self._flights.pop(task)
        try:
            told: dict[str, Any] = ray.get(task)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                return Event(flight.position, error=error.cause)
            if isinstance(error.cause, ImportError):
                return Event(
                    flight.position,
                    error=ConfigError(
                        f"a worker says: {error.cause}; install unlearn-bench on every node"
                    ),
                )
            raise
        except ray.exceptions.OutOfMemoryError:
            return Event(
                flight.position,
                died=(
                    "Ray ended the worker because its node was short of memory; take fewer "
                    "--workers, a smaller batch size or a smaller model"
                ),
            )
        except ray.exceptions.RayError as error:
            reason = type(error).__name__.removesuffix("Error")
            return Event(flight.position, died=f"its worker or node died ({reason})")
        if measured := told.pop("gpu", None):
            self._shares.measured(flight.model, *measured)
        return Event(flight.position, **told)

    def _warn_if_starved(self) -> None:
        """Tell the user once when no node has had room for any run for a while."""
        if any(node["Resources"].get("GPU" if self._gpu else "CPU") for node in _nodes()):
            self._starved = None
        elif self._starved is None:
            self._starved = time.monotonic() + STARVED
        elif self._starved <= time.monotonic():
            self._starved = float("inf")
            self._notify("no node of the cluster can take a run: waiting for one to join")


def check_fits(threads: int) -> None:
    """Refuse a suite whose runs take more CPUs than any node has: Ray would wait for ever.

    Raises:
        ConfigError: With what a run takes and what the largest node has.
    """
    largest = max((node["Resources"].get("CPU", 0) for node in _nodes()), default=0)
    if 0 < largest < threads:
        raise ConfigError(
            f"a run takes {threads} CPUs, the largest node of the cluster has {largest:g}; write "
            f"`threads: {largest:g}` or fewer into the suite"
        )


def describe_cluster() -> str:
    """Say how large the cluster is now."""
    nodes = [node["Resources"] for node in _nodes()]
    cpus = sum(node.get("CPU", 0) for node in nodes)
    gpus = sum(node.get("GPU", 0) for node in nodes)
    and_gpus = f", {gpus:g} GPUs" if gpus else ""
    return f"a Ray cluster of {len(nodes)} nodes, {cpus:g} CPUs{and_gpus}"


def _nodes() -> list[dict[str, Any]]:
    """Return the nodes that are there now and can take runs: a head often cannot."""
    return [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]


def _run(
    job: Job, office: Any, attempt: str, spec: RunSpec, key: str, failed: Mapping[str, str]
) -> dict[str, Any]:
    """Execute one run on a worker and return what ends it; the body of a task.

    Raises:
        UserError: If the suite cannot be run here; it names the node.
    """

    def tell(**what: Any) -> None:
        office.tell.remote({"attempt": attempt, **what})

    end: dict[str, Any] = {}

    def note(**what: Any) -> None:
        if what.keys() & {"result", "error"}:
            end.update(what)
        else:
            tell(**what)

    try:
        runner = _runner(job, office, lambda text: tell(notice=text))
        spec = _with_weights(job, spec)
        if runner.key(spec) != key:
            raise ConfigError(
                f"data or code of {spec.label} are others than the driver's; install the same "
                "unlearn-bench, plug-in packages and datasets on every node"
            )
        tell(started=True)
        perform(runner, spec, failed, note)
        if "error" in end:
            raise end["error"]
    except UserError as error:
        raise UserError(f"on node {ray.util.get_node_ip_address()}: {error}") from None
    return end


@dataclass
class _Notifier:
    """Passes on to whoever listens now: a store outlives the run that it was opened for."""

    listener: Callable[[str], None]

    def __call__(self, text: str) -> None:
        self.listener(text)


# Of this process, by the suite's token: workers are used again, and a dataset is read once.
_runners: dict[str, tuple[Runner, _Notifier]] = {}


def _runner(job: Job, office: Any, notify: Callable[[str], None]) -> Runner:
    """Return this worker's runner for the suite, made at its first run here."""
    if job.token not in _runners:
        if job.folder.is_dir():
            os.chdir(job.folder)  # datasets may be named by relative paths
        for path, text in job.plugins:
            registry.load_plugin(_here(path, text.encode()))
        notifier = _Notifier(notify)
        store = (
            Store(job.setup.home, notifier)
            if job.sees_the_store()
            else RemoteStore(default_home(), notifier, office)
        )
        _runners.clear()
        _runners[job.token] = build_runner(job.setup, store), notifier
    runner, notifier = _runners[job.token]
    notifier.listener = notify
    return runner


def _with_weights(job: Job, spec: RunSpec) -> RunSpec:
    """Let the specification name files of this node that hold the user's weights."""
    there = {"original": job.original}
    if spec.unlearned is not None:
        there["unlearned"] = job.unlearned.get(spec.unlearned.sha256)
    found = {}
    for name, content in there.items():
        file: OriginalFile | None = getattr(spec, name)
        if file is not None and content is not None:
            path = _here(file.path, content)
            found[name] = OriginalFile(path=path, sha256=file.sha256)
    return spec.model_copy(update=found)


def _here(path: Path, content: bytes) -> Path:
    """Return the file itself where this node sees it as it is, or else a copy of it."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return path
    copy = default_home() / "received" / hashlib.sha256(content).hexdigest()[:16] / path.name
    if not copy.is_file():
        write_atomically(copy, content)
    return copy
