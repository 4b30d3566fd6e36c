"""In which order runs go on, and that each original is trained once, whatever executes the runs."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unlearn_bench.execution.models import RECORDING, TRAINING
from unlearn_bench.execution.order import awaited, in_turn
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import execute
from unlearn_bench.results.records import RunResult
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Plan, expand
from unlearn_bench.suite.spec import RunSpec, Suite

KEPT = ("retrain", "finetune", "amnesiac")


def plan(**changes: Any) -> Plan:
    values = {
        "name": "s",
        "datasets": "digits",
        "models": "resnet4",
        "scenarios": "class:8",
        "methods": [
            {"name": "finetune", "params": {"epochs": 1}},
            {"name": "amnesiac", "params": {"repair_epochs": 0}},
        ],
        "threads": 1,
        "recipe": {"epochs": 1, "lr": 4e-3},
        "relearn_steps": 4,
    }
    planned = expand(Suite.model_validate(values | changes), device="cpu")
    return replace(planned, runs=tuple(spec for spec in planned.runs if spec.method in KEPT))


class Watcher:
    """Keeps the steps that an observer hears of."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.finished: list[int] = []

    def run_started(self, position: int, spec: RunSpec) -> None: ...

    def step(self, position: int, text: str) -> None:
        self.steps.append(text)

    def notice(self, text: str) -> None: ...

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        self.finished.append(position)

    def run_failed(self, trace: str) -> None: ...


def names(given: Plan, positions: Iterable[int]) -> list[str]:
    runs = [given.runs[p] for p in positions]
    return [f"{run.method} {run.asked.name}" for run in runs]


def waits_of(given: Plan) -> dict[str, set[str]]:
    after = awaited(dict(enumerate(given.runs)))
    return {
        name: set(names(given, others))
        for name, others in zip(names(given, after), after.values(), strict=True)
    }


def test_an_original_is_trained_by_a_run_that_wants_its_log_and_a_cell_by_its_first() -> None:
    assert waits_of(plan(scenarios=["class:8", "class:1"])) == {
        "amnesiac class:8": set(),
        "retrain class:8": {"amnesiac class:8"},
        "finetune class:8": {"amnesiac class:8"},
        # Another scenario's log is another: its run makes G there, and the others wait for it.
        "amnesiac class:1": {"amnesiac class:8"},
        "retrain class:1": {"amnesiac class:1"},
        "finetune class:1": {"amnesiac class:1"},
    }


def test_a_request_waits_for_the_one_before_and_retraining_for_none() -> None:
    whole = plan(scenarios="stream:class:8;class:1")
    stream = replace(whole, runs=tuple(run for run in whole.runs if run.request))
    order = "stream:class:8;class:1"
    forward = replace(stream, runs=tuple(r for r in stream.runs if r.scenario == order))
    assert waits_of(forward) == {
        "retrain class:8": set(),
        "finetune class:8": {"retrain class:8"},
        "retrain stream:class:8;class:1": {"retrain class:8"},
        "finetune stream:class:8;class:1": {
            "retrain stream:class:8;class:1",
            "finetune class:8",
        },
    }
    # Whatever stands first in the plan, nothing waits for what waits for it.
    turned = replace(stream, runs=stream.runs[::-1])
    after, done = awaited(dict(enumerate(turned.runs))), set()
    while ready := {p for p, others in after.items() if others <= done} - done:
        done |= ready
    assert done == set(after)


def test_one_at_a_time_the_plan_is_kept_to_and_side_by_side_originals_come_first() -> None:
    given = plan(seeds=2)
    runs = dict(enumerate(given.runs))
    assert list(in_turn(runs, 1)) == list(runs)
    first, second, *rest = in_turn(runs, 2)
    assert [runs[p].method for p in (first, second)] == ["amnesiac", "amnesiac"]
    assert rest == sorted(rest)


def test_each_original_is_trained_once(home: Path, tmp_path: Path) -> None:
    """By two workers, tests/execution/test_local.py; by Ray, test_ray.py."""
    given = plan()
    watcher = Watcher()
    runner = Runner(Store(home), torch.device("cpu"))
    results = execute(given, runner, tmp_path / "out", watcher, command="c")
    assert [result.method for result in results] == [spec.method for spec in given.runs]
    assert {result.status for result in results} == {"ok"}
    assert watcher.finished[0] == KEPT.index("amnesiac")
    assert watcher.steps.count(TRAINING) == 1
    assert not any(step.startswith(RECORDING) for step in watcher.steps)
    assert len(list((home / "artifacts" / "training_log").iterdir())) == 1
