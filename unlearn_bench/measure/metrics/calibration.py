"""Calibration on the retained test examples TR: does confidence still mean what it says?"""

import torch
from torch.nn.functional import one_hot

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.scores import confidence
from unlearn_bench.measure.outputs import Evaluation, Outputs
from unlearn_bench.results.records import Record

BINS = 15


def expected_calibration_error(outputs: Outputs, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over bins of equally many examples.

    ``ECE = sum over bins b of (n_b / N) |acc(b) - conf(b)|``. Of examples with the same
    confidence the misclassified come first, so that their stored order does not matter.

    Args:
        outputs: Logits and labels, N of them.
        bins: How many; with fewer examples, one bin for each.

    Returns:
        In [0, 1].

    Source: Nixon et al. 2019, arXiv:1904.01685 (equal-mass bins).
    """
    sure, right = confidence(outputs), outputs.correct().double()
    right_sorted = right.sort(stable=True)
    order = right_sorted.indices[sure[right_sorted.indices].sort(stable=True).indices]
    gap = 0.0
    for chosen in torch.tensor_split(order, min(bins, len(order))):
        gap += len(chosen) * abs(float(right[chosen].mean() - sure[chosen].mean()))
    return gap / len(order)


def brier_score(outputs: Outputs) -> float:
    """Mean over examples of sum_j (p_j - [j = y])^2, in [0, 2].

    Source: Brier 1950, Monthly Weather Review 78(1).
    """
    p = outputs.logits.softmax(1)
    return float((p - one_hot(outputs.labels, p.shape[1])).square().sum(1).mean())


@measures("ece", "nll", "brier")
def calibration(evaluation: Evaluation) -> list[Record]:
    """Return calibration error, cross-entropy and Brier score of U on TR."""
    outputs = evaluation.unlearned["test_retain"]
    return [
        Record("ece", "test_retain", expected_calibration_error(outputs)),
        Record("nll", "test_retain", float(outputs.nll().mean())),
        Record("brier", "test_retain", brier_score(outputs)),
    ]
