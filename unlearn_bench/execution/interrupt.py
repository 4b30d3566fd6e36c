"""Ctrl-C: the first ends a suite in good order, the second at once.

A request to end, as batch systems and container hosts send it before they kill, is as good. A
KeyboardInterrupt that a method raises by itself is no Ctrl-C: only signals raise
:class:`Interrupted`.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

MESSAGE = (
    "interrupted: finished runs are kept, and the same command continues from here; Ctrl-C again "
    "stops immediately"
)


_asked = False


def asked_to_end() -> bool:
    """Whether the first Ctrl-C came, also where a method took no notice of it."""
    return _asked


class Interrupted(KeyboardInterrupt):  # noqa: N818
    """A signal that asks this process to end."""


def raise_interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """Raise :class:`Interrupted`; a signal handler."""
    raise Interrupted


@contextlib.contextmanager
def telling_apart() -> Iterator[None]:
    """Let Ctrl-C raise :class:`Interrupted` within the block where it has Python's own handler."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, raise_interrupted)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is raise_interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def first_in_good_order(notify: Callable[[str], None]) -> Iterator[None]:
    """Raise :class:`Interrupted` on the first Ctrl-C or SIGTERM within the block, and tell of it.

    The second one is left to the system, which ends the process wherever it is; workers end with
    their parent.

    Args:
        notify: Receives one line on the first Ctrl-C.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may decide about signals
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        global _asked
        _asked = True
        for either in before:
            signal.signal(either, signal.SIG_DFL)
        with contextlib.suppress(RuntimeError):  # it came in the midst of printing
            notify(MESSAGE)
        raise Interrupted

    before = {either: signal.getsignal(either) for either in (signal.SIGINT, signal.SIGTERM)}
    for either in before:
        signal.signal(either, interrupt)
    try:
        yield
    finally:
        _asked = False
        for either, handler in before.items():
            if signal.getsignal(either) is interrupt:
                signal.signal(either, handler)
