"""Live progress of a suite: a bar with the running step, a line for each finished run."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from unlearn_bench.results import RunResult
from unlearn_bench.spec import RunSpec

_SHOWN = (("forget", "test_forget_accuracy"), ("retain", "test_retain_accuracy"))


class LiveProgress:
    """Shows which run is in which step, and how long each step of each finished run took.

    On a terminal a bar moves at the bottom; elsewhere only the lines are printed.

    Args:
        console: Where to show it.
        total: Number of runs.
        debug: Print the traceback of failed runs.
    """

    def __init__(self, console: Console, total: int, *, debug: bool = False) -> None:
        self._console = console
        self._total = total
        self._debug = debug
        self._bar = Progress(
            SpinnerColumn(), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)
        self._run = ""
        self._steps: list[tuple[str, float]] = []

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def notice(self, text: str) -> None:
        """Print a line of warning above the bar."""
        self._bar.console.print(Text(f"note: {text}", style="yellow"))

    def run_started(self, position: int, spec: RunSpec) -> None:
        """Show the run at ``position``."""
        self._run = " · ".join(
            (spec.dataset, spec.model.label, spec.forget.name, f"seed {spec.seed}", spec.label)
        )
        self._steps = []
        self._describe("")

    def step(self, text: str) -> None:
        """Show the step and start its clock; repeated reports of one step share it."""
        name = text.partition(":")[0]
        if not self._steps or self._steps[-1][0] != name:
            self._steps.append((name, time.perf_counter()))
        self._describe(text)

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        """Print the run's line: accuracies and seconds by step, or why it failed."""
        self._bar.advance(self._task)
        line = Text(f"[{position + 1:{len(str(self._total))}}/{self._total}] ")
        if result.status != "ok":
            line.append("failed ", style="bold red").append(f"{self._run}: {result.error}")
        else:
            line.append(f"{self._run}  ").append(_accuracies(result), style="bold")
            took = "was there already" if reused else self._took(time.perf_counter())
            line.append(f"  {took}", style="dim")
        self._bar.console.print(line, soft_wrap=True)

    def run_failed(self, cause: BaseException | None) -> None:
        """Print the traceback, if asked to."""
        if self._debug and cause is not None:
            from rich.traceback import Traceback

            trace = Traceback.from_exception(type(cause), cause, cause.__traceback__)
            self._bar.console.print(trace)

    def _describe(self, step: str) -> None:
        run = escape(self._run)
        description = f"{run} [dim]{escape(step)}[/dim]" if step else run
        self._bar.update(self._task, description=description)

    def _took(self, now: float) -> str:
        ends = [start for _, start in self._steps[1:]] + [now]
        seconds = [
            (name, end - start) for (name, start), end in zip(self._steps, ends, strict=True)
        ]
        # Looking up what is already stored takes no time worth a word.
        return ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds if spent >= 0.05)


def _accuracies(result: RunResult) -> str:
    values = {record.metric: record.value for record in result.records}
    shown = [(name, values.get(metric)) for name, metric in _SHOWN]
    return ", ".join(f"{name} {value:.1%}" for name, value in shown if value is not None)
