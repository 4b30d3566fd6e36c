"""Accuracy on each of the four splits, always separately."""

from scipy.stats import binomtest

from unlearn_bench.measure.metrics import measures
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
    records = []
    for split, name in _NAMES.items():
        outputs = evaluation.unlearned[split]
        right, total = int(outputs.correct().sum()), len(outputs)
        ends = binomtest(right, total).proportion_ci(method="wilson")
        records.append(Record(name, split, right / total, float(ends.low), float(ends.high)))
    return records
