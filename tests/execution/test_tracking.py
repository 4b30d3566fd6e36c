"""Trackers: every run that is made is sent, and one that fails costs nothing but a notice."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.execution import tracking
from unlearn_bench.results.records import Record, RunResult

RESULT = RunResult(
    key="k",
    method="pbu",
    kind="method",
    dataset="digits",
    model="lenet",
    scenario="class:8",
    seed=2,
    params={"epochs": 3},
    status="ok",
    records=(
        Record("forget_accuracy", "forget", 0.25),
        Record("mia_loss_auc", "forget+test_forget", 0.5),
        Record("zrf", "forget", None, status="unresolved"),
    ),
    log=({"step": 0.0, "loss": 1.5}, {"step": 4.0, "loss": None}),
)
NAME = "digits · lenet · class:8 · pbu · seed 2"
METRICS = {"forget_accuracy/forget": 0.25, "mia_loss_auc/forget-test_forget": 0.5}


class Listener:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.heard.append(f"{name}: {given[0]}")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What stand-ins for the three packages are called with."""
    calls: list[Any] = []

    def note(name: str) -> Any:
        return lambda *given, **named: calls.append(
            (name, *given, named) if named else (name, *given)
        )

    class Block(SimpleNamespace):
        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None: ...

    def start(**named: Any) -> Any:
        calls.append(("start", named))
        return Block(
            log=note("log"), summary=SimpleNamespace(update=note("summary")), finish=note("finish")
        )

    def module(name: str, **parts: Any) -> None:
        made = ModuleType(name)
        vars(made).update(parts)
        monkeypatch.setitem(sys.modules, name, made)

    module("wandb", init=start)
    mlflow = {n: note(n) for n in ("set_experiment", "log_params", "log_metrics")}
    module("mlflow", start_run=start, **mlflow)
    writer = SimpleNamespace(add_text=note("text"), add_scalar=note("scalar"), close=note("close"))
    module("tensorboard")
    module("torch.utils.tensorboard", SummaryWriter=lambda place: calls.append(place) or writer)
    monkeypatch.setattr(
        tracking.importlib.util, "find_spec", lambda name: name in sys.modules or None
    )
    return calls


def sent(tracker: str, calls: list[Any], tmp_path: Any) -> Listener:
    listener = Listener()
    observer = tracking.tracked(listener, tracker, "mine", tmp_path)
    observer.run_finished(0, RESULT, True)  # was there: sent when it was made
    assert calls == []
    observer.run_finished(0, RESULT, False)
    return listener


def test_mlflow_gets_parameters_log_and_metrics(calls, tmp_path) -> None:
    sent("mlflow", calls, tmp_path)
    facts = {"dataset": "digits", "model": "lenet", "scenario": "class:8", "method": "pbu"}
    assert calls == [
        ("set_experiment", "unlearn-bench/mine"),
        ("start", {"run_name": NAME}),
        ("log_params", {**facts, "kind": "method", "seed": 2, "params.epochs": 3}),
        ("log_metrics", {"log/loss": 1.5}, {"step": 0}),
        ("log_metrics", {}, {"step": 4}),
        ("log_metrics", METRICS),
    ]


def test_wandb_gets_a_run_of_its_own_that_is_finished(calls, tmp_path) -> None:
    sent("wandb", calls, tmp_path)
    assert calls[0][1]["name"] == NAME and calls[0][1]["group"] == "mine"
    assert calls[1:] == [
        ("log", {"log/loss": 1.5}, {"step": 0}),
        ("log", {}, {"step": 4}),
        ("summary", METRICS),
        ("finish",),
    ]


def test_tensorboard_gets_a_folder_per_run(calls, tmp_path) -> None:
    sent("tensorboard", calls, tmp_path)
    assert calls[0] == str(tmp_path / "tensorboard" / "digits-lenet-class-8-pbu-seed-2")
    assert ("scalar", "log/loss", 1.5, 0) in calls and calls[-1] == ("close",)
    assert ("scalar", "forget_accuracy/forget", 0.25, 0) in calls


def test_a_tracker_that_fails_is_given_up_with_one_notice(calls, tmp_path, monkeypatch) -> None:
    def broken(**named: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(sys.modules["wandb"], "init", broken)
    listener = Listener()
    observer = tracking.tracked(listener, "wandb", "mine", tmp_path)
    for position in range(3):
        observer.run_finished(position, RESULT, False)
    notices = [heard for heard in listener.heard if heard.startswith("notice")]
    assert len(notices) == 1 and "wandb failed" in notices[0] and "no network" in notices[0]
    assert [heard for heard in listener.heard if heard.startswith("run_finished")] == [
        "run_finished: 0",
        "run_finished: 1",
        "run_finished: 2",
    ]


def test_without_the_package_nothing_begins(tmp_path) -> None:
    listener = Listener()
    assert tracking.tracked(listener, None, "mine", tmp_path) is listener
    with pytest.raises(ConfigError, match=r"not installed; pip install 'unlearn-bench\[wandb\]'"):
        tracking.tracked(listener, "wandb", "mine", tmp_path)
    with pytest.raises(ConfigError, match="--track comet: not one of tensorboard, mlflow, wandb"):
        tracking.tracked(listener, "comet", "mine", tmp_path)
