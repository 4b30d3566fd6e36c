"""Locks that die with their holder.

The kernel lets go of a lock when its process ends, however it ends: a lock file that lies about
bars nobody, and there is nothing to tidy up after a crash. Some network file systems have no
locks. There a lock is granted to everybody and says so (``sure`` is False): whoever writes by
atomic rename under names that determine the content does work twice at worst, and no damage.
"""

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from unlearn_bench.core.errors import RefusedError
from unlearn_bench.core.reading import opened

_HELD_ELSEWHERE = {errno.EAGAIN, errno.EACCES}
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class Lock:
    """A lock that is held; release it, or leave its ``with`` block.

    Attributes:
        sure: Whether nobody else can hold it; False on a file system without locks.
    """

    def __init__(self, handle: int | None) -> None:
        self._handle = handle
        self.sure = handle is not None

    def release(self) -> None:
        """Let go of it; a second time does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def share(path: Path) -> Lock | None:
    """Lock the file ``path`` as :func:`take` does, beside others who share it; never wait.

    Raises:
        OSError: If the file cannot be opened or locked.
    """
    return _locked(path, fcntl.LOCK_SH | fcntl.LOCK_NB)


def take(path: Path, *, wait: bool = False) -> Lock | None:
    """Lock the file ``path``, created if need be, for this process alone.

    Args:
        path: Its folder must exist.
        wait: Until its holder releases it; otherwise None is returned at once.

    Raises:
        OSError: If the file cannot be opened or locked.
    """
    return _locked(path, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _locked(path: Path, how: int) -> Lock | None:
    while True:
        # Never through a link: the file would be made wherever that leads.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, how)
            # Who held it before may have removed the file: what lies there now is the lock.
            if _lies_at(handle, path):
                return Lock(handle)
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LOCKS_HERE:
                return Lock(None)
            if error.errno in _HELD_ELSEWHERE:
                return None
            raise
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def is_held(path: Path) -> bool | None:
    """Say whether a living process holds the lock file; None where locks do not exist.

    Nothing is written. Whoever wants the lock in the very moment of the look must try again.
    """
    try:
        with opened(path, links=False) as file:
            return _is_locked(file)
    except (FileNotFoundError, RefusedError):
        return False  # what is no regular file was not made to be locked


def _is_locked(file: IO[bytes]) -> bool | None:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD_ELSEWHERE:
            return True
        if error.errno in _NO_LOCKS_HERE:
            return None
        raise
    return False


def _lies_at(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
