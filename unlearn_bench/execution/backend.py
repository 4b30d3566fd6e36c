"""What executes runs: how the scheduler sees it, and what a worker does.

This process, local processes and a Ray cluster differ in how a run gets there and how its answer
comes back.
What is run, what is told of it and what becomes of a failure is here, once for both.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch

from unlearn_bench.core.errors import UserError
from unlearn_bench.core.memory import release
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.run import Runner
from unlearn_bench.results.records import RunResult
from unlearn_bench.suite.spec import RunSpec

Tell = Callable[..., None]


@dataclass(frozen=True)
class Setup:
    """What a worker needs to build a runner of its own.

    Attributes:
        home: Of the artifact store, which all share.
        device: As given to torch.
        data_root: Folder of the datasets.
        download: Whether missing datasets may be downloaded.
        plugins: Files that register methods.
        threads: CPU threads of runs whose suite fixes none; by default the worker's own number.
        results: The results folder, which is closed to methods.
    """

    home: Path
    device: str
    data_root: Path | None = None
    download: bool = False
    plugins: tuple[Path, ...] = ()
    threads: int | None = None
    results: Path | None = None


@dataclass(frozen=True)
class Event:
    """What a worker told, or what became of it.

    Attributes:
        position: The run's place in the plan.
        step: What it does now.
        notice: A line for the user.
        result: Set when the run ended.
        trace: Of a failed run, the traceback of what the method raised.
        failed: What failed on the way, by key with the reason: others need not try it again.
        error: What makes the whole suite impossible.
        died: Why the worker ended without an answer.
        timed_out: Whether it was ended for taking longer than a run may take.
    """

    position: int
    step: str = ""
    notice: str = ""
    result: RunResult | None = None
    trace: str = ""
    failed: Mapping[str, str] = field(default_factory=dict)
    error: UserError | None = None
    died: str = ""
    timed_out: bool = False

    @property
    def last(self) -> bool:
        """Whether nothing more will be told of this attempt."""
        return bool(self.result or self.error or self.died or self.timed_out)


class Backend(Protocol):
    """Workers of some kind; started when entered, ended when left.

    Attributes:
        retries: How often a run is given out again when its worker died.
        timeout: Seconds that a run may take, or None.
    """

    retries: int
    timeout: float | None

    @property
    def at_a_time(self) -> int:
        """Runs that go on side by side."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def busy(self) -> bool:
        """Whether any run has been given out that has not ended."""

    def takes(self, spec: RunSpec) -> bool:
        """Whether this run can be given out now."""

    def submit(self, position: int, spec: RunSpec, key: str, failed: Mapping[str, str]) -> None:
        """Give out a run that :meth:`takes` accepts.

        Args:
            position: Its place in the plan, named by all events about it.
            spec: What to run.
            key: Of its result, as the scheduler computed it.
            failed: Keys and reasons of what failed, so that none tries it again.
        """

    def wait(self, tell: Callable[[Event], None]) -> None:
        """Wait until something happened to a run, or for a while, and tell all that did."""


def build_runner(setup: Setup, store: Any) -> Runner:
    """Return the runner of a worker process.

    Raises:
        UserError: If the plug-ins or the device do not work here.
    """
    return Runner(
        store,
        torch.device(setup.device),
        data_root=setup.data_root,
        download=setup.download,
        threads=setup.threads,
        results=setup.results,
    )


def perform(runner: Runner, spec: RunSpec, failed: Mapping[str, str], tell: Tell) -> None:
    """Run one specification and tell what :class:`Event` has room for; raises no user's error.

    Args:
        runner: Of this process.
        spec: What to run.
        failed: Keys and reasons of what failed elsewhere.
        tell: Called with the fields of an event; with a result also with ``gpu``: the bytes that
            torch held of a GPU at most and those of the GPU, None on a CPU.
    """
    runner.remember(failed)
    release()  # of what the run before held on a GPU
    held = _Held(runner.device)

    def step(text: str) -> None:
        held.look()
        tell(step=text)

    end: dict[str, Any]
    try:
        end = {"result": runner.run(spec, step), "gpu": held.look()}
    except RunFailedError as failure:
        cause = failure.__cause__
        trace = "".join(traceback.format_exception(cause)) if cause else ""
        result = runner.result(spec, "failed", error=str(failure), records=failure.records)
        end = {"result": result, "trace": trace, "failed": dict(runner.failed)}
    except UserError as error:
        end = {"error": error}
    tell(**end)


class _Held:
    """The most that torch held of a GPU since this was made.

    Torch's own mark is set back where unlearning begins, to measure that alone: it is looked at
    with every step as well.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._most = device, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def look(self) -> tuple[int, int] | None:
        """Return the bytes held at most so far, and the GPU's; None on a CPU."""
        if self._device.type != "cuda":
            return None
        self._most = max(self._most, torch.cuda.max_memory_reserved(self._device))
        return self._most, torch.cuda.get_device_properties(self._device).total_memory


def model_of(spec: RunSpec) -> str:
    """Name what decides how much memory a run takes: data, model and batch."""
    size = spec.image_size or "own size"
    return f"{spec.dataset} {size} {spec.model.label} {spec.recipe.batch_size}"
