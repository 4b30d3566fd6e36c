"""Runs on a Ray cluster: one task per run, scheduled, placed and watched over by Ray.

Ray decides where a task runs, queues what does not fit yet and uses nodes that join. What is
ours: artifacts reach whoever needs them, steps reach the display, and a run whose worker or node
died is given out again. :mod:`unlearn_bench.execution.ray_worker` is what the nodes are sent.
"""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from unlearn_bench.core.errors import ConfigError, OutputError, UserError, message, said
from unlearn_bench.core.files import write_atomically
from unlearn_bench.core.reading import real_path
from unlearn_bench.execution.backend import Event, Setup, model_of
from unlearn_bench.execution.capacity import GpuShares
from unlearn_bench.execution.ray_office import Office, unpack_into
from unlearn_bench.execution.ray_worker import Job, execute_run
from unlearn_bench.store import layout
from unlearn_bench.store.store import Store
from unlearn_bench.suite.spec import OriginalFile, RunSpec

RETRIES = 3
# Runs given out beyond what the cluster holds, so that no worker waits for the driver.
AHEAD = 2
# Seconds after which the driver looks around even if nobody told it anything.
HEARTBEAT = 2.0
STARVED = 30.0

# Seconds for a cluster to answer at all, and without an answer until it counts as gone: before
# Ray's own minute, after which it ends this process wherever it is.
KNOCK = 10.0
GONE = 20.0
# For runs to end in good order when the suite is interrupted.
PATIENCE = 5.0

_client_address = ""  # of the ray:// server that was joined


def connect(address: str) -> None:
    """Join the cluster at ``address``, unless this process is part of one.

    Args:
        address: ``auto`` for the one that this machine belongs to, ``HOST:PORT`` or
            ``ray://HOST:PORT``.

    Raises:
        ConfigError: If there is none.
    """
    global _client_address
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        knock(_of_this_machine() if address == "auto" else address)
        _client_address = address
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # ray raises many kinds: connection, version, protocol
        reason = " ".join(message(error).split())[:200]
        if "authenticat" in f"{type(error).__name__} {reason}".lower():
            raise ConfigError(
                f"--address {address}: the cluster asks for a token ({reason}); set "
                "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, as on its nodes"
            ) from error
        raise ConfigError(
            f"--address {address}: no Ray cluster answers ({reason}); start one with "
            "`ray start --head`, join it from other machines by `ray start --address=HOST:6379`"
        ) from error


@contextlib.contextmanager
def cluster_needed() -> Iterator[None]:
    """Turn the end of the cluster, or of what coordinates the suite on it, into one line.

    Raises:
        OutputError: If Ray cannot do within the block what it is asked for.
    """
    try:
        yield
    except ray.exceptions.RayTaskError:
        raise  # a defect in a task
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise _lost(f"{type(error).__name__}: {said(error)[:200]}") from error


def _lost(reason: str) -> OutputError:
    return OutputError(
        f"the Ray cluster is gone ({reason}); finished runs are kept: restart the cluster and "
        "repeat the same command, which continues from here"
    )


def _of_this_machine() -> str:
    """Return the address that ``auto`` stands for, perhaps of a cluster that is gone.

    Raises:
        ConnectionError: If there is none.
    """
    from ray._private import services

    return str(services.get_ray_address_from_environment("auto", None))


# The first bytes of HTTP/2, which Ray's servers speak, and an empty frame of settings.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


