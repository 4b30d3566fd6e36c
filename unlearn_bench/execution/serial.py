"""This process as a worker: it takes one run at a time, and tells of it while it goes on."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from unlearn_bench.execution.backend import Event, perform
from unlearn_bench.execution.run import Runner
from unlearn_bench.suite.spec import RunSpec


class Serial:
    """Executes runs in this process, one after the other, while the scheduler waits.

    Args:
        runner: Of this process.
    """

    retries = 0
    # A run can be ended in the midst of things only in a process of its own.
    timeout: float | None = None
    at_a_time = 1

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._next: tuple[int, RunSpec, Mapping[str, str]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._next = None

    @property
    def busy(self) -> bool:
        """Whether a run is to be executed."""
        return self._next is not None

    def takes(self, spec: RunSpec) -> bool:
        """Whether no other run is to be executed first."""
        return self._next is None

    def submit(self, position: int, spec: RunSpec, key: str, failed: Mapping[str, str]) -> None:
        """Take a run, to be executed by :meth:`wait`."""
        self._next = position, spec, failed

    def wait(self, tell: Callable[[Event], None]) -> None:
        """Execute the run that was given out, and tell of each step as it begins."""
        assert self._next is not None
        position, spec, failed = self._next
        perform(self._runner, spec, failed, lambda **what: self._pass_on(position, what, tell))

    def _pass_on(
        self, position: int, what: dict[str, object], tell: Callable[[Event], None]
    ) -> None:
        what.pop("gpu", None)  # only where several share one
        event = Event(position, **what)  # type: ignore[arg-type]
        if event.last:
            self._next = None
        tell(event)
