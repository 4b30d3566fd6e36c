"""Compare methods with retraining over all seeds of a suite, from the scores that runs left behind.

With the same examples under many seeds: KLoM and forgetting quality. With ``thirds``, where every
target is kept, forgotten and never seen under a third of the seeds each, three questions by every
attack of :mod:`~unlearn_bench.population.shadow`:

- *privacy*: can unlearned models that forgot x be told apart from those that never saw it?
- *efficacy*: the same against originals that never saw x.
- *collateral*: can unlearned models that kept x be told apart from originals that kept it?

Retraining must come out at chance, and the original shows what an attack can see at all.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unlearn_bench.population.klom import klom, redivided
from unlearn_bench.population.quality import forgetting_quality
from unlearn_bench.population.shadow import (
    ATTACKS,
    Arms,
    auc,
    bootstrapped,
    clopper_pearson,
    scored,
    tpr_at,
)
from unlearn_bench.results.curves import SCORES, TARGET_CLASS
from unlearn_bench.suite.spec import OTHER_RETRAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

COLUMNS = (
    "dataset",
    "model",
    "scenario",
    "method",
    "metric",
    "split",
    "value",
    "low",
    "high",
    "null_low",
    "null_high",
    "n_models",
    "reason",
)
LEAST_MODELS = 16
LEAST_OF_THIRDS = 12
_REDIVISIONS = 10
# More change no mean over examples that matters, and cost every report seconds.
_MOST_EXAMPLES = 300
_WORST = 10
_KLOM_SPLITS = ("forget", "retain", "test_forget", "test_retain")
QUESTIONS = ("privacy", "efficacy", "collateral")
_RATES = {"1pct": 0.01, "10pct": 0.1}


@dataclass(frozen=True)
class Measured:
    """One number over many models, in the columns of ``population.parquet``."""

    method: str
    metric: str
    split: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    null_low: float = math.nan
    null_high: float = math.nan
    n_models: int = 0
    reason: str = ""


def table(curves: pd.DataFrame | None) -> pd.DataFrame:
    """Return every many-model number of a suite, columns as in :data:`COLUMNS`.

    Args:
        curves: As in ``curves.parquet``; None where a folder has none.
    """
    rows: list[dict[str, object]] = []
    if curves is not None:
        # One place at a time: all scores, by far the most of the points, are not copied at once.
        places = curves.loc[curves["curve"] == SCORES, ["dataset", "model", "scenario"]]
        for names, of_place in places.groupby([*places], sort=False, observed=True):
            place = dict(zip(COLUMNS, map(str, names), strict=False))
            scores = curves.loc[of_place.index]
            rows += [place | vars(measured) for measured in _measured(_Pool(scores))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


class _Pool:
    """The scores of one dataset, model and scenario, by method and series."""

    def __init__(self, scores: pd.DataFrame) -> None:
        self._parts = {
            (str(method), str(series)): part
            for (method, series), part in scores.groupby(
                ["method", "series"], sort=False, observed=True
            )
        }
        self._tables: dict[tuple[str, str], pd.DataFrame] = {}
        self.kinds: dict[str, str] = dict(
            scores[["method", "kind"]].drop_duplicates().itertuples(index=False)
        )
        self.reference = next((m for m, kind in self.kinds.items() if kind == "reference"), None)

    @property
    def is_of_thirds(self) -> bool:
        """Whether there are targets."""
        return any(series == TARGET_CLASS for _, series in self._parts)

    def of(self, method: str, series: str) -> pd.DataFrame:
        """Return scores by seed and example; empty where there are none."""
        part = self._parts.get((method, series))
        if part is None:
            return pd.DataFrame()
        if (method, series) not in self._tables:
            table = part.pivot_table(index="seed", columns="x", values="y")
            self._tables[method, series] = table
        return self._tables[method, series]

    def both(self, method: str, other: str, series: str) -> "tuple[Floats, Floats]":
        """Return the scores of both under the seeds and of the examples that both have.

        Of fewer than :data:`LEAST_MODELS` seeds nothing is said: they are without examples.
        """
        parts = self._parts.get((method, series)), self._parts.get((other, series))
        if parts[0] is None or parts[1] is None:
            return np.empty((0, 0)), np.empty((0, 0))
        models = len(np.intersect1d(parts[0]["seed"], parts[1]["seed"]))
        if models < LEAST_MODELS:
            return np.empty((models, 0)), np.empty((models, 0))
        first, second = self.of(method, series), self.of(other, series)
        seeds = first.index.intersection(second.index)
        u, g = first.loc[seeds], second.loc[seeds]
        full = u.columns[u.notna().all()].intersection(g.columns[g.notna().all()])
        some = full[:: max(1, -(-len(full) // _MOST_EXAMPLES))]
        return u[some].to_numpy(), g[some].to_numpy()


def _measured(pool: _Pool) -> Iterator[Measured]:
    if pool.reference is None:
        return
    if pool.is_of_thirds:
        yield from _thirds(pool)
        return
    for method in pool.kinds:
        if method != pool.reference:
            yield from _against_retraining(pool, method, pool.reference)


def _against_retraining(pool: _Pool, method: str, reference: str) -> Iterator[Measured]:
    for split in _KLOM_SPLITS:
        u, g = pool.both(method, reference, split)
        rng = np.random.default_rng(0)
        blank = Measured(method, "klom", split, n_models=len(u))
        if lacking := _lacking(u, LEAST_MODELS):
            yield replace(blank, reason=lacking)
            continue
        found = klom(u, g)
        null = [klom(*redivided(u, g, rng)) for _ in range(_REDIVISIONS)]
        for metric, summary in (("klom", np.mean), ("klom_p95", _high)):
            chances = [float(summary(chance)) for chance in null]
            low, high = min(chances), max(chances)
            value = float(summary(found))
            yield replace(blank, metric=metric, value=value, null_low=low, null_high=high)
    yield from _quality(pool, method, reference)


def _quality(pool: _Pool, method: str, reference: str) -> Iterator[Measured]:
    u, g = pool.both(method, reference, "forget")
    blank = Measured(method, "forgetting_quality", "forget", n_models=len(u))
    if lacking := _lacking(u, LEAST_MODELS):
        yield replace(blank, reason=lacking)
        return
    points = forgetting_quality(u, g)
    half = 1.96 * points.std() / math.sqrt(len(points))
    mean = float(points.mean())
    measured = replace(blank, value=mean, low=mean - half, high=mean + half)
    best = _best_quality(pool, reference) if method != OTHER_RETRAIN else None
    if best is None:
        yield measured
        return
    # What exact unlearning would reach.
    yield replace(measured, null_low=best, null_high=best)
    yield replace(blank, metric="forgetting_quality_ratio", value=mean / best)


def _best_quality(pool: _Pool, reference: str) -> float | None:
    """Return the quality of one retraining against another."""
    again = pool.both(OTHER_RETRAIN, reference, "forget")
    if _lacking(again[0], LEAST_MODELS):
        return None
    return float(forgetting_quality(*again).mean())


def _lacking(scores: "Floats", least: int) -> str:
    if len(scores) < least:
        more = least - len(scores)
        return f"{more} more seed{'s' if more > 1 else ''} needed: {least} models at least"
    return "" if scores.shape[1] else "no example belongs to the split under every seed"


def _high(values: "Floats") -> float:
    return float(np.percentile(values, 95))


def _thirds(pool: _Pool) -> Iterator[Measured]:
    """Yield what every attack finds, the reference first: its intervals stand beside all others."""
    from_reference: dict[str, Measured] = {}
    others = [method for method in pool.kinds if method != pool.reference]
    for method in (str(pool.reference), *others):
        for measured in _attacked(pool, method):
            if method == pool.reference:
                from_reference[measured.metric] = measured
            beside = from_reference.get(measured.metric, measured)
            yield replace(measured, null_low=beside.low, null_high=beside.high)


def _attacked(pool: _Pool, method: str) -> Iterator[Measured]:
    targets = _Targets(pool, method)
    blank = Measured(method, "privacy_lira_auc", "targets", n_models=targets.models)
    blank = replace(blank, reason=targets.left_out)
    if targets.models < LEAST_OF_THIRDS:
        more = LEAST_OF_THIRDS - targets.models
        yield replace(blank, reason=f"{more} more seeds needed: {LEAST_OF_THIRDS} models at least")
        return
    rng = np.random.default_rng(0)
    for question in QUESTIONS:
        arms = targets.arms(question)
        for attack in ATTACKS:
            members, nonmembers = scored(arms, attack)
            name = f"{question}_{attack}"
            low, high = bootstrapped(members, nonmembers, rng)
            value = auc(members, nonmembers)
            yield replace(blank, metric=f"{name}_auc", value=value, low=low, high=high)
            for key, rate in _RATES.items():
                hits, n = tpr_at(members, nonmembers, rate)
                low, high = clopper_pearson(hits, n)
                metric = f"{name}_tpr_at_{key}"
                yield replace(blank, metric=metric, value=hits / max(n, 1), low=low, high=high)
            if (question, attack) == ("privacy", "lira"):
                yield from _exposed(replace(blank, metric="most_exposed"), targets, arms)


def _exposed(blank: Measured, targets: "_Targets", arms: Arms) -> Iterator[Measured]:
    """Yield the targets whose models are told best, by their index; the value is their AUC."""
    members, others = scored(arms, "lira")
    told = np.array([auc(members[:, x], others[:, x]) for x in range(members.shape[1])])
    lead = np.nanmean(members, 0) - np.nanmean(others, 0)
    for place in np.argsort(-np.nan_to_num(lead, nan=-np.inf), kind="stable")[:_WORST]:
        index = int(targets.examples[place])
        yield replace(blank, split=f"train:{index}", value=float(told[place]))


class _Targets:
    """A method's scores on the targets of thirds, beside the original's.

    Attributes:
        models: How many seeds; whole threes of them.
        left_out: How many more there are that are not used, in words.
        examples: Index of every target into the training part, [targets].
    """

    def __init__(self, pool: _Pool, method: str) -> None:
        classes = pool.of(method, TARGET_CLASS)
        self.examples = classes.columns.to_numpy(dtype=float) if len(classes) else np.empty(0)
        there = set(_seeds(pool.of(method, s) for s in ("target_forgotten", "target_unseen")))
        there &= set(_seeds(pool.of("original", s) for s in ("target_forgotten", "target_unseen")))
        threes = [
            n for n in sorted({s // 3 for s in there}) if {3 * n, 3 * n + 1, 3 * n + 2} <= there
        ]
        self._seeds = [3 * n + turn for n in threes for turn in range(3)]
        self.models = len(self._seeds)
        beyond = len(there) - self.models
        self.left_out = (
            f"{beyond} seed{'s' if beyond > 1 else ''} left out: seeds 0 to 2, 3 to 5 and so on "
            "count together"
            if beyond
            else ""
        )
        self._classes = (
            classes.iloc[0].to_numpy(dtype=np.int64) if len(classes) else np.empty(0, int)
        )
        self._pool, self._method = pool, method

    def arms(self, question: str) -> Arms:
        """Return the two arms of a question."""
        member, member_role, other, other_role = {
            "privacy": (self._method, "forgotten", self._method, "unseen"),
            "efficacy": (self._method, "forgotten", "original", "unseen"),
            "collateral": (self._method, "kept", "original", "kept"),
        }[question]
        return Arms(self._of(member, member_role), self._of(other, other_role), self._classes)

    def _of(self, method: str, role: str) -> "Floats":
        scores = self._pool.of(method, f"target_{role}")
        return scores.reindex(index=self._seeds, columns=self.examples).to_numpy()


def _seeds(tables: Iterable[pd.DataFrame]) -> list[int]:
    common: set[int] | None = None
    for found in tables:
        seeds = set(map(int, found.index))
        common = seeds if common is None else common & seeds
    return sorted(common or ())
