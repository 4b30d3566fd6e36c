"""What runs of one process share: read before a plug-in is called, put back after it.

A method that leaves a global hook, another default dtype or a patched function behind would change
the numbers of every later run without a word. :mod:`shared` lists what is read and put back.
"""

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from unlearn_bench.core.errors import MethodError
from unlearn_bench.core.exits import exits_raise
from unlearn_bench.execution.interrupt import Interrupted, asked_to_end
from unlearn_bench.execution.surroundings import streams
from unlearn_bench.execution.surroundings.constants import Constants
from unlearn_bench.execution.surroundings.leftovers import children, end_processes, running_on
from unlearn_bench.execution.surroundings.patches import Functions
from unlearn_bench.execution.surroundings.shared import SHARED


@dataclass
class Left:
    """What a plug-in left behind, in words.

    Attributes:
        changed: Shared things that were put back.
        running: Threads, which nothing can end, and processes, which were ended.
    """

    changed: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)

    def refuse(self, what: str) -> None:
        """Fail a run that left anything behind.

        Args:
            what: Which plug-in did.

        Raises:
            MethodError: With all of it.
        """
        if found := self.changed + self.running:
            raise MethodError(
                f"{what} left changed what other runs share: {'; '.join(found)}; undo it before "
                "returning, also after an error"
            )


class Surroundings:
    """The state of all that runs share, at the moment when this is made."""

    def __init__(self) -> None:
        streams.keep()
        self._functions = Functions()
        self._constants = Constants()
        self._before = [(shared, shared.read()) for shared in SHARED]
        self._threads = set(threading.enumerate())
        self._children = children()

    def restore(self, left: Left) -> None:
        """Put back what changed since, end processes that were started, and note all of it."""
        # First: what follows relies on functions being themselves.
        if patched := self._functions.restore():
            left.changed.append(f"patched functions: {', '.join(patched)}")
        for shared, before in self._before:
            after = shared.read()
            if after != before:
                left.changed.append(shared.difference(before, after))
                shared.restore(before)
        if constants := self._constants.restore():  # without what is in the list above
            left.changed.append(f"constants: {', '.join(constants)}")
        if threads := running_on(self._threads):
            left.running.append(f"threads still running: {', '.join(threads)}")
        if ended := end_processes(children() - self._children):
            left.running.append(f"processes still running, now ended: {', '.join(ended)}")


@contextlib.contextmanager
def put_back() -> Iterator[Left]:
    """Call a plug-in within the block; afterwards what is yielded names what it left.

    Meanwhile ``os._exit`` raises SystemExit. Filters of warnings, which libraries change when they
    are imported, are put back without a word. After Ctrl-C nothing is put back: what it has set
    for the next one must stay.

    Raises:
        Interrupted: If Ctrl-C came, also where the plug-in took no notice.
    """
    left, me = Left(), os.getpid()
    with warnings.catch_warnings(), exits_raise():
        surroundings = Surroundings()
        try:
            yield left
        finally:
            if os.getpid() != me:  # a fork of the plug-in's, which must not go on with the suite
                os.kill(os.getpid(), signal.SIGKILL)
            if asked_to_end():
                raise Interrupted  # whatever the plug-in made of it
            surroundings.restore(left)