def knock(address: str) -> None:
    """Raise OSError if nothing like Ray answers at ``HOST:PORT``; Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
            return
        connection.sendall(_GREETING)
        answer = connection.recv(9, socket.MSG_WAITALL)
    if len(answer) < 9 or answer[3] != _SETTINGS:
        raise ConnectionError(f"the server at {address} is not Ray")


def _head() -> str:
    """Return where the cluster that this process joined can be knocked at."""
    if ray.util.client.ray.is_connected():
        return _client_address
    return str(ray.get_runtime_context().gcs_address)


def cluster_has_gpus() -> bool:
    """Whether any node of the cluster has a GPU."""
    return bool(ray.cluster_resources().get("GPU"))


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
        self.shares = GpuShares(shared=most is not None and most > gpus)
        absolute = replace(
            setup,
            home=setup.home.resolve(),
            data_root=real_path(setup.data_root or Path("data"), "--data-root"),
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
        self._task = ray.remote(execute_run)
        self._flights: dict[Any, _Flight] = {}
        self._queued: list[Event] = []
        self._starved: float | None = None
        self._address = _head()
        self._silent: float | None = None  # since when the head does not answer
        self._next_look = 0.0

    def __enter__(self) -> Self:
        home = self._job.setup.home
        write_atomically(home / self._job.token, "here\n")
        self._store = Store(home)
        here = ray.get_runtime_context().get_node_id()
        place = NodeAffinitySchedulingStrategy(here, soft=False)
        self._office = (
            ray.remote(Office)
            .options(
                num_cpus=0,
                scheduling_strategy=place,
                max_concurrency=1000,
                # Begun again it has forgotten at most steps, which are only shown.
                max_restarts=RETRIES,
                max_task_retries=RETRIES,
            )
            .remote(home, self._job.token, self._job.shared)
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
        token = self._job.setup.home / self._job.token
        if not self._answers():  # whatever is asked of it now would wait for minutes
            token.unlink(missing_ok=True)
            return
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
        token.unlink(missing_ok=True)

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
        if not self._answers():
            return False
        with cluster_needed():
            room = self._room(spec)
        if self._most is not None:
            return len(self._flights) < min(self._most, room + AHEAD)
        return len(self._flights) < room + AHEAD

    def needs(self, spec: RunSpec) -> dict[str, float]:
        """Return what Ray is to reserve for a run, by the names of its options."""
        threads = float(spec.threads or self._job.setup.threads or 1)
        if not self._gpu:
            return {"num_cpus": threads}
        return {"num_cpus": float(spec.threads or 1), "num_gpus": self.shares.of(model_of(spec))}

    def _room(self, spec: RunSpec) -> int:
        """Return how many such runs the nodes hold that are there now."""
        needs = self.needs(spec)
        wanted = {"CPU": needs["num_cpus"], "GPU": needs.get("num_gpus", 0.0)}
        room = 0
        for node in _nodes():
            has = node["Resources"]
            room += min(int(has.get(n, 0.0) / w) for n, w in wanted.items() if w)
        return room

    def submit(self, position: int, spec: RunSpec, key: str, failed: Mapping[str, str]) -> None:
        """Hand the run to Ray, which queues it until a node has room."""
        attempt = uuid.uuid4().hex
        options = {**self.needs(spec), "max_retries": 0}
        run = self._task.options(**options)
        with cluster_needed():
            task = run.remote(self._job_there, self._office, attempt, spec, key, dict(failed))
        self._flights[task] = _Flight(position, attempt, model_of(spec))
        self._queued.append(Event(position, step="wait for a worker"))

    def wait(self, tell: Callable[[Event], None]) -> None:
        """Tell what :meth:`events` yields.

        Raises:
            OutputError: If the cluster is gone.
        """
        events = self.events()
        while True:
            with cluster_needed():
                event = next(events, None)
            if event is None:
                break
            tell(event)
        if self._silent is not None and time.monotonic() - self._silent > GONE:
            raise _lost("its head no longer answers")

    def _answers(self) -> bool:
        """Whether the head can be reached; else only what was given out can be waited for."""
        now = time.monotonic()
        if now > self._next_look:
            self._next_look = now + HEARTBEAT / 2
            try:
                knock(self._address)
            except OSError:
                self._silent = self._silent or now
            else:
                self._silent = None
        return self._silent is None

    def events(self) -> Iterator[Event]:
        """Wait until a worker told something or ended, at most for a heartbeat."""
        yield from self._queued
        self._queued.clear()
        if self._answers():
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
                    unpack_into(self._store, kind, identity, packed)
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
            self.shares.measured(flight.model, *measured)
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
