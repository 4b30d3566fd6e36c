"""Forgetting quality: how well a threshold tells the unlearned models of an example from retrained.

For every example the scores of K unlearned and K retrained models are two samples. Thresholds,
single ones and pairs, decide between them with rates FPR and FNR, and the example's privacy loss is

    eps = max over thresholds of max(ln(1 - d - FPR) - ln FNR, ln(1 - d - FNR) - ln FPR),  d = 1e-5

A threshold with exactly one rate of zero is discarded, since so few models do not show a rate to be
zero; both zero is infinite, here 50. An example scores 2^-b with b the bin of eps, of width 0.5, at
most ceil(ln(K - 1)) / 0.5 of them, and F is the mean over examples. With K = 16 no example scores
less than 2^-6 = 0.016, however well it is told.

Exact unlearning does not reach 1: two samples of K models differ by chance, and the best of 5,050
thresholds finds it. Simulated, F is then 0.15 with 16 models and 0.10 from 64 on (0.3 to 0.4 with
single thresholds alone), not 0.18 at every K as this project's specification has it; nor can 16
models show its 0.001 for a shift of two standard deviations, which lies below their floor. So F
stands beside that of one retraining against another.

Source: Triantafillou et al. 2024, Are we making progress in unlearning? Findings from the first
NeurIPS unlearning competition, arXiv:2406.09073.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_DELTA = 1e-5
_INFINITE = 50.0
_THRESHOLDS = 100
_WIDTH = 0.5
# An arm whose range is this share of the other's has collapsed.
_LEAST_RANGE = 0.01
_EXAMPLES_AT_ONCE = 64


def forgetting_quality(unlearned: "Floats", retrained: "Floats") -> "Floats":
    """Return the points of each example, in (0, 1], [examples].

    Args:
        unlearned: Scores, [models, examples].
        retrained: Scores of as many models, [models, examples].
    """
    eps = privacy_loss(unlearned, retrained)
    most = math.ceil(math.log(max(len(unlearned) - 1, 2))) / _WIDTH
    return np.asarray(2.0 ** -np.minimum(np.floor(eps / _WIDTH), most))


def privacy_loss(unlearned: "Floats", retrained: "Floats") -> "Floats":
    """Return eps of each example, [examples]; the arguments are those of the other function."""
    parts = range(0, unlearned.shape[1], _EXAMPLES_AT_ONCE)
    places = [slice(first, first + _EXAMPLES_AT_ONCE) for first in parts]
    found = [_privacy_loss(unlearned[:, at], retrained[:, at]) for at in places]
    return np.concatenate(found) if found else np.empty(0)


def _privacy_loss(u: "Floats", g: "Floats") -> "Floats":
    swapped = np.median(u, 0) < np.median(g, 0)
    positive, negative = np.where(swapped, g, u), np.where(swapped, u, g)
    both = np.concatenate([u, g])
    grid = np.linspace(both.min(0), both.max(0), _THRESHOLDS)  # [thresholds, examples]
    # Shares of each arm above every threshold, then between every two of them.
    above = [(arm[None] > grid[:, None]).mean(1) for arm in (positive, negative)]
    first, second = np.triu_indices(_THRESHOLDS, 1)
    inside = [share[first] - share[second] for share in above]
    tpr, fpr = (np.concatenate(pair) for pair in zip(above, inside, strict=True))
    eps = _loss_of(fpr, 1 - tpr).max(0)
    ranges = np.sort([np.ptp(u, axis=0), np.ptp(g, axis=0)], axis=0)
    collapsed = ranges[0] < _LEAST_RANGE * ranges[1]
    return np.asarray(np.where(collapsed, _INFINITE, eps))


def _loss_of(fpr: "Floats", fnr: "Floats") -> "Floats":
    none = 1e-12
    fpr, fnr = fpr.clip(0), fnr.clip(0)
    false_positives, false_negatives = fpr > none, fnr > none
    with np.errstate(divide="ignore", invalid="ignore"):
        larger = np.maximum(
            np.log(1 - _DELTA - fpr) - np.log(fnr), np.log(1 - _DELTA - fnr) - np.log(fpr)
        )
    both = false_positives & false_negatives
    perfect = ~false_positives & ~false_negatives
    found = np.where(both, np.nan_to_num(larger, nan=0.0, posinf=_INFINITE, neginf=0.0), 0.0)
    return np.asarray(np.where(perfect, _INFINITE, found).clip(0, _INFINITE))
