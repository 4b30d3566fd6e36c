"""Metrics: pure functions of what was observed of a model and of those it is compared with.

Each file holds one concept and registers by name what it measures; what a name means is declared
in ``results/metrics.py``, or by a plug-in beside its function. The ideal of every metric is
retraining's value, so none is simply better when lower.
"""

import functools
import importlib
import inspect
import pkgutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unlearn_bench.core.errors import PluginError, unknown_name
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.plugins.metric import MetricInfo, register_metric
from unlearn_bench.results.checks import LARGEST
from unlearn_bench.results.facts import known_metrics
from unlearn_bench.results.metrics import BUILT_IN
from unlearn_bench.results.records import Record

Compute = Callable[[Evaluation], list[Record]]
Short = TypeVar("Short", bound=Callable[[Evaluation], float | Record | Sequence[Record]])


@dataclass(frozen=True)
class Entry:
    """A function that computes some metrics, and what it needs for it."""

    name: str
    compute: Compute
    metrics: tuple[MetricInfo, ...]
    needs_retrained: bool

    def measures_in(self, scope: str) -> bool:
        """Whether it is about scenarios of a kind; "" is a kind that nobody named."""
        kinds = {kind for metric in self.metrics for kind in metric.forgets}
        return not kinds or scope in kinds

    @property
    def file(self) -> Path:
        """The file that defines it."""
        return Path(inspect.getfile(inspect.unwrap(self.compute))).resolve()

    @property
    def ours(self) -> bool:
        """Whether it comes with the package."""
        return self.compute.__module__.startswith(f"{__name__}.")

    @property
    def order(self) -> tuple[bool, str]:
        """Its place: records are compared, so not the order in which files were imported."""
        return not self.ours, self.compute.__module__ if self.ours else self.file.name


ENTRIES: dict[str, Entry] = {}


def measures(
    *metrics: MetricInfo | str, needs_retrained: bool = False
) -> Callable[[Compute], Compute]:
    """Register the decorated function as the one that computes ``metrics``.

    Args:
        metrics: What it returns records of, every one of them in every evaluation of the kinds
            of scenarios that they name: a declaration, or the name of one in
            ``results/metrics.py``.
        needs_retrained: Whether it compares with the retrained model. Where that is missing the
            function is not called and its metrics are recorded as unresolved.

    Raises:
        PluginError: If a metric or a function of another file has the name already.
    """

    def decorate(compute: Compute) -> Compute:
        name = compute.__name__
        declared = tuple(get(m) if isinstance(m, str) else m for m in metrics)
        entry = Entry(name, compute, declared, needs_retrained)
        if not entry.ours:
            load_built_in()  # so that names of ours are taken
        known = ENTRIES.get(name)
        if known is not None and known.file != entry.file:
            raise PluginError(
                f"two functions of metrics are named {name!r}: in {known.file} and {entry.file}; "
                "rename one"
            )
        for metric in metrics:
            if isinstance(metric, MetricInfo):
                if metric.name in BUILT_IN:
                    raise PluginError(
                        f"unlearn-bench has a metric named {metric.name!r}; choose another name"
                    )
                register_metric(metric, compute)
        ENTRIES[name] = entry
        return compute

    return decorate


def metric(
    name: str,
    *,
    definition: str = "",
    split: str = "",
    needs_retrained: bool = False,
    **declared: Any,
) -> Callable[[Short], Short]:
    """Register the decorated function as the metric ``name``: the short form of :func:`measures`.

    The function takes an ``Evaluation`` and returns a number, a record, or several records.

    Args:
        name: As in records and tables.
        definition: One sentence; by default the first line of the function's docstring.
        split: What a returned number was measured on.
        needs_retrained: Whether it compares with the retrained model; where that is missing the
            metric is unresolved.
        declared: Further fields of ``MetricInfo``, such as ``ideal``, ``label`` or ``unit``.

    Raises:
        PluginError: If a field is unknown or not allowed, or the name is taken.
    """

    def decorate(function: Short) -> Short:
        said = definition or (inspect.getdoc(function) or name).partition("\n")[0]
        try:
            info = MetricInfo(name, said, **{"splits": (split,), **declared})
        except TypeError as error:
            raise PluginError(f"metric {name!r}: {error}") from None

        @functools.wraps(function)
        def compute(evaluation: Evaluation) -> list[Record]:
            found = function(evaluation)
            if isinstance(found, Record):
                return [found]
            if isinstance(found, Sequence):
                return list(found)
            return [Record(name, split, float(found))]

        measures(info, needs_retrained=needs_retrained)(compute)
        return function

    return decorate


def load_built_in() -> None:
    """Register the metrics of the package."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def get(name: str) -> MetricInfo:
    """Return the metric ``name``.

    Raises:
        UnknownNameError: If there is none.
    """
    known = known_metrics()
    if name not in known:
        raise unknown_name("metric", name, known, "unlearn-bench list metrics")
    return known[name]


def compute(evaluation: Evaluation) -> tuple[list[Record], dict[str, float]]:
    """Compute every metric of the scenario's kind.

    Returns:
        The records, and the CPU seconds that each function of metrics took, by its name.

    Raises:
        RuntimeError: If a function leaves out a metric that it registered, or adds one: a
            number that is silently missing looks like one that was not asked for.
    """
    load_built_in()
    records: list[Record] = []
    seconds = {}
    for entry in sorted(ENTRIES.values(), key=lambda entry: entry.order):
        if not entry.measures_in(evaluation.scope):
            continue
        start = time.process_time()
        records += compute_entry(entry, evaluation)
        seconds[entry.name] = time.process_time() - start
    return records, seconds


def compute_entry(entry: Entry, evaluation: Evaluation) -> list[Record]:
    """Compute the metrics of one function.

    Raises:
        RuntimeError: As :func:`compute`.
    """
    if entry.needs_retrained and evaluation.retrained is None:
        found = [
            Record(m.name, split, None, status="unresolved", reason=evaluation.missing)
            for m in entry.metrics
            for split in m.splits
        ]
    else:
        found = [sound(record) for record in entry.compute(evaluation)]
    wrong = {record.metric for record in found} ^ {metric.name for metric in entry.metrics}
    if wrong:
        raise RuntimeError(
            f"{entry.name} and what it registered differ in: {', '.join(sorted(wrong))}"
        )
    return found


def sound(record: Record) -> Record:
    """Return a record as it can be kept: a value that no mean can hold is unresolved."""
    numbers = (record.value, record.low, record.high)
    if all(number is None or abs(number) <= LARGEST for number in numbers):
        return record
    reason = f"the metric gave {record.value}, with an interval from {record.low} to {record.high}"
    return Record(record.metric, record.split, None, status="unresolved", reason=reason)
