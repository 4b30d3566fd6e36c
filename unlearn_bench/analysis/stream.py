"""What a stream of requests does to a model: what came back, what was lost, what it cost.

With u_jk the accuracy of U_k, the model that request k left, on what request j took, g_jk that of
G_k, retrained without all that requests 1 to k took, and d_k the gap of retain accuracy to G_k::

    reversal = max over j < k of max((u_jk - u_jj) - max(g_jk - g_jj, 0), 0)
    erosion  = -slope of the least-squares line through (k, d_k), k = 1, ..., T

Retraining's rise is taken off, its fall is not added: where G loses what a later request takes as
well, a model that stays as it is has got nothing back.

Everything is computed for each seed against its own retraining, and for each unlearning where
there are several from one original; then mean and interval are over seeds, as everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unlearn_bench.analysis.estimate import Estimate, estimate
from unlearn_bench.analysis.table import Section
from unlearn_bench.results.records import with_places
from unlearn_bench.results.stream import (
    ALL_FORGET,
    BATCH_GAP,
    CUMULATIVE_RATIO,
    EARLIER_FORGET,
    EROSION,
    RELEARN_FIRST,
    REVERSAL,
    TEST_EROSION,
    request_split,
)
from unlearn_bench.suite.stream import requests_of, reversed_of, union_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SECONDS = "wall_seconds"
# What the distance over all requests is made of, in a stream and in one request of the same.
_COMPARED = (ALL_FORGET, "retain_accuracy", "test_retain_accuracy")
_AT_ONCE = {ALL_FORGET: "forget_accuracy"}
_RUN = ["method", "seed", "draw"]


@dataclass(frozen=True, eq=False)
class Stream:
    """The numbers of one stream on one dataset with one model.

    Attributes:
        requests: Name of each request, in order.
        methods: Every method with a finished request, by its kind, the reference first.
        runs: Values by method, seed and unlearning (index), with columns (metric, split, request).
        union: The same of the scenario that asks for all at once, request 0.
        reverse: The stream in the reverse order; None where it was not run.
    """

    requests: tuple[str, ...]
    methods: Mapping[str, str]
    runs: pd.DataFrame
    union: pd.DataFrame
    reverse: "Stream | None" = None

    @cached_property
    def reference(self) -> str | None:
        """Label of the retrained reference."""
        return next((m for m, kind in self.methods.items() if kind == "reference"), None)

    def came_back(self, method: str) -> "Floats":
        """Return u_jk - g_jk, [T, T, runs]: accuracy on F_j after request k, net of retraining's.

        NaN where k is before j, or where something was not measured.
        """
        unlearned, retrained = self._forgotten(method)
        return unlearned - retrained

    def _forgotten(self, method: str) -> "tuple[Floats, Floats]":
        """Return u_jk and g_jk, each [T, T, runs]."""
        own, paired = self._of(self.runs, method), self._paired(self.runs, method)
        length = len(self.requests)
        found = np.full((2, length, length, len(own)), np.nan)
        for j, k in combinations_with_replacement(range(length), 2):
            key = (EARLIER_FORGET, request_split(j + 1), k + 1)
            key = key if j < k else ("forget_accuracy", "forget", k + 1)
            found[0, j, k], found[1, j, k] = _column(own, key), _column(paired, key)
        return found[0], found[1]

    def utility(self, method: str, metric: str) -> "Floats":
        """Return the gap of an accuracy to retraining after every request, [T, runs]."""
        split = metric.removesuffix("_accuracy")
        return np.stack(
            [
                self._gap(self.runs, method, metric, split, k)
                for k in range(1, len(self.requests) + 1)
            ]
        )

    def seconds(self, method: str) -> "Floats":
        """Return the seconds of unlearning after every request, all so far together, [T, runs]."""
        return self._seconds(self._of(self.runs, method)).cumsum(axis=0)

    def retraining_seconds(self, method: str) -> "Floats":
        """Return the seconds of each retraining alone, [T, runs], paired with a method's runs."""
        return self._seconds(self._paired(self.runs, method))

    def reversal(self, method: str) -> Estimate | None:
        """Return the most that came back of anything, at any time."""
        u, g = self._forgotten(method)
        rises = [
            (u[j, k] - u[j, j]) - np.maximum(g[j, k] - g[j, j], 0)
            for j, k in combinations(range(len(self.requests)), 2)
        ]
        return self.over_seeds(method, np.maximum(np.max(rises, axis=0), 0))

    def erosion(self, method: str, metric: str = "retain_accuracy") -> Estimate | None:
        """Return what an accuracy loses with each request, net of retraining's."""
        return self.over_seeds(method, -slope(self.utility(method, metric)))

    def cumulative_ratio(self, method: str) -> Estimate | None:
        """Return the seconds of all requests over those of retraining after each."""
        both = self.seconds(method)[-1], self.retraining_seconds(method).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.over_seeds(method, both[0] / both[1])

    def dearer_from(self, method: str) -> int | None:
        """Return the first request after which one retraining would have been cheaper, or None.

        By the means over seeds; None as well where a time was not measured.
        """
        unlearning, once = self.seconds(method).mean(1), self.retraining_seconds(method).mean(1)
        later = np.flatnonzero(unlearning > once)
        return int(later[0]) + 1 if len(later) else None

    def relearning(self, method: str) -> Estimate | None:
        """Return the steps of relearning what the first request took, after the last."""
        key = (RELEARN_FIRST, "test_forget", len(self.requests))
        return self.over_seeds(method, _column(self._of(self.runs, method), key))

    def batch_gap(self, method: str) -> Estimate | None:
        """Return how much farther the stream ends than the same requests made at once."""

        def distance(runs: pd.DataFrame, names: Mapping[str, str], request: int) -> "pd.Series":
            gaps = []
            for metric in _COMPARED:
                name = names.get(metric, metric)
                split = "forget" if metric == ALL_FORGET else name.removesuffix("_accuracy")
                gap = np.abs(self._gap(runs, method, name, split, request))
                gaps.append(pd.Series(gap, index=self._of(runs, method).index))
            return pd.concat(gaps, axis=1).mean(axis=1, skipna=False)

        stream = distance(self.runs, {}, len(self.requests))
        apart = stream - distance(self.union, _AT_ONCE, 0).reindex(stream.index)
        return self.over_seeds(method, apart.to_numpy())

    def over_seeds(self, method: str, values: "Floats") -> Estimate | None:
        """Return the mean over seeds of one value per run of a method."""
        seeds = self._of(self.runs, method).index.get_level_values("seed")
        return estimate(pd.Series(values, index=seeds).groupby(level=0).mean().tolist())

    def _of(self, runs: pd.DataFrame, method: str) -> pd.DataFrame:
        return runs[runs.index.get_level_values("method") == method]

    def _paired(self, runs: pd.DataFrame, method: str) -> pd.DataFrame:
        """Return the reference's runs, one beside each run of a method; NaN where it has none."""
        own = self._of(runs, method)
        reference = self._of(runs, self.reference or "").droplevel(["method", "draw"])
        seeds = own.index.get_level_values("seed")
        return reference.reindex(seeds).set_axis(own.index)

    def _gap(
        self, runs: pd.DataFrame, method: str, metric: str, split: str, request: int
    ) -> "Floats":
        key = (metric, split, request)
        return _column(self._of(runs, method), key) - _column(self._paired(runs, method), key)

    def _seconds(self, runs: pd.DataFrame) -> "Floats":
        steps = range(1, len(self.requests) + 1)
        return np.stack([_column(runs, (_SECONDS, "", k)) for k in steps])


