"""How far one method's metrics moved between two results folders, and whether beyond noise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unlearn_bench.analysis.estimate import Estimate, Sample, estimate, paired, welch
from unlearn_bench.analysis.exchange import LEVEL
from unlearn_bench.analysis.pivot import seeds_of
from unlearn_bench.analysis.statistics import holm
from unlearn_bench.analysis.table import Section
from unlearn_bench.analysis.verdict import primary
from unlearn_bench.plugins.metric import MetricInfo
from unlearn_bench.results.checks import as_cells
from unlearn_bench.results.metrics import DISTANCE

TIME = "wall_seconds"
SAME, WITHIN, BEYOND, UNTOLD = "same", "within noise", "beyond noise", "cannot be told"
# Seeds below which their spread is no measure of noise.
FEWEST = 3
# Steps are whole: a number of them is not known better than by half of one.
_STEP_ERROR = 0.5


@dataclass(frozen=True)
class Difference:
    """One metric of one method in both folders.

    Attributes:
        setting: Dataset, model and scenario.
        change: B - A with its 95 % interval, which is not adjusted.
        metric: What the column shows.
        shared: Number of seeds that the pairs come from; 0 where Welch's test was used.
        p_value: Adjusted by Holm's rule over the method's metrics; None where untold.
        state: :data:`SAME`, :data:`WITHIN`, :data:`BEYOND` or :data:`UNTOLD`.
    """

    setting: tuple[str, str, str]
    method: str
    kind: str
    column: str
    metric: MetricInfo
    first: Estimate
    second: Estimate
    change: Estimate
    shared: int
    p_value: float | None
    state: str


def setting(section: Section) -> tuple[str, str, str]:
    """Return dataset, model and scenario."""
    return section.dataset, section.model, section.scenario


def compared(section: Section) -> tuple[str, ...]:
    """Name the columns that are compared: distance, primary metrics, time."""
    return DISTANCE, *primary(section), TIME


def differences(a: Section, b: Section) -> Iterator[Difference]:
    """Yield every compared metric of every method that both have, p-values adjusted by method."""
    for row in a.table.rows:
        found = []
        left, right = seeds_of(a.values, row.method), seeds_of(b.values, row.method)
        errors = _errors(a, row.method), _errors(b, row.method)
        for column in compared(a):
            if column in left and column in right:
                one, other = left[column].dropna(), right[column].dropna()
                both = one.index.intersection(other.index)
                if len(both) > 1:
                    # Paired: a seed that one folder lacks would shift the means shown beside it.
                    one, other = one[both], other[both]
                if len(one) and len(other):
                    of_each = (_error_of(a.facts.of(column), column, each) for each in errors)
                    found.append((column, one, other, *_change(one, other, *of_each)))
        told = [p for *_, p in found if p is not None]
        adjusted = iter(holm(told))
        for column, one, other, change, shared, p in found:
            p_value = next(adjusted) if p is not None else None
            first, second = estimate(one), estimate(other)
            assert first and second
            yield Difference(
                setting(a),
                row.method,
                row.kind,
                column,
                a.facts.of(column),
                first,
                second,
                change,
                shared,
                p_value,
                SAME
                if one.equals(other)
                else UNTOLD
                if p_value is None
                else BEYOND
                if p_value < LEVEL
                else WITHIN,
            )


def _errors(section: Section, method: str) -> pd.DataFrame:
    """Return standard errors over examples by seed and column, of the distance as well."""
    own = seeds_of(section.errors, method)
    if section.reference is None:
        return own
    # The distance is the mean of gaps to retraining, each as uncertain as its paired examples say,
    # or, in results from before these were kept, as both of its ends.
    retrained = seeds_of(section.errors, section.reference).reindex(own.index)
    names = list(section.compared)
    ends = (own[names] ** 2).fillna(0.0) + (retrained[names] ** 2).fillna(0.0)
    squares = (seeds_of(section.gap_errors, method)[names] ** 2).fillna(ends)
    return own.assign(**{DISTANCE: 100 * np.sqrt(squares.sum(axis=1)) / len(names)})


def _error_of(info: MetricInfo, column: str, errors: pd.DataFrame) -> "pd.Series[float]":
    if info.unit == "steps":
        return pd.Series(_STEP_ERROR, index=errors.index)
    return errors[column].fillna(0.0)


def _change(
    one: "pd.Series[float]",
    other: "pd.Series[float]",
    errors_one: "pd.Series[float]",
    errors_other: "pd.Series[float]",
) -> tuple[Estimate, int, float | None]:
    """Return B - A, the seeds it is paired by, and the p-value of "there is no difference"."""
    e_one, e_other = (
        errors.reindex(values.index).fillna(0.0)
        for errors, values in ((errors_one, one), (errors_other, other))
    )
    pairs = (other - one).dropna()
    if len(pairs) > 1:
        both = np.hypot(e_one[pairs.index], e_other[pairs.index])
        change, p_value = paired(Sample(list(pairs), list(both)))
        return change, len(pairs), p_value if len(pairs) >= FEWEST else None
    if min(len(one), len(other)) > 1:
        change, p_value = welch(Sample(list(one), list(e_one)), Sample(list(other), list(e_other)))
        return change, 0, p_value if min(len(one), len(other)) >= FEWEST else None
    change = Estimate(float(pairs.mean() if len(pairs) else other.mean() - one.mean()), None, 1)
    return change, len(pairs), None


def as_csv(differences: Sequence[Difference]) -> str:
    """Return every difference as a line of CSV."""
    columns = [
        "dataset",
        "model",
        "scenario",
        "method",
        "kind",
        "metric",
        "first",
        "second",
        "change",
        "change_low",
        "change_high",
        "n_first",
        "n_second",
        "shared_seeds",
        "p_value",
        "state",
    ]
    rows = [
        [
            *d.setting,
            d.method,
            d.kind,
            d.column,
            d.first.mean,
            d.second.mean,
            d.change.mean,
            d.change.low,
            d.change.high,
            d.first.n,
            d.second.n,
            d.shared,
            d.p_value,
            d.state,
        ]
        for d in differences
    ]
    return as_cells(pd.DataFrame(rows, columns=columns)).to_csv(index=False)
