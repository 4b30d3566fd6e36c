"""Can an unlearned model be told apart from retraining? An exact permutation test within seeds.

If unlearning is exact, the unlearned model U of a seed and the models G, G', ... retrained with
that seed's data are exchangeable: which of them is called U is chance. The test compares the
labelling that was observed with others, in which some other model of the seed is called U. It is
exact at any correlation between metrics, any tails, any rounding and any effect of the seed.

With d_m the mean over seeds of U minus the mean of the others, s_m the spread of the others within
seeds and floor_m the difference that never matters, metric m contributes

    t_m = max(|d_m| - floor_m, 0) / max(s_m, floor_m)

and the statistic is the larger of max_m t_m and sum_m t_m^2, each standardised over labellings:
the first sees one metric that is far off, the second many that are a little off. Which metric it
is says the step-down maximum of t_m (Westfall and Young 1993), adjusted for the number of metrics.

Labellings are the cyclic shifts of each seed's models: all of them for few seeds, else those of a
fixed subgroup, so that the test stays exact without chance of its own.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.05
_SEEDS_AT_ONCE = 256
_MOST_LABELLINGS = 2200
_MOST_OF_MANY_SEEDS = 250
# Sums in floating point differ in their last digits where labellings are equal.
_TIE = 1e-9


@dataclass(frozen=True)
class Exchange:
    """What the test found.

    Attributes:
        p_value: Of "U, G and G' are exchangeable".
        alone: The same by each metric alone.
        adjusted: These, adjusted for the number of metrics.
    """

    p_value: float
    alone: tuple[float, ...]
    adjusted: tuple[float, ...]


def exchange(values: "Floats", floors: "Floats") -> Exchange:
    """Test whether the first model of each seed can be told apart from the others.

    Args:
        values: [seeds, models, metrics], at least two models; the first is U. A metric that is NaN
            for one model of a seed is left out there.
        floors: [metrics], the difference of each that never matters.
    """
    t = _statistics(values, floors)
    largest, total = t.max(1), np.square(t).sum(1)
    statistic = np.maximum(_standardised(largest), _standardised(total))
    alone, adjusted = np.ones(t.shape[1]), np.ones(t.shape[1])
    highest = 0.0
    order = np.argsort(-t[0], kind="stable")
    for place, metric in enumerate(order):
        # Nothing beyond its floor is no evidence, whatever other labellings give.
        if t[0, metric] > 0:
            alone[metric] = _share(t[:, metric], t[0, metric])
            highest = max(highest, _share(t[:, order[place:]].max(1), t[0, metric]))
            adjusted[metric] = highest
    p_value = _share(statistic, statistic[0]) if largest[0] > 0 else 1.0
    return Exchange(p_value, tuple(alone.tolist()), tuple(adjusted.tolist()))


def smallest_p_value(seeds: int, models: int) -> float:
    """Return the least that the test can give: the observed labelling is then the most extreme.

    Of two models, calling the other one U in every seed is as extreme.
    """
    least: float = (2 if models == 2 else 1) / models ** _generators(seeds, models)
    return least


def seeds_needed(models: int) -> int:
    """Return from how many seeds on the test can reject at 5 % with so many models in each."""
    seeds = 1
    while smallest_p_value(seeds, models) > LEVEL:
        seeds += 1
    return seeds


def _statistics(values: "Floats", floors: "Floats") -> "Floats":
    """Return t_m under every labelling, [labellings, metrics], the observed one first."""
    models = values.shape[1]
    full = np.asarray(~np.isnan(values).any(1))
    seeds = np.maximum(full.sum(0), 1)
    away = np.where(full[:, None], values - values.mean(1, keepdims=True), 0.0)
    difference = away * models / (models - 1)
    squares = np.square(away).sum(1, keepdims=True)
    if models > 2:
        others = squares - np.square(away) * models / (models - 1)
        within = others.clip(min=0) / (models - 2)
    else:  # one other model has no spread; that of both is the same under every labelling
        within = np.broadcast_to(squares, values.shape)
    means, variances = (_relabelled(x) / seeds for x in (difference, within))
    spread = np.maximum(np.sqrt(variances), floors)
    beyond = (np.abs(means) - floors).clip(min=0)
    # Where there is neither spread nor floor, any difference is very many spreads.
    return np.asarray(beyond / np.maximum(spread, 1e-12))


def _relabelled(quantity: "Floats") -> "Floats":
    """Sum over seeds, under every labelling, what belongs to the model that is called U."""
    seeds, models, metrics = quantity.shape
    total = np.zeros((models ** _generators(seeds, models), metrics))
    first = 0
    for labels in _labellings(seeds, models):
        some = labels.shape[1] // models
        total += labels @ quantity[first : first + some].reshape(-1, metrics)
        first += some
    return total


def _labellings(seeds: int, models: int) -> "Iterator[Floats]":
    """Yield who is called U, one-hot, [labellings, seeds * models], for some seeds at a time."""
    if seeds <= _SEEDS_AT_ONCE:
        yield _few_labellings(seeds, models)
        return
    words, matrix = _code(seeds, models)
    for first in range(0, seeds, _SEEDS_AT_ONCE):
        yield _one_hot(words @ matrix[:, first : first + _SEEDS_AT_ONCE] % models, models)


@lru_cache(maxsize=8)
def _few_labellings(seeds: int, models: int) -> "Floats":
    words, matrix = _code(seeds, models)
    return _one_hot(words @ matrix % models, models)


def _one_hot(shifts: "NDArray[np.int64]", models: int) -> "Floats":
    return np.asarray(np.eye(models)[shifts].reshape(len(shifts), -1))


def _code(seeds: int, models: int) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Return coefficients and generators of a linear code over the integers modulo ``models``.

    Its words are a subgroup of all shifts, which is what keeps the test exact.
    """
    rank = _generators(seeds, models)
    grids = np.meshgrid(*[np.arange(models)] * rank, indexing="ij")
    words = np.stack(grids, -1).reshape(-1, rank)
    rest = np.random.default_rng(0).integers(models, size=(rank, seeds - rank))
    return words, np.concatenate([np.eye(rank, dtype=np.int64), rest], 1)


def _generators(seeds: int, models: int) -> int:
    most = _MOST_LABELLINGS if seeds <= _SEEDS_AT_ONCE else _MOST_OF_MANY_SEEDS
    return min(seeds, int(math.log(most) / math.log(models)))


def _standardised(statistic: "Floats") -> "Floats":
    spread = statistic.std()
    if spread == 0:
        return np.zeros_like(statistic)
    return np.asarray((statistic - statistic.mean()) / spread)


def _share(statistics: "Floats", observed: float) -> float:
    return float((statistics >= observed - _TIE * max(abs(observed), 1.0)).mean())
