"""Membership inference with a fitted attacker: logistic regression on what a model outputs.

The attacker learns to tell forget examples F from test examples TF of the same classes, on some
of both, and is judged on the others: five folds, each scored by an attacker that has not seen
it, and the mean over several divisions into folds. Inputs are standardised and the two sides
weigh the same. Retraining never saw F, so its value, near 0.5, is the ideal.
"""

import numpy as np

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.crossfit import repeated_attack
from unlearn_bench.measure.metrics.mia import attack_metrics
from unlearn_bench.measure.metrics.scores import attack_features
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record

# Name of the attack to the features it sees.
ATTACKS = {
    "mia_entropy": ("entropy",),
    "mia_confidence": ("confidence",),
    "mia_features": ("correctness", "confidence", "entropy", "m_entropy", "nll"),
}


@measures(*(name for attack in ATTACKS for name in attack_metrics(attack)))
def fitted_attacks(evaluation: Evaluation) -> list[Record]:
    """Return AUC and true positive rates of the fitted attacks, F against TF."""
    f = attack_features(evaluation.unlearned["forget"])
    tf = attack_features(evaluation.unlearned["test_forget"])
    records = []
    for attack, names in ATTACKS.items():
        member, other = (np.stack([x[name] for name in names], axis=1) for x in (f, tf))
        records += repeated_attack(attack, member, other, evaluation.seed)
    return records
