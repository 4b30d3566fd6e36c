"""Attacks by many models: was an example forgotten, or never seen? Each is judged by the others.

Two arms of scores are compared, example by example: say, models that have unlearned x and models
that never saw it. The model that is judged helps to fit no distribution of x: with the scores that
a distribution was fitted to, chance level would look like AUC 0.70 with 4 models. Nor does one
model of the other arm, so that both arms are fitted to equally many: else the arm of the judged
model would be known less well, and chance level would look like 0.46.

The attacks, what they assume, and what the attacker sees (logits, and the other models'):

- ``lira``: the log ratio of two normal densities with a mean per example and arm, and one variance
  for all, pooled about each arm's own means. Carlini et al. 2022, arXiv:2112.03570; pooled, since a
  variance per example is too noisy below 64 models.
- ``student``: the same with the predictive density of a normal-inverse-gamma prior, which is
  Student's t: the variance of each example is drawn towards the pooled one, as in BaVarIA,
  arXiv:2603.11799.
- ``rmia``: the share of other examples z of the same class, never seen, that x is likelier than:
  [p(x) / Pr(x)] / [p(z) / Pr(z)] > 1, with Pr the mean of both arms' mean probabilities.
  Zarifzadeh et al. 2024, arXiv:2312.03262.
- ``loss``: the score itself, one threshold for all examples. Yeom et al. 2018, arXiv:1709.01604.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Weight of the pooled variance in each example's own, in observations.
_PRIOR_OBSERVATIONS = 8.0
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class Arms:
    """The scores of two arms, NaN where a model does not belong to that arm for an example.

    Attributes:
        members: [models, examples].
        others: [models, examples]; row k is of the same seed as row k of the members.
        classes: Class of every example, [examples].
    """

    members: "Floats"
    others: "Floats"
    classes: "NDArray[np.int64]"


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What other models say of the examples of some scores, each [models, examples].

    Attributes:
        mean_in, mean_out: Mean score by arm.
        squares_in, squares_out: Sum of squares about it.
        p_in, p_out: Mean probability by arm.
        n_in, n_out: Models by arm.
    """

    mean_in: "Floats"
    mean_out: "Floats"
    squares_in: "Floats"
    squares_out: "Floats"
    p_in: "Floats"
    p_out: "Floats"
    n_in: "Floats"
    n_out: "Floats"


@dataclass(frozen=True, eq=False)
class _Side:
    """The scores of one arm that are judged, and what they are judged by."""

    phi: "Floats"
    fitted: _Fitted


def scored(arms: Arms, attack: str) -> "tuple[Floats, Floats]":
    """Return what an attack says of every score of both arms; higher means member.

    Args:
        arms: The scores; an example needs two models of each arm to be judged.
        attack: One of :data:`ATTACKS`.

    Returns:
        Members and others, [models, examples] each; NaN where nothing can be said.
    """
    variance = _pooled_variance(arms)
    members = _Side(arms.members, _fitted(arms, arms.members, _partners(arms.members, arms.others)))
    others = _Side(arms.others, _fitted(arms, _partners(arms.others, arms.members), arms.others))
    sides = (members, others)
    with np.errstate(invalid="ignore", divide="ignore"):
        if attack == "rmia":
            ratios = [_log_ratio(side) for side in sides]
            found = [_share_beaten(ratio, ratios[1], arms.classes) for ratio in ratios]
        else:
            found = [_SCORES[attack](side, variance) for side in sides]
    judged = [
        np.where((side.fitted.n_in > 0) & (side.fitted.n_out > 0), said, np.nan)
        for side, said in zip(sides, found, strict=True)
    ]
    return judged[0], judged[1]


def _partners(scores: "Floats", other: "Floats") -> "Floats":
    """Return for each score one of the other arm's for that example, in turn; NaN without any."""
    there, across = ~np.isnan(scores), ~np.isnan(other)
    packed = np.take_along_axis(other, np.argsort(~across, axis=0, kind="stable"), 0)
    turn = (there.cumsum(0) - 1) % np.maximum(across.sum(0), 1)
    return np.where(there, np.take_along_axis(packed, turn.clip(0), 0), np.nan)


def _fitted(arms: Arms, from_members: "Floats", from_others: "Floats") -> _Fitted:
    """Fit both arms without the scores given, [models, examples] each."""

    def without(scores: "Floats", left_out: "Floats") -> "tuple[Floats, Floats, Floats, Floats]":
        gone = np.nan_to_num(left_out)
        p_gone = np.where(np.isnan(left_out), 0.0, _probability(gone))
        n = (~np.isnan(scores)).sum(0) - (~np.isnan(left_out)).astype(np.float64)
        # About each example's mean, so that large means cost no digits.
        centre = np.nansum(scores, 0) / np.maximum((~np.isnan(scores)).sum(0), 1)
        away = np.where(np.isnan(left_out), 0.0, gone - centre)
        shift = (np.nansum(scores - centre, 0) - away) / np.maximum(n, 1)
        squares = np.nansum(np.square(scores - centre), 0) - np.square(away) - n * shift**2
        p = (np.nansum(_probability(scores), 0) - p_gone) / np.maximum(n, 1)
        return centre + shift, squares.clip(0), p, n

    mean_in, squares_in, p_in, n_in = without(arms.members, from_members)
    mean_out, squares_out, p_out, n_out = without(arms.others, from_others)
    return _Fitted(mean_in, mean_out, squares_in, squares_out, p_in, p_out, n_in, n_out)


