"""Threads and processes that a plug-in leaves running."""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import psutil

PATIENCE = 2.0  # seconds, for what is about to end


def running_on(before: set[threading.Thread]) -> list[str]:
    """Return the names of threads that were started since, and give them a moment to end."""
    end = time.monotonic() + PATIENCE
    # The monitor of tqdm's bars starts with the first one and ends with the process.
    new = [t for t in threading.enumerate() if t not in before and type(t).__name__ != "TMonitor"]
    names = [thread.name for thread in new]
    for thread in new:
        thread.join(max(0.0, end - time.monotonic()))
    return names


def children() -> set[int]:
    """Return the processes that this one started, but for those that multiprocessing keeps."""
    try:
        tasks = [task / "children" for task in Path("/proc/self/task").iterdir()]
        found = {int(pid) for task in tasks for pid in task.read_text().split()}
    except OSError:  # not Linux, or a thread that ended meanwhile
        found = {child.pid for child in psutil.Process().children()}
    return found - _kept()


def _kept() -> set[int | None]:
    places = (
        ("resource_tracker", "_resource_tracker", "_pid"),
        ("forkserver", "_forkserver", "_forkserver_pid"),
    )
    modules = [sys.modules.get(f"multiprocessing.{name}") for name, _, _ in places]
    return {
        getattr(getattr(module, server, None), pid, None)
        for module, (_, server, pid) in zip(modules, places, strict=True)
    }


def end_processes(pids: set[int]) -> list[str]:
    """Kill processes with all that they started; return the names of those that ran on.

    Args:
        pids: Of processes that this one started.
    """
    names, family = [], []
    for pid in sorted(pids):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if not _ends(process):
                names.append(process.name())
                family += [*process.children(recursive=True), process]
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    return names


def _ends(process: psutil.Process) -> bool:
    """Whether a process ends by itself within a moment; it is not collected."""
    end = time.monotonic() + PATIENCE
    while process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
