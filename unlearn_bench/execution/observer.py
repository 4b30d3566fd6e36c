"""Who wants to know what is going on while a suite runs: the display, the file for `status`."""

from typing import Protocol

from unlearn_bench.results.records import RunResult
from unlearn_bench.suite.spec import RunSpec


class Observer(Protocol):
    """Notified of what is going on while a suite runs."""

    def run_started(self, position: int, spec: RunSpec) -> None:
        """The run at ``position`` (from 0) begins."""

    def step(self, position: int, text: str) -> None:
        """The run at ``position`` does something else now."""

    def notice(self, text: str) -> None:
        """Something happened that the user should know."""

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        """The run ended; ``reused`` when its result was on disk already."""

    def run_failed(self, trace: str) -> None:
        """The traceback of what the failed run raised, for debugging."""
