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
        # By the run's position: its name, and when it came to which step.
        self._running: dict[int, tuple[str, list[tuple[str, float]]]] = {}

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
        name = " · ".join(
            (spec.dataset, spec.model.label, spec.forget.name, f"seed {spec.seed}", spec.label)
        )
        self._running[position] = (name, [])
        self._describe()

    def step(self, position: int, text: str) -> None:
        """Show the step and start its clock; repeated reports of one step share it."""
        _, steps = self._running[position]
        name = text.partition(":")[0]
        if not steps or steps[-1][0] != name:
            steps.append((name, time.perf_counter()))
        self._describe(position, text)

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        """Print the run's line: accuracies and seconds by step, or why it failed."""
        name, steps = self._running.pop(position)
        self._bar.advance(self._task)
        line = Text(f"[{position + 1:{len(str(self._total))}}/{self._total}] ")
        if result.status != "ok":
            line.append("failed ", style="bold red").append(f"{name}: {result.error}")
        else:
            line.append(f"{name}  ").append(_accuracies(result), style="bold")
            took = "was there already" if reused else _took(steps, time.perf_counter())
            line.append(f"  {took}", style="dim")
        self._bar.console.print(line, soft_wrap=True)
        self._describe()

    def run_failed(self, trace: str) -> None:
        """Print the traceback, if asked to."""
        if self._debug and trace:
            self._bar.console.print(Text(trace.rstrip(), style="dim"), soft_wrap=True)

    def _describe(self, position: int | None = None, step: str = "") -> None:
        """Show what runs, with the last step told; of several, how many run beside it."""
        if position is None:
            position = max(self._running, default=None)
        if position is None:
            return
        name, steps = self._running[position]
        step = step or (steps[-1][0] if steps else "")
        description = f"{escape(name)} [dim]{escape(step)}[/dim]" if step else escape(name)
        if len(self._running) > 1:
            description += f" [dim](+{len(self._running) - 1} more)[/dim]"
        self._bar.update(self._task, description=description)


def _took(steps: list[tuple[str, float]], now: float) -> str:
    ends = [start for _, start in steps[1:]] + [now]
    seconds = [(name, end - start) for (name, start), end in zip(steps, ends, strict=True)]
    # Looking up what is already stored takes no time worth a word.
    return ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds if spent >= 0.05)


def _accuracies(result: RunResult) -> str:
    values = {record.metric: record.value for record in result.records}
    shown = [(name, values.get(metric)) for name, metric in _SHOWN]
    return ", ".join(f"{name} {value:.1%}" for name, value in shown if value is not None)
