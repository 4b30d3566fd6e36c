"""Accuracy on each of the four splits, always separately."""

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.shares import share
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record

_NAMES = {
    "forget": "forget_accuracy",
    "retain": "retain_accuracy",
    "test_forget": "test_forget_accuracy",
    "test_retain": "test_retain_accuracy",
}


@measures(*_NAMES.values())
def accuracies(evaluation: Evaluation) -> list[Record]:
    """Return four accuracies in [0, 1], each with its 95 % Wilson interval over examples."""
    return [share(name, split, *evaluation.right(split)) for split, name in _NAMES.items()]
