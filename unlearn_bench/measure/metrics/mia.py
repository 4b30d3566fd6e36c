"""Membership inference from the loss: can an attacker tell who was trained on?

The attacker scores an example by minus its loss and calls high scores members. Members are the
forget examples F; non-members are test examples of the same classes TF, for any other choice
only asks whether an example is of the forget class. Retraining never saw F, so its value, near
0.5, is the ideal; below it the model over-forgets, which gives membership away as well.
"""

import numpy as np
from numpy.typing import NDArray

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.shares import TWO_SIDED, paired_error, wilson
from unlearn_bench.measure.outputs import Evaluation, Observed
from unlearn_bench.results.records import Curve, Record

Scores = NDArray[np.float64]

# Fewer false positives than this at the wanted rate say nothing about the tail.
MIN_FALSE_POSITIVES = 10
TOO_FEW = "too few examples"
# Points of a stored ROC curve, spread evenly over the logarithm of the false positive rate.
ROC_POINTS = 80
RATES = {"10pct": 0.1, "1pct": 0.01, "0.1pct": 0.001}


def auc(member: Scores, other: Scores) -> tuple[float, float, float]:
    """Area under the ROC curve with its 95 % interval.

    The probability that a random member scores above a random other, ties counted half; the
    variance is that of the two samples' placement values.

    Args:
        member: Scores of training examples, [M], higher means "member"; M >= 2.
        other: Scores of unseen examples, [N]; N >= 2.

    Returns:
        Value, lower and upper end, each in [0, 1].

    Raises:
        ParameterError: If a side has fewer than two examples.

    Source: DeLong, DeLong and Clarke-Pearson 1988; ranks as in Sun and Xu 2014.
    """
    m, n = len(member), len(other)
    if min(m, n) < 2:
        raise ParameterError(f"an AUC needs two examples on each side, not {m} and {n}")
    above, below = placements(member, other)
    value = float(above.mean())
    half = TWO_SIDED * np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    return value, max(0.0, value - float(half)), min(1.0, value + float(half))


def placements(member: Scores, other: Scores) -> tuple[Scores, Scores]:
    """Return for each member the share of others below it, and for each other of members above.

    Ties count half. The mean of either is the AUC; what one example contributes to it.

    Args:
        member: [M].
        other: [N].

    Returns:
        [M] and [N].
    """
    from scipy.stats import rankdata  # a second of CPU time that scheduling does without

    m, n = len(member), len(other)
    ranks = rankdata(np.concatenate([member, other]))
    return (ranks[:m] - rankdata(member)) / n, 1 - (ranks[m:] - rankdata(other)) / m


def true_positive_rate(member: Scores, other: Scores, fpr: float) -> float:
    """Share of members found at a fixed false positive rate.

    The threshold is the lowest score that lets through at most ``fpr`` of the others; a score
    must lie above it to count.

    Args:
        member: Scores of training examples, [M].
        other: Scores of unseen examples, [N].
        fpr: Allowed rate in (0, 1); below 1/N no threshold can hold it.

    Raises:
        ParameterError: If ``fpr`` is not in [1/N, 1).

    Source: Carlini et al. 2022, arXiv:2112.03570.
    """
    if not 1 / len(other) <= fpr < 1:
        raise ParameterError(
            f"a false positive rate of {fpr:g} cannot be held with {len(other)} non-members; "
            f"it must be in [{1 / len(other):g}, 1)"
        )
    # The small addition keeps 0.1 * 30 from counting as 2.
    allowed = int(np.floor(fpr * len(other) + 1e-9))
    threshold = np.sort(other)[::-1][allowed]
    return float((member > threshold).mean())


def roc(attack: str, member: Scores, other: Scores) -> Curve:
    """Return an attack's ROC: at each false positive rate that N others can show, the true one.

    Args:
        attack: Name of the attack, such as ``mia_loss``.
        member: Scores of training examples, [M], higher means "member".
        other: Scores of unseen examples, [N].

    Returns:
        Rates k/N for at most :data:`ROC_POINTS` whole k up to N, and the share of members that
        score above all but k of the others; monotone, ending in (1, 1).
    """
    n = len(other)
    counts = np.unique(np.concatenate([[0], np.geomspace(1, n, ROC_POINTS).round()])).astype(int)
    thresholds = np.append(np.sort(other)[::-1], -np.inf)[counts]
    found = (member[None, :] > thresholds[:, None]).mean(axis=1)
    return Curve("roc", attack, tuple((counts / n).tolist()), tuple(found.tolist()), n)


def attack_metrics(attack: str) -> tuple[str, ...]:
    """Name what :func:`attack_records` records of an attack, such as ``mia_loss``."""
    return (f"{attack}_auc", *(f"{attack}_tpr_at_{name}" for name in RATES))


def attack_records(
    attack: str, scores: tuple[Scores, Scores], reference: tuple[Scores, Scores] | None = None
) -> list[Record]:
    """Return AUC and true positive rates of an attack's scores, F against TF.

    Args:
        attack: Name of the attack, such as ``mia_loss``.
        scores: Of F, [M], higher means "member", and of TF, [N].
        reference: The same examples' scores by the retrained model, where there is one.
    """
    member, other = scores
    if min(len(member), len(other)) < 2:
        return unresolved_attack(attack, "the attack needs two examples on each side")
    split, error = "forget+test_forget", None
    if reference is not None:
        # The variance of a difference of two AUCs of the same examples, as DeLong et al. have it.
        pairs = zip(placements(member, other), placements(*reference), strict=True)
        error = paired_error(list(pairs))
    records = [Record(f"{attack}_auc", split, *auc(member, other), gap_error=error)]
    for name, rate in RATES.items():
        metric = f"{attack}_tpr_at_{name}"
        if rate * len(other) < MIN_FALSE_POSITIVES:
            records.append(Record(metric, split, None, status="unresolved", reason=TOO_FEW))
            continue
        found = true_positive_rate(member, other, rate)
        ends = wilson(round(found * len(member)), len(member))
        records.append(Record(metric, split, found, *ends))
    return records


def unresolved_attack(attack: str, reason: str) -> list[Record]:
    """Return the records of an attack that could not be made, each with the reason."""
    return [
        Record(name, "forget+test_forget", None, status="unresolved", reason=reason)
        for name in attack_metrics(attack)
    ]


@measures(*attack_metrics("mia_loss"), "mia_loss_resolvable_fpr")
def loss_attack(evaluation: Evaluation) -> list[Record]:
    """Return AUC and true positive rates of the loss attack, F against TF."""
    scores, reference = evaluation.both(_loss_scores)
    resolvable = min(1.0, MIN_FALSE_POSITIVES / len(scores[1]))
    return [
        *attack_records("mia_loss", scores, reference),
        Record("mia_loss_resolvable_fpr", "forget+test_forget", resolvable),
    ]


def loss_roc(evaluation: Evaluation) -> Curve:
    """Return the ROC of the loss attack, F against TF."""
    return roc("mia_loss", *_loss_scores(evaluation.unlearned))


def _loss_scores(seen: Observed) -> tuple[Scores, Scores]:
    return -seen["forget"].nll().numpy(), -seen["test_forget"].nll().numpy()
