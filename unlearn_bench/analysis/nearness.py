"""How near is an unlearned model to retraining at least, in spreads of retraining?

The unit of a metric is s_G, the standard deviation of retrained models of the same seed, or the
metric's floor where that is larger. Two numbers say how far away U may still be:

- the *nearness* of a metric is the smallest margin, in units, within which two one-sided tests at
  5 % (TOST) find U equivalent to retraining: (|d| + t_.95 e) / s_G with d the mean of U - mean(G)
  over seeds and e its standard error. A method's is its worst metric's, so that no adjustment for
  their number is needed.
- the *joint* one sees many metrics that are a little off together: the AUC with which one unlearned
  model can be told apart from a retrained one of its seed, by a linear discriminant over metrics
  that was fitted to the other seeds, as its upper 95 % bound.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Declared beforehand: within these a method counts as indistinguishable from retraining.
NEARNESS_LIMIT = 1.0
AUC_LIMIT = 0.75
_NOISE = 1e-12


def nearness(values: "Floats", floors: "Floats") -> "Floats":
    """Return how many spreads of retraining U may be away at most, [metrics].

    Args:
        values: [seeds, models, metrics], the first model is U, all others retrained; at least
            two seeds. A metric that is NaN for one model of a seed is left out there.
        floors: [metrics], the difference of each that never matters.
    """
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    values = np.where(np.isnan(values).any(1, keepdims=True), np.nan, values)
    seeds = (~np.isnan(values[:, 0])).sum(0)
    away = values[:, 0] - values[:, 1:].mean(1)
    error = np.sqrt(np.nanvar(away, 0, ddof=1) / seeds)
    margin = np.abs(np.nanmean(away, 0)) + stdtrit(seeds - 1, 0.95) * error
    return np.asarray(margin / np.maximum(_units(values, floors), _NOISE))


def joint_auc(values: "Floats", floors: "Floats") -> float:
    """Return the upper 95 % bound of the AUC with which a model can be told apart from retraining.

    The discriminant of each seed is fitted to all others: the mean difference times the inverse
    of the covariance within seeds, shrunk after Ledoit and Wolf 2004. Seeds are what varies.

    Args:
        values: As for :func:`nearness`; seeds with a NaN are left out.
        floors: Likewise.
    """
    from scipy.special import stdtrit
    from sklearn.covariance import ledoit_wolf

    values = values[~np.isnan(values).any((1, 2))]
    seeds, models, metrics = values.shape
    if seeds < 2:
        return 1.0
    scaled = values / np.maximum(_units(values, floors), _NOISE)
    retrained = scaled[:, 1:]
    others = models - 1
    if others > 1:
        centred = (retrained - retrained.mean(1, keepdims=True)) * math.sqrt(others / (others - 1))
    else:
        centred = retrained - retrained.mean(0)
    covariance, _ = ledoit_wolf(centred.reshape(-1, metrics), assume_centered=True)
    # A metric without any spread has none to be divided by.
    precision = np.linalg.inv(covariance + 1e-3 * np.eye(metrics))
    away = scaled[:, 0] - retrained.mean(1)
    directions = (away.sum(0) - away) @ precision / (seeds - 1)
    lead = np.einsum("sm,skm->sk", directions, scaled[:, :1] - retrained)
    wins = np.where(np.abs(lead) < 1e-9, 0.5, lead > 0).mean(1)
    half = float(stdtrit(seeds - 1, 0.95)) * wins.std(ddof=1) / math.sqrt(seeds)
    return float(min(1.0, max(wins.mean() + half, 0.5)))


def _units(values: "Floats", floors: "Floats") -> "Floats":
    retrained = values[:, 1:]
    if retrained.shape[1] > 1:  # within seeds: what the seed does to all of them is no spread
        spread = np.sqrt(np.nanmean(retrained.var(1, ddof=1), 0))
    else:
        spread = np.nanstd(retrained[:, 0], 0, ddof=1)
    return np.asarray(np.maximum(spread, floors))
