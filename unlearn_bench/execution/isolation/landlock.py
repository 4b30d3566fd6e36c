"""Landlock: what Linux lets a process give up for itself and all that it starts, by three calls.

There is no wrapper for them in Python or in the C library. Sources: the kernel's
``Documentation/userspace-api/landlock.rst`` and ``include/uapi/linux/landlock.h``.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL
READ = EXECUTE | READ_FILE | READ_DIR
# By ABI: how many rights there are on files; since when TCP, and signals to others, can be closed.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_SINCE, _SCOPES_SINCE = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def abi() -> int:
    """Return the version of Landlock that the kernel has, 0 where there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(_CREATE, None, 0, 1))


def restrict(readable: Mapping[Path, int], usable: Iterable[Path], writable: Path) -> int:
    """Give up, for this thread and all that it starts, every file but these, and TCP.

    Args:
        readable: By path, which of :data:`READ` and :data:`READ_DIR` holds for it and all below.
        usable: Files and devices that may also be written to.
        writable: A folder in which everything may be done.

    Returns:
        The version of Landlock in force, 0 where there is none.

    Raises:
        OSError: If the kernel has Landlock and refuses all the same.
    """
    version = abi()
    if not version:
        return 0
    everything = (1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1
    wanted = _Ruleset(everything, 3 if version >= _TCP_SINCE else 0, 0)
    wanted.scopes = 3 if version >= _SCOPES_SINCE else 0
    size = 8 if version < _TCP_SINCE else 16 if version < _SCOPES_SINCE else 24
    ruleset = _checked(_call(_CREATE, ctypes.byref(wanted), size, 0))
    try:
        for path, rights in readable.items():
            _allow(ruleset, path, rights)
        for path in usable:
            _allow(ruleset, path, (READ | WRITE_FILE | _TRUNCATE | _IOCTL) & everything)
        _allow(ruleset, writable, everything)
        _checked(_libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _checked(_call(_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine
        return
    try:
        rule = _Beneath(rights if path.is_dir() else rights & _OF_FILES, place)
        _checked(_call(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(place)


def without(path: Path, closed: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    """Yield what may be read of a folder without some places in it, and how.

    Rules only ever allow, and for all below: a folder that holds a closed place is allowed piece
    by piece, and its names are listed all the same, as importing from it needs.

    Args:
        path: Resolved.
        closed: Resolved.
    """
    inside = [place for place in closed if path == place or path in place.parents]
    if not inside:
        yield path, READ
    elif path not in inside:
        yield path, READ_DIR
        with contextlib.suppress(OSError):
            for part in sorted(path.iterdir()):
                if not part.is_symlink():
                    yield from without(part, inside)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    return int(_libc().syscall(number, *arguments))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