def _pooled_variance(arms: Arms) -> float:
    """Return the variance about each arm's own means, over all examples."""
    squares, freedom = 0.0, 0.0
    for scores in (arms.members, arms.others):
        n = (~np.isnan(scores)).sum(0)
        mean = np.nansum(scores, 0) / np.maximum(n, 1)
        squares += float(np.nansum(np.square(scores - mean)))
        freedom += float((n - 1).clip(0).sum())
    return max(squares / max(freedom, 1.0), _LEAST_VARIANCE)


def _lira(side: _Side, variance: float) -> "Floats":
    fitted = side.fitted
    away = np.square(side.phi - fitted.mean_out) - np.square(side.phi - fitted.mean_in)
    return np.asarray(away / (2 * variance))


def _student(side: _Side, variance: float) -> "Floats":
    def log_density(mean: "Floats", n: "Floats", squares: "Floats") -> "Floats":
        freedom = _PRIOR_OBSERVATIONS + (n - 1).clip(0)
        spread = (_PRIOR_OBSERVATIONS * variance + squares) / freedom
        # One more observation varies about a mean that is itself uncertain.
        scale = spread * (1 + 1 / np.maximum(n, 1))
        inside = np.log1p(np.square(side.phi - mean) / (freedom * scale))
        return np.asarray(
            _log_normaliser(freedom) - 0.5 * np.log(scale) - (freedom + 1) / 2 * inside
        )

    f = side.fitted
    members = log_density(f.mean_in, f.n_in, f.squares_in)
    return np.asarray(members - log_density(f.mean_out, f.n_out, f.squares_out))


def _log_normaliser(freedom: "Floats") -> "Floats":
    from scipy.special import gammaln

    half = gammaln((freedom + 1) / 2) - gammaln(freedom / 2)
    return np.asarray(half - 0.5 * np.log(freedom * np.pi))


def _log_ratio(side: _Side) -> "Floats":
    """Return log p(x) / Pr(x)."""
    prior = (side.fitted.p_in + side.fitted.p_out) / 2
    return np.asarray(-np.logaddexp(0, -side.phi) - np.log(np.maximum(prior, 1e-300)))


def _share_beaten(ratio: "Floats", of_z: "Floats", classes: "NDArray[np.int64]") -> "Floats":
    """Return the share of unseen examples z of its class and model that each x is likelier than."""
    found = np.full(ratio.shape, np.nan)
    for label in np.unique(classes):
        same = classes == label
        for model in range(len(ratio)):
            z = np.sort(of_z[model, same])
            z = z[~np.isnan(z)]
            if len(z) > 1:
                beaten = np.searchsorted(z, ratio[model, same])
                itself = ~np.isnan(of_z[model, same]) & (of_z[model, same] == ratio[model, same])
                found[model, same] = beaten / (len(z) - itself)
    return np.where(np.isnan(ratio), np.nan, found)


def _loss(side: _Side, variance: float) -> "Floats":
    return side.phi


def _probability(phi: "Floats") -> "Floats":
    return np.asarray(1 / (1 + np.exp(-phi)))


_SCORES: Mapping[str, Callable[[_Side, float], "Floats"]] = {
    "lira": _lira,
    "student": _student,
    "loss": _loss,
}
ATTACKS = ("lira", "student", "rmia", "loss")


def auc(members: "Floats", others: "Floats") -> float:
    """Return the share of pairs whose member has the higher value, ties half; NaN without any."""
    m, o = members[~np.isnan(members)], np.sort(others[~np.isnan(others)])
    if not len(m) or not len(o):
        return float("nan")
    below = np.searchsorted(o, m, "left") + np.searchsorted(o, m, "right")
    return float(below.sum() / (2 * len(m) * len(o)))


def tpr_at(members: "Floats", others: "Floats", rate: float) -> tuple[int, int]:
    """Return how many members lie above the threshold that accuses ``rate`` of the others.

    Returns:
        Hits and members; a Clopper-Pearson interval needs both.
    """
    m, o = members[~np.isnan(members)], np.sort(others[~np.isnan(others)])[::-1]
    accused = int(rate * len(o))
    if accused >= len(o) or not len(m):
        return 0, len(m)
    return int((m > o[accused]).sum()), len(m)


def clopper_pearson(hits: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share."""
    from scipy.special import betaincinv

    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, 0.025))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 0.975))
    return low, high


def bootstrapped(
    members: "Floats", others: "Floats", rng: np.random.Generator, draws: int = 100
) -> tuple[float, float]:
    """Return the 95 % interval of the AUC when models and examples, rows and columns, are redrawn.

    All scores of an example share what was fitted to it, and all scores of a model its training. In
    150 simulated null suites (12 models, 150 targets) chance level lies in the interval of ``lira``
    in 84 % with models redrawn, 95 % with targets, 99 % with both; where forgetting shifts whole
    models by 0.3, in that of ``loss`` in 99, 75 and 100 %. Both is what covers in every case; it is
    wider than needed where one of them hardly matters.
    """
    models, examples = members.shape
    found = []
    for _ in range(draws):
        drawn = np.ix_(rng.integers(models, size=models), rng.integers(examples, size=examples))
        found.append(auc(members[drawn], others[drawn]))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)
