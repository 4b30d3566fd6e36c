"""Membership inference with a fitted attacker: logistic regression on what a model outputs.

The attacker learns to tell forget examples F from test examples TF of the same classes, on some
of both, and is judged on the others: five folds, each scored by an attacker that has not seen
it. Inputs are standardised and the two sides weigh the same. Retraining never saw F, so its
value, near 0.5, is the ideal.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.mia import (
    Scores,
    attack_metrics,
    attack_records,
    unresolved_attack,
)
from unlearn_bench.measure.metrics.scores import attack_features, shuffled_rows
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record

FOLDS = 5

# Name of the attack to the features it sees.
ATTACKS = {
    "mia_entropy": ("entropy",),
    "mia_confidence": ("confidence",),
    "mia_features": ("correctness", "confidence", "entropy", "m_entropy", "nll"),
}


def cross_fitted(member: Scores, other: Scores, seed: int) -> tuple[Scores, Scores]:
    """Score every example by an attacker fitted on the other folds.

    The folds are drawn by content, so that the order of examples does not matter.

    Args:
        member: Features of F, [M, D]; M >= 5.
        other: Features of TF, [N, D]; N >= 5.
        seed: Determines the folds.

    Returns:
        Log-odds of membership, [M] and [N].
    """
    rows = np.concatenate([member, other])
    target = np.repeat([1, 0], [len(member), len(other)])
    fold = np.empty(len(rows), dtype=int)
    fold[shuffled_rows(member, seed)] = np.arange(len(member)) % FOLDS
    fold[len(member) + shuffled_rows(other, seed + 1)] = np.arange(len(other)) % FOLDS
    scores = np.empty(len(rows))
    for held_out in range(FOLDS):
        chosen = fold != held_out
        # A canonical order here too: sums of floats depend on it in the last digits.
        order = np.lexsort((*rows[chosen].T, target[chosen]))
        attacker = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        attacker.fit(rows[chosen][order], target[chosen][order])
        scores[~chosen] = attacker.decision_function(rows[~chosen])
    return scores[: len(member)], scores[len(member) :]


@measures(*(name for attack in ATTACKS for name in attack_metrics(attack)))
def fitted_attacks(evaluation: Evaluation) -> list[Record]:
    """Return AUC and true positive rates of the fitted attacks, F against TF."""
    f = attack_features(evaluation.unlearned["forget"])
    tf = attack_features(evaluation.unlearned["test_forget"])
    records = []
    for attack, names in ATTACKS.items():
        member, other = (np.stack([x[name] for name in names], axis=1) for x in (f, tf))
        if min(len(member), len(other)) < FOLDS:
            reason = f"fitting the attack needs {FOLDS} examples on each side"
            records += unresolved_attack(attack, reason)
        else:
            records += attack_records(attack, *cross_fitted(member, other, evaluation.seed))
    return records
