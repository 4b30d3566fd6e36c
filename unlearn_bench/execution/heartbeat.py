"""A small file in the results folder that says what is under way, for `unlearn-bench status`.

``progress.json`` exists while a suite runs, ``progress-seed-N.json`` while one seed of it does;
one that lies beside a free lock is of a process that was killed. It is rewritten at most once a
second, and only when something changed.
"""

import json
import math
import os
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unlearn_bench.core.errors import OutputError, RefusedError
from unlearn_bench.core.files import write_atomically
from unlearn_bench.core.reading import MIB, read_json
from unlearn_bench.execution.observer import Observer
from unlearn_bench.results.records import RunResult
from unlearn_bench.suite.spec import RunSpec

PREFIX = "progress"
PROGRESS_BYTES = 4 * MIB  # the positions of a plan's most runs take less than one
INTERVAL = 1.0  # seconds


@dataclass
class _Run:
    start: float
    step: str = ""


class Heartbeat:
    """Passes everything on to another observer, and keeps the file while its block runs.

    Args:
        out: The results folder.
        observer: Notified of everything.
        workers: How many runs go on at a time.
        seed: The only one that is worked on; None for all.
    """

    def __init__(
        self, out: Path, observer: Observer, workers: int = 1, seed: int | None = None
    ) -> None:
        self._path = progress_file(out, seed)
        self._observer = observer
        self._workers = workers
        self._running: dict[int, _Run] = {}
        self._ended: list[int] = []
        self._changed = True
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_now_and_then, daemon=True)

    def __enter__(self) -> Self:
        self.write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(OSError):
            self._path.unlink()

    def run_started(self, position: int, spec: RunSpec) -> None:
        """Note it and pass it on."""
        with self._lock:
            self._running[position] = _Run(time.monotonic())
            self._changed = True
        self._observer.run_started(position, spec)

    def step(self, position: int, text: str) -> None:
        """Note it and pass it on."""
        with self._lock:
            if position in self._running:
                self._running[position].step = text
            self._changed = True
        self._observer.step(position, text)

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        """Note it and pass it on."""
        with self._lock:
            self._running.pop(position, None)
            self._ended.append(position)
            self._changed = True
        self._observer.run_finished(position, result, reused)

    def notice(self, text: str) -> None:
        """Pass it on."""
        self._observer.notice(text)

    def run_failed(self, trace: str) -> None:
        """Pass it on."""
        self._observer.run_failed(trace)

    def _write_now_and_then(self) -> None:
        while not self._stop.wait(INTERVAL):
            if self._changed:
                self.write()

    def write(self) -> None:
        """Write the file as things are now."""
        now = time.monotonic()
        with self._lock:
            self._changed = False
            running = [
                {"position": position, "step": run.step, "seconds": round(now - run.start, 3)}
                for position, run in sorted(self._running.items())
            ]
            ended = sorted(self._ended)
        stored = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "boot": boot(),
            "clock": now,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "workers": self._workers,
            "running": running,
            "ended": ended,
        }
        # A disk that is full ends the suite where results are written, with a better message.
        with suppress(OutputError):
            write_atomically(self._path, json.dumps(stored) + "\n")


def boot() -> str:
    """Return what tells this start of this machine from any other; "" where nothing does.

    Within one the monotonic clock, which nobody can set, is the same for all processes.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def progress_file(out: Path, seed: int | None = None) -> Path:
    """Return the file of a process on one seed, or on all."""
    return out / (f"{PREFIX}.json" if seed is None else f"{PREFIX}-seed-{seed}.json")


def seeds_at_work(out: Path) -> list[int]:
    """Return the seeds that processes are at work on one by one, or were when they were killed."""
    names = (re.fullmatch(rf"{PREFIX}-seed-(\d{{1,9}})\.json", path.name) for path in out.iterdir())
    return sorted(int(name[1]) for name in names if name)


def read(out: Path, seed: int | None = None) -> dict[str, Any] | None:
    """Return what the file says; None where there is none that :class:`Heartbeat` wrote."""
    try:
        stored = read_json(progress_file(out, seed), PROGRESS_BYTES, links=False)
        return {
            "pid": int(stored["pid"]),
            "host": str(stored["host"]),
            "boot": str(stored.get("boot", "")),
            "clock": _finite(stored.get("clock", 0)),
            "workers": int(stored["workers"]),
            "ended": [int(p) for p in stored["ended"]],
            "running": [
                {
                    "position": int(run["position"]),
                    "step": str(run["step"]),
                    "seconds": _finite(run["seconds"]),
                }
                for run in stored["running"]
            ],
        }
    except (RefusedError, OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def _finite(number: Any) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{number} seconds")
    return float(number)
