"""Who is at work in a results folder: one process on the whole suite, or several on a seed each.

A process on the whole suite holds the folder's lock alone. Those on one seed each share it, so that
neither gets into the other's way, and hold the lock of their seed. What all of them write, the
suite's file, the joined tables and the report, is written under a third lock, :func:`joining`. The
system lets go of locks when a process dies.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from unlearn_bench.core import locks
from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import is_temporary, readable_os_errors
from unlearn_bench.execution.folder import refuse_foreign
from unlearn_bench.execution.names import FOLDERS, LOCK, seed_lock
from unlearn_bench.execution.observer import Observer

# Attempts to get a lock before it counts as taken: others may be looking at it in this moment.
PATIENCE = 5


@contextlib.contextmanager
def owned(out: Path, observer: Observer, seed: int | None = None) -> Iterator[None]:
    """Hold the folder for this process; the system lets go of it when the process dies.

    Args:
        out: The results folder, created if need be.
        observer: Notified where a file system has no locks.
        seed: The only one that is worked on, beside processes on others; None for all.

    Raises:
        OutputError: If another process is, on the same seed or on all.
    """
    refuse_foreign(out)
    with contextlib.ExitStack() as held:
        with readable_os_errors("write into", out):
            (out / "runs").mkdir(parents=True, exist_ok=True)
            whole = _whole(out) if seed is None else locks.take(out / LOCK)
            if whole is not None and not whole.sure:
                observer.notice(
                    f"the file system of {out} has no locks: make sure that only one command runs "
                    "in it, or work is done twice"
                )
            elif whole is not None:
                _tidy(out)
            if whole is not None and seed is None:
                held.enter_context(whole)
            elif whole is not None:
                whole.release()
            if seed is not None:
                held.enter_context(_shared(out))
                held.enter_context(_of_seed(out, seed))
        yield


def is_alone(out: Path, seed: int | None) -> bool:
    """Say whether no other process is at work in the folder that this one owns.

    Args:
        out: The results folder.
        seed: As of :func:`owned`. With one, asked within :func:`joining`: of two processes that
            begin at the same time, the second sees the first.
    """
    mine = None if seed is None else seed_lock(out, seed)
    others = () if seed is None else out.glob(f"{LOCK}-seed-*")
    return not any(locks.is_held(path) for path in others if path != mine)


@contextlib.contextmanager
def joining(out: Path, seed: int | None) -> Iterator[None]:
    """Wait until no other process writes what all of them write; nothing to wait for without seed.

    Args:
        out: The results folder.
        seed: As of :func:`owned`.
    """
    if seed is None:
        yield
        return
    with readable_os_errors("write into", out):
        held = locks.take(out / f"{LOCK}-join", wait=True)
    with held or contextlib.nullcontext():
        yield


def _whole(out: Path) -> locks.Lock:
    held = _insistently(lambda: locks.take(out / LOCK))
    if held is None:
        raise OutputError(
            f"another process is running a suite in {out}; wait for it or choose another --out"
        )
    return held


def _shared(out: Path) -> locks.Lock:
    held = _insistently(lambda: locks.share(out / LOCK))
    if held is None:
        raise OutputError(
            f"another process is running the whole suite in {out}, without --seed; wait for it or "
            "choose another --out"
        )
    return held


def _of_seed(out: Path, seed: int) -> locks.Lock:
    held = _insistently(lambda: locks.take(seed_lock(out, seed)))
    if held is None:
        raise OutputError(
            f"another process is running seed {seed} in {out}; wait for it or give another --seed"
        )
    return held


def _insistently(take: Callable[[], locks.Lock | None]) -> locks.Lock | None:
    for attempt in range(PATIENCE):
        time.sleep(0.05 if attempt else 0)
        if (held := take()) is not None:
            return held
    return None


def _tidy(out: Path) -> None:
    """Remove what killed processes were writing; nobody else may be at work."""
    for folder in (out, *(out / name for name in FOLDERS)):
        for left in folder.glob(".*.tmp"):
            if is_temporary(left.name):
                left.unlink(missing_ok=True)
