"""Membership inference as earlier papers computed it, for the appendix only.

Both fit a support vector machine to retained training examples against test examples and ask
it about F. For class unlearning that only asks whether F looks like another class, and fakes
with untouched weights beat exact retraining (see the controls). They are kept to compare with
published tables; retraining's value stands beside them, and no verdict uses them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unlearn_bench.measure.evaluate import SPLITS
from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.mia import Scores
from unlearn_bench.measure.metrics.scores import attack_features, shuffled_rows
from unlearn_bench.measure.outputs import Evaluation, Observed
from unlearn_bench.results.records import Record

if TYPE_CHECKING:
    from sklearn.svm import SVC

Features = Mapping[str, Mapping[str, Scores]]

# Fitting is quadratic in the examples.
MOST = 1000
# What an attack of the SalUn suite is fitted to.
_SALUN = ("correctness", "confidence", "entropy", "m_entropy")


def _svm() -> "SVC":
    from sklearn.svm import SVC

    return SVC(C=3, kernel="rbf", gamma="auto")


def _features(seen: Observed) -> Features:
    """Return what attackers see of the examples of every split, by name."""
    return {split: attack_features(seen[split]) for split in SPLITS}


def _tested(seen: Observed, features: Features) -> Scores:
    """Return the entropy on every test example, TF and TR; for sample scenarios TR is the whole."""
    parts = ["test_retain"]
    if not set(seen["test_forget"].labels.tolist()) <= set(seen["test_retain"].labels.tolist()):
        parts.append("test_forget")
    return np.concatenate([features[part]["entropy"] for part in parts])


def entropy_attack(evaluation: Evaluation, features: Features | None = None) -> float:
    """Share of F that an SVM on the entropy takes for training examples.

    Fitted to equally many examples of R (1) and of the test part (0), drawn at random.

    Args:
        evaluation: What was observed.
        features: Of U by split, where they are known already.
    """
    seen = evaluation.unlearned
    features = features or _features(seen)
    retain, tested = features["retain"]["entropy"], _tested(seen, features)
    count = min(len(retain), len(tested), MOST)
    sides = [
        side[:, None][shuffled_rows(side[:, None], evaluation.seed)[:count]]
        for side in (retain, tested)
    ]
    svm = _svm().fit(np.concatenate(sides), np.repeat([1, 0], count))
    asked = features["forget"]["entropy"][:, None]
    return float(svm.predict(asked).mean())


def stratified(
    rows: Scores, labels: NDArray[np.int64], counts: NDArray[np.int64], seed: int
) -> Scores:
    """Draw rows at random, ``counts[c]`` of class ``c``, whatever order they stand in."""
    drawn = []
    for label, count in enumerate(counts.tolist()):
        members = rows[labels == label]
        drawn.append(members[shuffled_rows(members, seed + label)[:count]])
    return np.concatenate(drawn)


def salun_suite(evaluation: Evaluation, features: Features | None = None) -> dict[str, float]:
    """Share of F that an SVM takes for unseen, by the feature it is fitted to.

    Fitted to R (1) against TR (0), as many of each class on both sides.

    Args:
        evaluation: What was observed.
        features: Of U by split, where they are known already.
    """
    seen = evaluation.unlearned
    width = seen["retain"].logits.shape[1]
    r, tr = (seen[split].labels.numpy() for split in ("retain", "test_retain"))
    counts = np.minimum(np.bincount(r, minlength=width), np.bincount(tr, minlength=width))
    if counts.sum() > MOST:
        counts = counts * MOST // counts.sum()
    features = features or _features(seen)
    efficacy = {}
    for name in _SALUN:
        sides = [
            stratified(features[split][name][:, None], labels, counts, evaluation.seed)
            for split, labels in (("retain", r), ("test_retain", tr))
        ]
        svm = _svm().fit(np.concatenate(sides), np.repeat([1, 0], counts.sum()))
        efficacy[name] = 1 - float(svm.predict(features["forget"][name][:, None]).mean())
    return efficacy


@measures("mia_legacy_entropy_svc", *(f"mia_legacy_salun_{name}" for name in _SALUN))
def legacy_attacks(evaluation: Evaluation) -> list[Record]:
    """Return what the legacy attacks say of U."""
    features = _features(evaluation.unlearned)
    return [
        Record("mia_legacy_entropy_svc", "forget", entropy_attack(evaluation, features)),
        *(
            Record(f"mia_legacy_salun_{name}", "forget", value)
            for name, value in salun_suite(evaluation, features).items()
        ),
    ]
