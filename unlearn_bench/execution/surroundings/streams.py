"""The standard output and error: the file that a number stands for, and the object on top."""

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from typing import Any

_NUMBERS = {"stdout": 1, "stderr": 2}
# Copies of the files, by their numbers: a closed one can be put back only from such.
_copies: dict[int, int] = {}


def read() -> dict[str, Any]:
    """Return what each stream is."""
    found: dict[str, Any] = {}
    for name, number in _NUMBERS.items():
        stream = getattr(sys, name)
        found[name] = (stream, getattr(stream, "closed", False), _file(number))
    return found


def keep() -> None:
    """Keep copies of the files as they are now, which :func:`restore` needs."""
    for number in _NUMBERS.values():
        file, copy = _file(number), _copies.get(number)
        if file is not None and (copy is None or _file(copy) != file):
            if copy is not None:
                with contextlib.suppress(OSError):
                    os.close(copy)
            _copies[number] = os.dup(number)


def restore(before: Mapping[str, Any]) -> None:
    """Put back objects and files, and open what was closed."""
    for name, (stream, closed, file) in before.items():
        number = _NUMBERS[name]
        if file is not None and _file(number) != file and _file(_copies[number]) == file:
            os.dup2(_copies[number], number)
        setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper) and stream.closed and not closed:
            _open_again(stream, number)


def _open_again(stream: io.TextIOWrapper, number: int) -> None:
    """Open the very object: whoever writes has it, not its name."""
    settings = {
        "encoding": stream.encoding,
        "errors": stream.errors,
        "line_buffering": stream.line_buffering,
    }
    stream.__init__(open(number, "wb", closefd=False), **settings)  # type: ignore[misc]


def _file(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino
