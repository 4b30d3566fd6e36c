"""Cross-fitting: every example is scored by an attacker fitted without it, many times over.

An attacker that is fitted on some examples and judged on the others moves with the way they are
divided. Each attack is therefore repeated over several divisions: what is reported is the mean,
and the divisions' spread is part of its interval. All fits are made at once.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from unlearn_bench.core.seeds import derive
from unlearn_bench.measure.metrics.mia import (
    MIN_FALSE_POSITIVES,
    RATES,
    TOO_FEW,
    Scores,
    auc,
    true_positive_rate,
    unresolved_attack,
)
from unlearn_bench.measure.metrics.scores import shuffled_rows
from unlearn_bench.measure.metrics.shares import TWO_SIDED, wilson
from unlearn_bench.results.records import Record

FOLDS = 5
REPETITIONS = 10

# Numbers of one batch of fits, at most: 40 MB of float64.
_MOST = 5_000_000
_STEPS, _HALVINGS = 30, 20

# From rows [n, D], sides [n] (1: member) and who is fitted to [B, n], the scores of all, [B, n].
Attacker = Callable[[Scores, NDArray[np.int64], NDArray[np.bool_]], Scores]


def logistic(rows: Scores, target: NDArray[np.int64], fitted: NDArray[np.bool_]) -> Scores:
    """Score by logistic regressions, one for each set of examples it is fitted to.

    Inputs are standardised on those, the two sides weigh the same, and the penalty is that of
    scikit-learn's default: ``|b|^2 / 2`` beside the sum of the losses, the intercept left out.

    Args:
        rows: [n, D], or [B, n, D] where they depend on the set.
        target: 1 for members, 0 for others, [n].
        fitted: Whom each is fitted to, some of both sides, [B, n].

    Returns:
        Log-odds of membership of all examples, [B, n].
    """
    rows = np.broadcast_to(rows, (len(fitted), *rows.shape[-2:]))
    chosen = fitted.astype(float)
    count = chosen.sum(1)
    mean = np.einsum("bn,bnd->bd", chosen, rows) / count[:, None]
    centred = rows - mean[:, None]
    scale = np.sqrt(np.einsum("bn,bnd->bd", chosen, centred**2) / count[:, None])
    scale[scale <= 1e-12 * np.abs(mean)] = 1
    scale[scale == 0] = 1
    z = np.concatenate([centred / scale[:, None], np.ones((*fitted.shape, 1))], axis=2)
    sides = np.stack([(chosen * (target == side)).sum(1) for side in (0, 1)], axis=1)
    weights = chosen * (count[:, None] / (2 * sides))[:, target]
    b = _newton(z, target.astype(float), weights)
    scores: Scores = (z @ b[..., None])[..., 0]
    return scores


def _newton(z: Scores, y: Scores, weights: Scores) -> Scores:
    """Minimise the penalised losses by Newton's method with halved steps, [B, D]."""
    penalty = np.ones(z.shape[2])
    penalty[-1] = 0
    b = np.zeros((len(z), z.shape[2]))

    def loss(b: Scores) -> Scores:
        logits = (z @ b[..., None])[..., 0]
        losses = (weights * (np.logaddexp(0, logits) - y * logits)).sum(1)
        total: Scores = losses + (penalty * b**2).sum(1) / 2
        return total

    before = loss(b)
    for _ in range(_STEPS):
        p = expit((z @ b[..., None])[..., 0])
        gradient = np.einsum("bn,bnd->bd", weights * (p - y), z) + penalty * b
        # Constant scores stay exactly constant: no step follows rounding.
        gradient[np.abs(gradient) < 1e-9 * weights.sum(1, keepdims=True)] = 0
        if not gradient.any():
            break
        curved = z * (weights * p * (1 - p))[..., None]
        hessian = np.swapaxes(curved, 1, 2) @ z + np.diag(penalty + 1e-9)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        size = np.ones(len(z))
        for _ in range(_HALVINGS):
            after = loss(b - size[:, None] * step)
            worse = after > before + 1e-12 * before  # not by rounding
            if not worse.any():
                break
            size[worse] /= 2
        size[worse] = 0
        b = b - size[:, None] * step
        before = np.where(worse, before, after)
    return b


def cross_fitted(
    member: Scores, other: Scores, seeds: list[int], attacker: Attacker = logistic
) -> tuple[Scores, Scores]:
    """Score every example by attackers fitted on the other folds, once per seed.

    Folds are drawn by content, so that the order of examples does not matter.

    Args:
        member: Features of F, [M, D]; M >= 5.
        other: Features of TF, [N, D]; N >= 5.
        seeds: Each determines a division into folds; R of them.
        attacker: Fits and scores.

    Returns:
        Scores, higher for members, [R, M] and [R, N].
    """
    rows = np.concatenate([member, other])
    target = np.repeat([1, 0], [len(member), len(other)])
    # A canonical order: sums of floats depend on it in the last digits.
    order = np.lexsort((*rows.T, target))
    fold = np.stack([_folds(member, other, seed) for seed in seeds])[:, order]
    scores = np.empty((len(seeds), len(rows)))
    size = max(1, _MOST // (FOLDS * rows.size))
    for start in range(0, len(seeds), size):
        drawn = fold[start : start + size]
        fitted = (drawn[:, None] != np.arange(FOLDS)[:, None]).reshape(-1, len(rows))
        found = attacker(rows[order], target[order], fitted).reshape(len(drawn), FOLDS, -1)
        out_of_fold = np.take_along_axis(found, drawn[:, None], axis=1)[:, 0]
        scores[start : start + size, order] = out_of_fold
    return scores[:, : len(member)], scores[:, len(member) :]


def _folds(member: Scores, other: Scores, seed: int) -> NDArray[np.intp]:
    fold = np.empty(len(member) + len(other), dtype=np.intp)
    fold[shuffled_rows(member, seed)] = np.arange(len(member)) % FOLDS
    fold[len(member) + shuffled_rows(other, seed + 1)] = np.arange(len(other)) % FOLDS
    return fold


def repeated_attack(
    attack: str, member: Scores, other: Scores, seed: int, attacker: Attacker = logistic
) -> list[Record]:
    """Return AUC and true positive rates of an attack, means over :data:`REPETITIONS` divisions.

    An interval is that over examples, on average over the divisions, widened by the standard
    error of the mean over divisions.

    Args:
        attack: Name of the attack, such as ``mia_features``.
        member: Features of F, [M, D].
        other: Features of TF, [N, D].
        seed: Determines the divisions.
        attacker: Fits and scores.
    """
    if min(len(member), len(other)) < FOLDS:
        return unresolved_attack(attack, f"the attack needs {FOLDS} examples on each side")
    seeds = [derive(seed, "folds", number) for number in range(REPETITIONS)]
    scores = list(zip(*cross_fitted(member, other, seeds, attacker), strict=True))
    split = "forget+test_forget"
    aucs = np.array([auc(*pair) for pair in scores])
    records = [Record(f"{attack}_auc", split, *_widened(aucs[:, 0], *aucs.mean(0)))]
    for name, rate in RATES.items():
        metric = f"{attack}_tpr_at_{name}"
        if rate * len(other) < MIN_FALSE_POSITIVES:
            records.append(Record(metric, split, None, status="unresolved", reason=TOO_FEW))
            continue
        found = np.array([true_positive_rate(*pair, rate) for pair in scores])
        value = float(found.mean())
        ends = wilson(round(value * len(member)), len(member))
        records.append(Record(metric, split, *_widened(found, value, *ends)))
    return records


def _widened(found: Scores, value: float, low: float, high: float) -> tuple[float, float, float]:
    """Add the standard error of a mean over divisions to an interval over examples."""
    over = TWO_SIDED * found.std(ddof=1) / np.sqrt(len(found))
    below, above = (float(np.hypot(end - value, over)) for end in (low, high))
    return float(value), max(0.0, float(value) - below), min(1.0, float(value) + above)
