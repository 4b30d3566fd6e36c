"""What a user sees while a suite runs."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from unlearn_bench.cli import progress
from unlearn_bench.cli.progress import LiveProgress
from unlearn_bench.results.records import Record, RunResult
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import RunSpec, Suite


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def spec(scenario: str = "class:8") -> RunSpec:
    suite = Suite.model_validate(
        {
            "name": "s",
            "datasets": "digits",
            "models": "lenet",
            "scenarios": scenario,
            "methods": "finetune",
        }
    )
    runs = expand(suite, device="cpu").runs
    return next(spec for spec in runs if spec.method == "original")


def result(status: Any = "ok", error: str = "", **accuracies: float) -> RunResult:
    records = tuple(Record(name, "", value) for name, value in accuracies.items())
    return RunResult(
        "k", "original", "control", "digits", "lenet", "class:8", 0, {}, status, error, records
    )


def shown(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.fixture
def console() -> Iterator[Console]:
    yield Console(file=io.StringIO(), width=60, highlight=False)


def test_a_finished_run_is_one_line_with_accuracies_and_seconds_by_step(
    console: Console, clock: Clock
) -> None:
    with LiveProgress(console, 12) as live:
        live.run_started(0, spec())
        for text, seconds in (
            ("original", 0.01),
            ("train original: epoch 1/2", 1.0),
            ("train original: epoch 2/2", 1.5),
            ("evaluate", 0.25),
        ):
            live.step(0, text)
            clock.now += seconds
        accuracies = {
            "forget_accuracy": 0.125,
            "retain_accuracy": 0.9876,
            "test_retain_accuracy": 0.5,
        }
        live.run_finished(0, result(**accuracies), reused=False)
    assert shown(console) == [
        "[ 1/12] digits · lenet · class:8 · seed 0 · original  forget 12.5%, retain 98.8%  "
        "train original 2.5 s, evaluate 0.2 s"
    ]


def test_a_run_that_was_there_says_so(console: Console) -> None:
    with LiveProgress(console, 3) as live:
        live.run_started(2, spec())
        live.run_finished(2, result(), reused=True)
    assert shown(console) == [
        "[1/3] digits · lenet · class:8 · seed 0 · original    was there already"
    ]


def test_a_job_of_an_array_counts_its_own_runs_whatever_their_places_in_the_plan(
    console: Console,
) -> None:
    with LiveProgress(console, 2) as live:
        for position in (28, 25):
            live.run_started(position, spec())
            live.step(position, "evaluate")
            live.run_finished(position, result(), reused=False)
    assert [line[:5] for line in shown(console)] == ["[1/2]", "[2/2]"]


def test_a_failed_run_says_why_and_the_next_starts_afresh(console: Console, clock: Clock) -> None:
    with LiveProgress(console, 2) as live:
        live.run_started(0, spec())
        live.step(0, "unlearn")
        clock.now += 5
        live.run_finished(0, result("failed", "RuntimeError: [red]no luck[/]"), reused=False)
        live.run_started(1, spec())
        live.step(1, "evaluate")
        clock.now += 1
        live.run_finished(1, result(), reused=False)
    first, second = shown(console)
    assert first.startswith("[1/2] failed digits · lenet")
    assert first.endswith(": RuntimeError: [red]no luck[/]")
    assert second.endswith("evaluate 1.0 s") and "unlearn" not in second


def test_names_with_brackets_do_not_disturb_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with LiveProgress(console, 1) as live:
        live.run_started(0, spec("class:[/nobody]"))
        live.step(0, "[/step]")
        live._bar.refresh()
    text = "\n".join(shown(console))
    assert "class:[/nobody]" in text and "[/step]" in text


def test_tracebacks_are_for_debugging_only(console: Console) -> None:
    with LiveProgress(console, 1) as live:
        live.run_failed("ZeroDivisionError: division by zero\n")
    assert shown(console) == []
    with LiveProgress(console, 1, debug=True) as live:
        live.run_failed("")
        live.run_failed("ZeroDivisionError: [division] by zero\n")
    assert "ZeroDivisionError: [division] by zero" in "\n".join(shown(console))


def test_a_traceback_may_quote_what_is_no_text() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    LiveProgress(Console(file=stream), 1, debug=True).run_failed("no file \udcff.bin")
    stream.seek(0)
    assert "no file \\udcff.bin" in stream.read()


def test_several_runs_at_a_time_keep_their_own_clocks(console: Console, clock: Clock) -> None:
    with LiveProgress(console, 2) as live:
        live.run_started(0, spec())
        live.step(0, "unlearn")
        clock.now += 1
        live.run_started(1, spec())
        live.step(1, "evaluate")
        clock.now += 2
        live.run_finished(1, result(), reused=False)
        live.run_finished(0, result(), reused=False)
    second, first = shown(console)
    assert second.endswith("evaluate 2.0 s") and first.endswith("unlearn 3.0 s")


def test_a_notice_is_marked_as_one(console: Console) -> None:
    with LiveProgress(console, 1) as live:
        live.notice("damaged [artifact]")
    assert shown(console) == ["note: damaged [artifact]"]
