"""Membership inference on both sides of the loss: are members unlike unseen examples at all?

A model may memorise one half of F and be taught wrong labels for the other half: high and low
losses cancel in the one-sided attack, and every member can still be told. Both attacks here look
at ``phi = log(p_y / (1 - p_y))``, the loss on a scale where it is roughly normal, and at its
median over unseen examples; that is taken from the folds that are not scored.
"""

import numpy as np
from numpy.typing import NDArray

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.crossfit import logistic, repeated_attack
from unlearn_bench.measure.metrics.mia import Scores, attack_metrics
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.measure.scores import phi
from unlearn_bench.results.records import Record


def distance(rows: Scores, target: NDArray[np.int64], fitted: NDArray[np.bool_]) -> Scores:
    """Score by the distance to the median of the unseen examples fitted to, [B, n].

    The arguments are those of :func:`crossfit.logistic`, with phi as the only column.
    """
    return np.abs(_from_median(rows, target, fitted))


def density_ratio(rows: Scores, target: NDArray[np.int64], fitted: NDArray[np.bool_]) -> Scores:
    """Score by an estimated log-ratio of the densities of members and others, [B, n].

    It is linear in phi on either side of the unseen examples' median, with a kink there: a
    logistic regression on ``phi`` and ``|phi - median|``.

    Source: Sugiyama, Suzuki and Kanamori 2012, Density ratio estimation in machine learning.
    """
    apart = _from_median(rows, target, fitted)
    return logistic(np.stack([apart, np.abs(apart)], axis=2), target, fitted)


def _from_median(rows: Scores, target: NDArray[np.int64], fitted: NDArray[np.bool_]) -> Scores:
    scores = rows[:, 0]
    unseen = fitted & (target == 0)
    medians = np.array([np.median(scores[chosen]) for chosen in unseen])
    apart: Scores = scores - medians[:, None]
    return apart


ATTACKS = {"mia_loss_two_sided": distance, "mia_loss_density": density_ratio}


@measures(*(name for attack in ATTACKS for name in attack_metrics(attack)))
def two_sided_attacks(evaluation: Evaluation) -> list[Record]:
    """Return AUC and true positive rates of the two-sided loss attacks, F against TF."""
    member, other = (
        phi(evaluation.unlearned[split]).numpy()[:, None] for split in ("forget", "test_forget")
    )
    records = []
    for attack, attacker in ATTACKS.items():
        records += repeated_attack(attack, member, other, evaluation.seed, attacker)
    return records
