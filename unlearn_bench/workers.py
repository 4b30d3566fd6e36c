"""Worker processes on one machine: each runs one specification at a time.

A worker is told what to run over its own pipe and answers over it: the steps it comes to, what
the store wants to be told, and the result. A worker that dies takes only its own run with it,
and one whose parent dies ends itself. Workers are started by multiprocessing's fork server, which
has torch and timm loaded once for all of them.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unlearn_bench.errors import UserError
from unlearn_bench.results import RunResult
from unlearn_bench.spec import RunSpec


@dataclass(frozen=True)
class Setup:
    """What a worker needs to build a runner of its own.

    Attributes:
        home: Of the artifact store, which all share.
        device: As given to torch.
        data_root: Folder of the datasets.
        download: Whether missing datasets may be downloaded.
        plugins: Files that register methods.
    """

    home: Path
    device: str
    data_root: Path | None = None
    download: bool = False
    plugins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Event:
    """What a worker told, or what became of it.

    Attributes:
        position: The run's place in the plan.
        step: What it does now.
        notice: A line for the user.
        result: Set when the run ended.
        trace: Of a failed run, the traceback of what the method raised.
        error: What makes the whole suite impossible.
        died: Exit code of a worker that ended without an answer.
    """

    position: int
    step: str = ""
    notice: str = ""
    result: RunResult | None = None
    trace: str = ""
    error: UserError | None = None
    died: int | None = None


@dataclass
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    position: int | None = field(default=None)


class Workers:
    """A fixed number of worker processes; ends them all when left.

    Args:
        count: How many.
        setup: What each builds its runner from.
    """

    def __init__(self, count: int, setup: Setup) -> None:
        self._count, self._setup = count, setup
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["unlearn_bench.runner"])
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        self._workers = [self._start() for _ in range(self._count)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return any(worker.position is None for worker in self._workers)

    @property
    def busy(self) -> bool:
        """Whether a worker has something to do."""
        return any(worker.position is not None for worker in self._workers)

    def submit(self, position: int, spec: RunSpec, failed: Mapping[str, str]) -> None:
        """Give a run to an idle worker.

        Args:
            position: Its place in the plan, named by all events about it.
            spec: What to run.
            failed: Keys and reasons of runs that failed, so that none tries them again.
        """
        worker = next(worker for worker in self._workers if worker.position is None)
        worker.position = position
        with suppress(OSError):  # it died while idle: the next event tells
            worker.pipe.send((spec, dict(failed)))

    def events(self) -> Iterator[Event]:
        """Wait until a worker has something to tell, and yield all that is there by then."""
        busy = {w.pipe: w for w in self._workers if w.position is not None}
        for pipe in wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            position = worker.position
            assert position is not None
            try:
                told: dict[str, Any] = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                self._workers[self._workers.index(worker)] = self._start()
                yield Event(position, died=worker.process.exitcode)
                continue
            event = Event(position, **told)
            if event.result is not None or event.error is not None:
                worker.position = None
            yield event

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._setup), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)


def _work(pipe: Connection, setup: Setup) -> None:
    """Run what comes over the pipe until the parent closes it; the body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_die_with_the_parent, daemon=True).start()
    import torch

    from unlearn_bench import registry
    from unlearn_bench.runner import RunFailedError, Runner
    from unlearn_bench.store import Store

    def tell(**what: Any) -> None:
        pipe.send(what)

    try:
        for file in setup.plugins:
            registry.load_plugin(file)
        store = Store(setup.home, lambda text: tell(notice=text))
        runner = Runner(store, torch.device(setup.device), data_root=setup.data_root,
                        download=setup.download)  # fmt: skip
    except UserError as error:
        pipe.recv()
        tell(error=error)
        return
    while True:
        try:
            spec, failed = pipe.recv()
        except EOFError:
            return
        runner.remember(failed)
        try:
            tell(result=runner.run(spec, lambda text: tell(step=text)))
        except RunFailedError as failure:
            cause = failure.__cause__
            trace = "".join(traceback.format_exception(cause)) if cause else ""
            tell(result=runner.result(spec, "failed", error=str(failure)), trace=trace)
        except UserError as error:
            tell(error=error)


def _die_with_the_parent() -> None:
    """Wait for the parent to end; nobody else would end a worker whose parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