def _column(runs: pd.DataFrame, key: tuple[str, str, int]) -> "Floats":
    if key not in runs.columns:
        return np.full(len(runs), np.nan)
    values: Floats = runs[key].to_numpy(dtype=float)
    return values


def slope(values: "Floats") -> "Floats":
    """Return the slope of the least-squares line through values at 1, ..., T, for each run.

    Args:
        values: [T, runs]; a run that lacks one has no slope.
    """
    steps = np.arange(1, len(values) + 1, dtype=float)
    away = steps - steps.mean()
    found: Floats = away @ (values - values.mean(axis=0)) / (away @ away)
    return found


Place = tuple[str, str, str]


def place_of(section: Section) -> Place:
    """Return under which key :func:`streams` has a section's stream, if it is one."""
    return section.dataset, section.model, section.scenario


def streams(records: pd.DataFrame) -> dict[Place, Stream]:
    """Return the streams of a suite by dataset, model and scenario.

    Args:
        records: As in ``records.csv``.
    """
    records = with_places(records)
    places = records[["dataset", "model", "scenario"]].drop_duplicates()
    found: dict[Place, Stream] = {}
    for dataset, model, scenario in places.itertuples(index=False, name=None):
        requests = requests_of(scenario)
        if len(requests) > 1:
            here = records[(records["dataset"] == dataset) & (records["model"] == model)]
            found[dataset, model, scenario] = _stream(here, scenario, requests)
    return {
        place: replace(stream, reverse=_reverse(found, place)) for place, stream in found.items()
    }


def _reverse(found: Mapping[Place, Stream], place: Place) -> Stream | None:
    """Return the same requests in the reverse order, where that is another order."""
    dataset, model, scenario = place
    other = reversed_of(scenario)
    return found.get((dataset, model, other)) if other != scenario else None


def _stream(records: pd.DataFrame, scenario: str, requests: Sequence[str]) -> Stream:
    own = records[records["scenario"] == scenario]
    measured = own[own["metric"] != ""]
    named = measured[["method", "kind"]].drop_duplicates()
    order = {"reference": 0, "control": 1, "method": 2}
    kinds = sorted(
        zip(named["method"], named["kind"], strict=True), key=lambda item: order.get(item[1], 2)
    )
    return Stream(
        tuple(map(str, requests)),
        dict(kinds),
        _pivoted(measured),
        _pivoted(records[(records["scenario"] == union_of(scenario)) & (records["metric"] != "")]),
    )


def _pivoted(measured: pd.DataFrame) -> pd.DataFrame:
    numbers = measured.astype({"value": float, "seed": int, "draw": int, "request": int})
    columns = ["metric", "split", "request"]
    return numbers.pivot_table(index=_RUN, columns=columns, values="value")


# What is said of every method of a stream in one number.
FIGURES: Mapping[str, Callable[[Stream, str], Estimate | None]] = {
    REVERSAL: Stream.reversal,
    EROSION: Stream.erosion,
    TEST_EROSION: lambda stream, method: stream.erosion(method, "test_retain_accuracy"),
    RELEARN_FIRST: Stream.relearning,
    CUMULATIVE_RATIO: Stream.cumulative_ratio,
    BATCH_GAP: Stream.batch_gap,
}
