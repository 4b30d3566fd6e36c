"""Live progress of a suite: a bar, a line for each run under way and for each finished one."""

import time
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from unlearn_bench.results.records import RunResult
from unlearn_bench.suite.spec import RunSpec

MOST_ROWS = 16  # of runs under way; a cluster may have more of them than a screen has lines

_SHOWN = (("forget", "forget_accuracy"), ("retain", "retain_accuracy"))  # as the table does


@dataclass
class _Row:
    """A run under way: its name, since when, the last step told, when it came to which."""

    name: str
    start: float
    step: str = ""
    steps: list[tuple[str, float]] = field(default_factory=list)


class LiveProgress:
    """Shows which run is in which step, and how long each step of each finished run took.

    On a terminal the bar and the runs of all workers stand at the bottom; elsewhere only the lines
    of finished runs are printed.

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
            SpinnerColumn(),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("", total=total)
        self._running: dict[int, _Row] = {}  # by the run's position
        self._live = Live(
            console=console, transient=True, refresh_per_second=8, get_renderable=self._shown
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def notice(self, text: str) -> None:
        """Print a line of warning above the bar."""
        self._console.print(Text(f"note: {text}", style="yellow"))

    def run_started(self, position: int, spec: RunSpec) -> None:
        """Show the run at ``position``."""
        name = " · ".join(
            (spec.dataset, spec.model.label, spec.place, f"seed {spec.seed}", spec.label)
        )
        self._running[position] = _Row(name, time.perf_counter())

    def step(self, position: int, text: str) -> None:
        """Show the step and start its clock; repeated reports of one step share it."""
        row = self._running[position]
        row.step = text
        name = text.partition(":")[0]
        if not row.steps or row.steps[-1][0] != name:
            row.steps.append((name, time.perf_counter()))

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        """Print the run's line: accuracies and seconds by step, or why it failed."""
        row = self._running.pop(position)
        self._bar.advance(self._task)
        # A job of an array runs some of the plan's positions only, so runs are counted.
        done = int(self._bar.tasks[self._task].completed)
        line = Text(f"[{done:{len(str(self._total))}}/{self._total}] ")
        if result.status != "ok":
            line.append("failed ", style="bold red").append(f"{row.name}: {result.error}")
        else:
            line.append(f"{row.name}  ").append(_accuracies(result), style="bold")
            took = "was there already" if reused else _took(row.steps, time.perf_counter())
            line.append(f"  {took}", style="dim")
        self._console.print(line, soft_wrap=True)

    def run_failed(self, trace: str) -> None:
        """Print the traceback, if asked to."""
        if self._debug and trace:
            # It may quote file names whose bytes are no text, which no terminal takes.
            fit = trace.rstrip().encode(errors="backslashreplace").decode()
            self._console.print(Text(fit, style="dim"), soft_wrap=True)

    def _shown(self) -> Group:
        """Return the bar and a line for each run under way: since when, which, at what step."""
        rows = list(self._running.values())
        now = time.perf_counter()
        lines = [
            Text.assemble(
                f"  {timedelta(seconds=int(now - row.start))} {row.name} ",
                (row.step, "dim"),
                no_wrap=True,
                overflow="ellipsis",
            )
            for row in rows[:MOST_ROWS]
        ]
        if len(rows) > MOST_ROWS:
            lines.append(Text(f"  and {len(rows) - MOST_ROWS} more", "dim"))
        return Group(self._bar, *lines)


def _took(steps: list[tuple[str, float]], now: float) -> str:
    ends = [start for _, start in steps[1:]] + [now]
    seconds = [(name, end - start) for (name, start), end in zip(steps, ends, strict=True)]
    # Looking up what is already stored takes no time worth a word.
    return ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds if spent >= 0.05)


def _accuracies(result: RunResult) -> str:
    gap = next((r.value for r in result.records if r.metric == "tuning_gap"), None)
    if gap is not None:  # of tuning, whose first record is the mean
        return f"gap {gap:.2f} points"
    values = {record.metric: record.value for record in result.records}
    shown = [(name, values.get(metric)) for name, metric in _SHOWN]
    return ", ".join(f"{name} {value:.1%}" for name, value in shown if value is not None)
