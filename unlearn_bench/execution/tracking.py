"""Send the results of runs, as they come, to the trackers that people use.

Each run of the suite is a run of the tracker: its parameters, its metrics, and what its method
logged by step. A tracker that fails is given up with one notice; the suite goes on.
"""

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from unlearn_bench.core.errors import ConfigError, said
from unlearn_bench.execution.observer import Observer
from unlearn_bench.results.records import RunResult
from unlearn_bench.suite.spec import RunSpec

Tracker = Literal["tensorboard", "mlflow", "wandb"]
TRACKERS: tuple[Tracker, ...] = get_args(Tracker)
# What TensorBoard reads, within the results folder.
FOLDER = "tensorboard"
PROJECT = "unlearn-bench"


class Sink(Protocol):
    """Where one tracker's runs go."""

    def __call__(self, name: str, facts: Mapping[str, Any], numbers: "Numbers") -> None:
        """Take a finished run.

        Args:
            name: Of the run.
            facts: What it was: dataset, model, scenario, method, seed, parameters.
            numbers: What was measured and logged.
        """


class Numbers:
    """The numbers of one run."""

    def __init__(self, result: RunResult) -> None:
        self._result = result

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric that was measured, by name and split."""
        return {
            _plain(f"{record.metric}/{record.split}" if record.split else record.metric): value
            for record in self._result.records
            if (value := record.value) is not None
        }

    def log(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the steps that the method logged, with their numbers."""
        for entry in self._result.log:
            numbers = {
                _plain(f"log/{name}"): value
                for name, value in entry.items()
                if name != "step" and value is not None
            }
            yield int(entry.get("step") or 0), numbers


def _plain(name: str) -> str:
    """Return a name of letters that every tracker takes."""
    return re.sub(r"[^\w./-]", "-", name, flags=re.ASCII)


def tracked(observer: Observer, tracker: str | None, suite: str, folder: Path) -> "Observer":
    """Return an observer that tells a tracker of every run as well.

    Args:
        observer: As before.
        tracker: One of :data:`TRACKERS`, or None for none.
        suite: Name of the suite.
        folder: The results folder.

    Raises:
        ConfigError: If there is no such tracker, or its package is not installed.
    """
    if tracker is None:
        return observer
    if tracker not in TRACKERS:
        raise ConfigError(f"--track {tracker}: not one of {', '.join(TRACKERS)}")
    if importlib.util.find_spec(tracker) is None:
        raise ConfigError(
            f"--track {tracker}: {tracker} is not installed; pip install 'unlearn-bench[{tracker}]'"
        )
    sinks: dict[str, Callable[[str, Path], Sink]] = {
        "tensorboard": _tensorboard,
        "mlflow": _mlflow,
        "wandb": _wandb,
    }
    return Tracking(observer, tracker, lambda: sinks[tracker](suite, folder))


class Tracking:
    """Tells one observer, and a tracker of finished runs.

    Args:
        observer: Notified of everything.
        tracker: Its name.
        sink: Gives where runs go, when the first one comes.
    """

    def __init__(self, observer: Observer, tracker: str, sink: Callable[[], Sink]) -> None:
        self._observer, self._tracker = observer, tracker
        self._make: Callable[[], Sink] | None = sink
        self._sink: Sink | None = None

    def run_started(self, position: int, spec: RunSpec) -> None:
        """Pass it on."""
        self._observer.run_started(position, spec)

    def step(self, position: int, text: str) -> None:
        """Pass it on."""
        self._observer.step(position, text)

    def notice(self, text: str) -> None:
        """Pass it on."""
        self._observer.notice(text)

    def run_failed(self, trace: str) -> None:
        """Pass it on."""
        self._observer.run_failed(trace)

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        """Pass it on, and send what a run gave that was made now."""
        self._observer.run_finished(position, result, reused)
        if self._make is None or reused or result.status != "ok":
            return
        try:
            self._sink = self._sink or self._make()
            self._sink(_name(result), _facts(result), Numbers(result))
        except Exception as error:  # whatever a tracker raises, without a network for one
            self._make = None
            self._observer.notice(
                f"{self._tracker} failed and receives no more data ({type(error).__name__}: "
                f"{said(error)[:200]}); the results here are complete"
            )


def _name(result: RunResult) -> str:
    parts = (result.dataset, result.model, result.scenario, result.method, f"seed {result.seed}")
    return " · ".join(parts)


def _facts(result: RunResult) -> dict[str, Any]:
    names = ("dataset", "model", "scenario", "method", "kind", "seed")
    facts = {name: getattr(result, name) for name in names}
    return facts | {f"params.{name}": value for name, value in result.params.items()}


def _tensorboard(suite: str, folder: Path) -> Sink:
    from torch.utils.tensorboard import SummaryWriter

    def send(name: str, facts: Mapping[str, Any], numbers: Numbers) -> None:
        place = folder / FOLDER / re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)
        writer: Any = SummaryWriter(str(place))
        try:
            writer.add_text("run", "  \n".join(f"{key}: {value}" for key, value in facts.items()))
            for step, logged in numbers.log():
                for key, value in logged.items():
                    writer.add_scalar(key, value, step)
            for key, value in numbers.metrics.items():
                writer.add_scalar(key, value, 0)
        finally:
            writer.close()

    return send


def _mlflow(suite: str, folder: Path) -> Sink:
    import mlflow

    mlflow.set_experiment(f"{PROJECT}/{suite}")

    def send(name: str, facts: Mapping[str, Any], numbers: Numbers) -> None:
        with mlflow.start_run(run_name=name):
            mlflow.log_params(dict(facts))
            for step, logged in numbers.log():
                mlflow.log_metrics(logged, step=step)
            mlflow.log_metrics(numbers.metrics)

    return send


def _wandb(suite: str, folder: Path) -> Sink:
    import wandb

    def send(name: str, facts: Mapping[str, Any], numbers: Numbers) -> None:
        run: Any = wandb.init(
            project=PROJECT, group=suite, name=name, config=dict(facts), reinit="finish_previous"
        )
        try:
            for step, logged in numbers.log():
                run.log(logged, step=step)
            run.summary.update(numbers.metrics)
        finally:
            with suppress(Exception):
                run.finish()

    return send
