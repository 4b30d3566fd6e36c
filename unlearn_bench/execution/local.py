"""Worker processes on one machine: each runs one specification at a time.

A worker is told what to run over its own pipe and answers over it: the steps it comes to, what
the store wants to be told, and the result. A worker that dies takes only its own run with it,
and one whose parent dies ends itself. Workers are started by multiprocessing's fork server, which
has torch, timm and what judging needs loaded once for all of them.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import TracebackType
from typing import Any, Self

import torch

from unlearn_bench.core.errors import UserError
from unlearn_bench.execution.backend import Event, Setup, build_runner, model_of, perform
from unlearn_bench.execution.capacity import GpuShares
from unlearn_bench.execution.interrupt import Interrupted, raise_interrupted
from unlearn_bench.execution.plugin_files import load_plugin
from unlearn_bench.store.store import Store
from unlearn_bench.suite.spec import RunSpec

# To tidy up in after being told to end; a worker that takes longer is killed.
PATIENCE = 5.0
TURN = 3600.0
# Loaded before workers are forked; this process does not judge.
JUDGING = ("unlearn_bench.measure.metrics", "scipy.stats", "sklearn.linear_model", "sklearn.svm")


@dataclass
class _Worker:
    """A process and what it is at.

    Attributes:
        device: Which it runs on.
        share: How much of a GPU its run takes.
        position: Of its run in the plan, None when idle.
        deadline: When its run is ended, on the monotonic clock.
        job: What it was sent.
        begun: Whether it took that up.
        again: Whether another worker died without taking it up.
    """

    process: ForkServerProcess
    pipe: Connection
    device: str
    share: float = 0.0
    position: int | None = None
    model: str = ""
    deadline: float | None = None
    job: tuple[RunSpec, dict[str, str]] | None = None
    begun: bool = False
    again: bool = False


class Workers:
    """A number of worker processes; ends them all when left.

    Args:
        count: How many at most; one starts when there is a run for it.
        setup: What each builds its runner from.
        devices: GPUs to spread the runs over, as torch names them; by default the setup's device.
        timeout: Seconds that a run may take, training what it needs first included.
    """

    retries = 0  # what killed a run here, mostly its use of memory, would kill it again

    def __init__(
        self,
        count: int,
        setup: Setup,
        *,
        devices: Sequence[str] = (),
        timeout: float | None = None,
    ) -> None:
        self.timeout = timeout
        self._count, self._setup = count, setup
        self._devices = tuple(devices) or (setup.device,)
        self._on_gpu = torch.device(setup.device).type == "cuda"
        self._shares = GpuShares(shared=count > len(self._devices))
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, *JUDGING])
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        _start_fork_server()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.process.terminate()
        end = time.monotonic() + PATIENCE
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    @property
    def at_a_time(self) -> int:
        """How many processes there are."""
        return self._count

    @property
    def busy(self) -> bool:
        """Whether a worker has something to do."""
        return any(worker.position is not None for worker in self._workers)

    def takes(self, spec: RunSpec) -> bool:
        """Whether a worker is free, and on a GPU the memory for this run as well."""
        return self._place(spec) is not None

    def _place(self, spec: RunSpec) -> str | None:
        """Return the least loaded device if this run can start there."""
        busy = [worker for worker in self._workers if worker.position is not None]
        if len(busy) >= self._count:
            return None
        load = {device: 0.0 for device in self._devices}
        for worker in busy:
            load[worker.device] += worker.share
        device = min(self._devices, key=lambda name: load[name])
        fits = not self._on_gpu or load[device] + self._share(spec) <= 1
        return device if fits else None

    def _share(self, spec: RunSpec) -> float:
        return self._shares.of(model_of(spec)) if self._on_gpu else 0.0

    def submit(self, position: int, spec: RunSpec, key: str, failed: Mapping[str, str]) -> None:
        """Give a run to an idle worker, started if need be."""
        device = self._place(spec)
        assert device is not None
        for worker in self._workers.copy():
            if worker.position is None and not worker.process.is_alive():
                self._bury(worker)
        self._hand(position, (spec, dict(failed)), device)

    def _hand(
        self, position: int, job: tuple[RunSpec, dict[str, str]], device: str, again: bool = False
    ) -> None:
        idle = [w for w in self._workers if w.position is None and w.device == device]
        worker = idle[0] if idle else self._start(device)
        worker.position, worker.model = position, model_of(job[0])
        worker.share = self._share(job[0])
        worker.job, worker.begun, worker.again = job, False, again
        with contextlib.suppress(OSError):  # it died just now: the next event tells
            worker.pipe.send(job)

    def wait(self, tell: Callable[[Event], None]) -> None:
        """Tell what :meth:`events` yields."""
        for event in self.events():
            tell(event)

    def events(self) -> Iterator[Event]:
        """Wait until a worker has something to tell, and yield all that is there by then."""
        busy = {w.pipe: w for w in self._workers if w.position is not None}
        deadlines = [w.deadline for w in self._workers if w.deadline is not None]
        for pipe in wait(list(busy), until_first(deadlines)):
            worker = busy[pipe]  # type: ignore[index]
            assert worker.position is not None
            try:
                told: dict[str, Any] = worker.pipe.recv()
            except (EOFError, OSError):
                died = _obituary(self._bury(worker))
                if not worker.begun and not worker.again and worker.job is not None:
                    # Whatever it died of, it was not this run.
                    self._hand(worker.position, worker.job, worker.device, again=True)
                else:
                    yield Event(worker.position, died=died)
                continue
            if told.pop("started", False):
                worker.begun = True
                if self.timeout is not None:
                    worker.deadline = time.monotonic() + self.timeout
            if measured := told.pop("gpu", None):
                self._shares.measured(worker.model, *measured)
            event = Event(worker.position, **told)
            if event.last:
                worker.position = worker.deadline = None
            yield event
        now = time.monotonic()
        for worker in [w for w in self._workers if w.deadline is not None and w.deadline <= now]:
            assert worker.position is not None
            worker.process.kill()
            self._bury(worker)
            yield Event(worker.position, timed_out=True)

    def _bury(self, worker: _Worker) -> int:
        """Forget a dead worker and return its exit code."""
        self._workers.remove(worker)
        worker.process.join()
        worker.pipe.close()
        return worker.process.exitcode or 0

    def _start(self, device: str) -> _Worker:
        # A worker that idles on another GPU makes room: there are never more than were asked for.
        if len(self._workers) >= self._count:
            spare = next(w for w in self._workers if w.position is None)
            spare.process.terminate()
            self._bury(spare)
        ours, theirs = self._context.Pipe()
        setup = replace(self._setup, device=device)
        process = self._context.Process(target=_work, args=(theirs, setup), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(worker := _Worker(process, ours, device))
        return worker


def until_first(deadlines: Sequence[float]) -> float | None:
    """Return for how many seconds to wait for the first of some deadlines, None without any.

    In turns: the system cannot wait for longer than 24 days at a time.

    Args:
        deadlines: On the monotonic clock.
    """
    return min(TURN, max(0.0, min(deadlines) - time.monotonic())) if deadlines else None


def _start_fork_server() -> None:
    """Start what workers are forked from, deaf to Ctrl-C from its first moment on, as they are.

    It would say with a traceback that it was interrupted while it loads torch.
    """
    resource_tracker.ensure_running()  # first, as that lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obituary(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "the worker process was killed (signal 9): most likely there was not enough memory; "
            "use fewer --workers, a smaller batch size or a smaller model"
        )
    return f"the worker process ended with code {code}; --workers 1 shows what happened"


def _work(pipe: Connection, setup: Setup) -> None:
    """Run what comes over the pipe until the parent closes it; the body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_die_with_the_parent, daemon=True).start()
    try:
        # Raises in the midst of things, so that the store takes back what it was writing.
        signal.signal(signal.SIGTERM, raise_interrupted)
        _answer(pipe, setup)
    except (Interrupted, EOFError, BrokenPipeError):
        pass
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: pools that read ahead would be waited for.
    os._exit(0)


def _answer(pipe: Connection, setup: Setup) -> None:
    def tell(**what: Any) -> None:
        pipe.send(what)

    try:
        for file in setup.plugins:
            load_plugin(file)
        runner = build_runner(setup, Store(setup.home, lambda text: tell(notice=text)))
    except UserError as error:
        pipe.recv()
        tell(error=error)
        return
    while True:
        spec, failed = pipe.recv()
        tell(started=True)
        perform(runner, spec, failed, tell)


def _die_with_the_parent() -> None:
    """Wait for the parent to end; nobody else would end a worker whose parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
