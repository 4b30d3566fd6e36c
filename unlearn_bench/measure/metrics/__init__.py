"""Metrics: pure functions of what was observed of a model and of those it is compared with.

Each file holds one concept and registers what it measures with definition, ideal and source.
The ideal of every metric is retraining's value, so none is simply better when lower.
"""

import importlib
import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from unlearn_bench.core.errors import unknown_name
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record

Compute = Callable[[Evaluation], list[Record]]


@dataclass(frozen=True)
class Metric:
    """What a name in the records means.

    Attributes:
        name: As in the records.
        definition: One sentence, with the formula where there is one.
        ideal: The value that exact unlearning has.
        cost: What computing it takes.
        source: Publication, or ``""``.
        splits: What it is measured on, as in the records, for when it cannot be measured.
    """

    name: str
    definition: str
    ideal: str = "that of retrain"
    cost: str = "one forward pass, shared by all"
    source: str = ""
    splits: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class _Entry:
    """A function that computes some metrics, and what it needs for it."""

    name: str
    compute: Compute
    metrics: tuple[Metric, ...]
    needs_retrained: bool


_METRICS: dict[str, Metric] = {}
_ENTRIES: dict[str, _Entry] = {}


def describe(*metrics: Metric) -> None:
    """Register the meaning of metrics that are measured elsewhere than on outputs."""
    for metric in metrics:
        _METRICS[metric.name] = metric


def measures(*metrics: Metric, needs_retrained: bool = False) -> Callable[[Compute], Compute]:
    """Register the decorated function as what computes ``metrics``.

    Args:
        metrics: What it returns records of, every one of them in every evaluation.
        needs_retrained: Whether it compares with the retrained model. Where that is missing the
            function is not called and its metrics are recorded as unresolved.
    """
    describe(*metrics)

    def decorate(compute: Compute) -> Compute:
        name = compute.__name__
        _ENTRIES[name] = _Entry(name, compute, metrics, needs_retrained)
        return compute

    return decorate


def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def metrics() -> dict[str, Metric]:
    """Return all metrics by name, in the order of their names."""
    _load()
    return dict(sorted(_METRICS.items()))


def get(name: str) -> Metric:
    """Return the metric ``name``.

    Raises:
        UnknownNameError: If there is none.
    """
    known = metrics()
    if name not in known:
        raise unknown_name("metric", name, known, "unlearn-bench list metrics")
    return known[name]


def compute(evaluation: Evaluation) -> tuple[list[Record], dict[str, float]]:
    """Compute every metric.

    Returns:
        The records, and the CPU seconds that each function of metrics took, by its name.

    Raises:
        RuntimeError: If a function leaves out a metric that it registered, or adds one: a
            number that is silently missing looks like one that was not asked for.
    """
    _load()
    records: list[Record] = []
    seconds = {}
    # Not in the order in which modules happened to be imported: records are compared.
    for entry in sorted(_ENTRIES.values(), key=lambda entry: entry.compute.__module__):
        start = time.process_time()
        if entry.needs_retrained and evaluation.retrained is None:
            found = [
                Record(m.name, split, None, status="unresolved", reason=evaluation.missing)
                for m in entry.metrics
                for split in m.splits
            ]
        else:
            found = entry.compute(evaluation)
        seconds[entry.name] = time.process_time() - start
        wrong = {record.metric for record in found} ^ {metric.name for metric in entry.metrics}
        if wrong:
            raise RuntimeError(
                f"{entry.name} and what it registered differ in: {', '.join(sorted(wrong))}"
            )
        records += found
    return records, seconds
