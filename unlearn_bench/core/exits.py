"""Plug-ins that end the process: what they call raises instead, so that the suite goes on.

``os._exit`` runs no handlers and leaves no trace: with status 0 a suite that was cut short would
look finished.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import NoReturn

_exit = os._exit
_guarded: int | None = None  # the process in which exits raise


@contextlib.contextmanager
def exits_raise() -> Iterator[None]:
    """Let ``os._exit`` raise SystemExit within the block.

    Processes forked within it end as they ask to. A thread, which cannot raise for the main one,
    ends the process, but never with status 0.
    """
    global _guarded
    before, _guarded = _guarded, os.getpid()
    os._exit = _raise
    try:
        yield
    finally:
        _guarded = before
        os._exit = _exit if before is None else _raise


def _raise(status: int) -> NoReturn:
    if _guarded != os.getpid():
        _exit(status)
    if threading.current_thread() is not threading.main_thread():
        _exit(status or 1)
    raise SystemExit(f"os._exit({status}) was called; return instead, or raise an error")
