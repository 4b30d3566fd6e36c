"""Memory that runs out, and memory that there is: halved batches, limits of machine and container.

Where examples do not influence each other, a batch that does not fit is taken in halves: the
numbers are the same. Batches of training are never touched, since they are part of what is
trained.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import torch

from unlearn_bench.core.errors import message

T = TypeVar("T")

_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "_STATUS_ALLOC_FAILED",
)

_halved: ContextVar[dict[str, int] | None] = ContextVar("halved", default=None)

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, of the machine or of a GPU, did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in message(error) for word in _WORDS)


@contextlib.contextmanager
def noting_halved() -> Iterator[dict[str, int]]:
    """Collect what was done in halved batches within the block: by name, the size that fitted."""
    noted: dict[str, int] = {}
    token = _halved.set(noted)
    try:
        yield noted
    finally:
        _halved.reset(token)


def halving(what: str, batch_size: int, compute: Callable[[int], T]) -> T:
    """Return ``compute(batch_size)``, begun again with half the batch when memory runs out.

    Args:
        what: Under which name the size that fitted is noted.
        batch_size: The first to be tried.
        compute: Given a batch size; its result must not depend on it.

    Raises:
        Exception: What ``compute`` raised, with a batch of one at last.
    """
    size = batch_size
    while True:
        try:
            found = compute(size)
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        else:
            if size < batch_size:
                note_halved(what, size)
            return found
        # Outside the handler, whose traceback holds on to the tensors that did not fit.
        size = max(1, size // 2)
        release()


def note_halved(what: str, size: int) -> None:
    """Note that ``what`` was done in batches of ``size``, for the caller that collects."""
    noted = _halved.get()
    if noted is not None:
        noted[what] = min(size, noted.get(what, size))


def release() -> None:
    """Give what torch holds in reserve on a GPU back to it."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def available_memory() -> int:
    """Bytes of main memory that this process may still take, container and job limits included."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for folder, version in _groups("memory"):
        limit_name, used_name = (
            ("memory.max", "memory.current")
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        if limit is not None:
            # What caches hold counts as used and is given back when asked for: at least a tenth.
            free = min(free, max(limit - (used or 0), limit // 10))
    return free


def _groups(controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the control groups that this process is in, outermost last, and their version."""
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        lines = []
    places = {"": "/", controller: "/"}
    for line in lines:
        _, names, path = line.split(":", 2)
        places |= dict.fromkeys(names.split(","), path)
    for name, root, version in (("", CGROUPS, 2), (controller, CGROUPS / controller, 1)):
        inner = root / places[name].lstrip("/")
        # Within a container the path may be the host's: then only the root is there.
        for folder in (inner, *inner.parents):
            if folder == root or root in folder.parents:
                yield folder, version


def cpu_quota() -> float | None:
    """Return how many cores' time this process may use, or None where there is no such limit."""
    quotas = [_quota(folder, version) for folder, version in _groups("cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(folder: Path, version: int) -> float | None:
    if version == 1:
        quota, period = (_number(folder / f"cpu.cfs_{what}_us") for what in ("quota", "period"))
        return quota / period if quota and period else None
    try:
        words = (folder / "cpu.max").read_text().split()
    except OSError:
        words = []
    limited = len(words) == 2 and words[0].isdigit()
    return int(words[0]) / int(words[1]) if limited else None


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is none, or a word such as ``max``."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
