"""Ctrl-C: the first ends a suite in good order, the second at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

MESSAGE = (
    "interrupted: finished runs are kept, the same command goes on from here; "
    "Ctrl-C again kills at once"
)


@contextlib.contextmanager
def first_in_good_order(notify: Callable[[str], None]) -> Iterator[None]:
    """Raise KeyboardInterrupt on the first Ctrl-C within the block, and tell what a second does.

    The second one is left to the system, which ends the process wherever it is; workers end with
    their parent.

    Args:
        notify: Told one line on the first Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may decide about signals
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        notify(MESSAGE)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)
