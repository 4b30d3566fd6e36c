"""Metrics: pure functions of a model's outputs on the four splits.

Each file holds one concept and registers what it measures with definition, ideal and source.
The ideal of every metric is retraining's value, so none is simply better when lower.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unlearn_bench.errors import unknown_name
from unlearn_bench.outputs import Outputs
from unlearn_bench.results import Record

Compute = Callable[[Mapping[str, Outputs]], list[Record]]


@dataclass(frozen=True)
class Metric:
    """What a name in the records means.

    Attributes:
        name: As in the records.
        definition: One sentence, with the formula where there is one.
        ideal: The value that exact unlearning has.
        cost: What computing it takes.
        source: Publication, or ``""``.
    """

    name: str
    definition: str
    ideal: str = "that of retrain"
    cost: str = "one forward pass, shared by all"
    source: str = ""


_METRICS: dict[str, Metric] = {}
_COMPUTES: list[Compute] = []


def describe(*metrics: Metric) -> None:
    """Register the meaning of metrics that are measured elsewhere than on outputs."""
    for metric in metrics:
        _METRICS[metric.name] = metric


def measures(*metrics: Metric) -> Callable[[Compute], Compute]:
    """Register the decorated function as what computes ``metrics`` from outputs."""
    describe(*metrics)

    def decorate(compute: Compute) -> Compute:
        _COMPUTES.append(compute)
        return compute

    return decorate


def _load() -> None:
    from unlearn_bench.metrics import accuracy, cost, mia  # noqa: F401  registers on import


def metrics() -> dict[str, Metric]:
    """Return all metrics by name, in the order in which they are reported."""
    _load()
    return dict(_METRICS)


def get(name: str) -> Metric:
    """Return the metric ``name``.

    Raises:
        UnknownNameError: If there is none.
    """
    known = metrics()
    if name not in known:
        raise unknown_name("metric", name, known, "unlearn-bench list metrics")
    return known[name]


def compute(outputs: Mapping[str, Outputs]) -> list[Record]:
    """Compute every output metric.

    Args:
        outputs: By split: forget, retain, test_forget, test_retain.
    """
    _load()
    return [record for compute_some in _COMPUTES for record in compute_some(outputs)]
