"""Pivot long records into one table per dataset, model and scenario. Pure: no files, no drawing.

Distance to retraining, the number by which methods are ordered::

    distance(U, s) = 100 / |A| * sum over a in A of |a(U_s) - a(G_s)|     in points

with ``A`` the accuracies of :data:`ACCURACIES` that were measured, ``U_s`` the unlearned and
``G_s`` the retrained model of seed ``s``; then mean and interval over seeds.

Where methods unlearned several times from each original, a seed's value is the mean of its
unlearnings. Means and intervals are then over originals, which is what was drawn independently:
unlearnings from the same original are no further evidence of what another original would give.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unlearn_bench.analysis.apart import put_below
from unlearn_bench.analysis.estimate import Estimate, estimate, estimate_gap, paired_p_value
from unlearn_bench.analysis.pivot import (
    columns_of,
    gaps_to,
    last_requests,
    over_unlearnings,
    pivoted,
    rows_of,
    seeds_of,
    unlearnings,
)
from unlearn_bench.analysis.statistics import SEEDS_FOR_INFERENCE, holm
from unlearn_bench.results.facts import BUILT_IN_FACTS, Facts
from unlearn_bench.results.metrics import DISTANCE, MIA_AUC
from unlearn_bench.results.records import with_places
from unlearn_bench.suite.tuned import TunedSetting

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORIGINAL = "original"

# Points of retain accuracy below retraining from which a method counts as having damaged it.
DAMAGE_POINTS = 10.0


@dataclass(frozen=True)
class Cell:
    """One quantity of one row: its value, and its paired gap to retraining."""

    value: Estimate
    gap: Estimate | None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        method: Label of the method.
        kind: ``reference``, ``control`` or ``method``.
        seeds: Seeds with a result, ascending.
        failed: Seeds without any result, ascending.
        damage: Points of retain accuracy lost against retraining, or against the original where
            nothing was retrained, on the worse of training and test examples; None if that is
            less than :data:`DAMAGE_POINTS`.
        unlearnings: How often it unlearned from each original at most.
    """

    method: str
    kind: str
    seeds: tuple[int, ...]
    failed: tuple[int, ...] = ()
    damage: float | None = None
    unlearnings: int = 1


@dataclass(frozen=True)
class Table:
    """Rows, columns and the cells that exist; a missing cell was not measured.

    Attributes:
        rows: Reference first, then controls, then methods from nearest to farthest.
        columns: Names of metrics; a metric of several splits has one column per split.
        cells: By method and column.
    """

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]

    def value(self, method: str, column: str) -> Estimate | None:
        """Return the mean over seeds, or None where nothing was measured."""
        cell = self.cells.get((method, column))
        return cell.value if cell else None

    def gap(self, method: str, column: str) -> Estimate | None:
        """Return the paired gap to retraining, or None where there is none."""
        cell = self.cells.get((method, column))
        return cell.gap if cell else None

    def of_kind(self, kind: str) -> tuple[Row, ...]:
        """Return the rows of one kind in the table's order."""
        return tuple(row for row in self.rows if row.kind == kind)


@dataclass(frozen=True)
class Failure:
    """A run that ended without a result; of several unlearnings, ``draw`` counts from 0."""

    method: str
    seed: int
    reason: str
    draw: int = 0


@dataclass(frozen=True, eq=False)
class Runs:
    """The numbers of one method: a row per seed, ascending, and a column per quantity.

    Attributes:
        seeds: Of each row.
        values: NaN where nothing was measured.
        errors: Standard errors over examples, 0 where none is known.
    """

    seeds: "NDArray[np.int64]"
    values: "NDArray[np.float64]"
    errors: "NDArray[np.float64]"


@dataclass(frozen=True, eq=False)
class Section:
    """All that one dataset, model and scenario gave.

    Attributes:
        seeds: Every seed that was run, ascending.
        values: Per method and seed (index) and column, distances included.
        each: The same per method, seed and unlearning from that seed's original.
        errors: Standard errors over examples, likewise; NaN where a metric has none.
        gap_errors: Standard errors over paired examples of the gap to retraining, likewise.
        by_class: Means over seeds by metric, for those with a number per class.
        not_applicable: Columns that make no sense for this model or scenario.
        reference: Label of the retrained reference, None if none has finished.
        compared: The accuracies that enter the distance.
        tied: Methods that the seeds do not tell apart from the nearest one.
        spread: Mean distance in points between retrainings of different seeds, if there are two.
        power: AUC(original) - AUC(retrain) of the loss attack: what it can detect here.
        unresolved: Method and column of what could not be measured, and why.
        facts: What is known of its metrics and of who is a fake.
        apart: Sections of ensembles on the same data, compared with their own retraining.
    """

    dataset: str
    model: str
    scenario: str
    seeds: tuple[int, ...]
    table: Table
    values: pd.DataFrame
    each: pd.DataFrame
    errors: pd.DataFrame
    gap_errors: pd.DataFrame
    by_class: Mapping[str, pd.DataFrame]
    not_applicable: frozenset[str]
    reference: str | None
    compared: tuple[str, ...]
    tied: tuple[str, ...]
    spread: float | None
    power: Estimate | None
    failures: tuple[Failure, ...]
    unresolved: Mapping[tuple[str, str], str]
    facts: Facts
    apart: tuple["Section", ...] = ()

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Place of every column in :class:`Runs`."""
        return {str(column): place for place, column in enumerate(self.values.columns)}

    @cached_property
    def _runs(self) -> Mapping[str, "Runs"]:
        seeds = self.values.index.get_level_values("seed").to_numpy()
        # One model of each seed: a mean over several varies less than the single retrained model
        # that it would be compared with, and is not exchangeable with it.
        values = self.each.groupby(level=["method", "seed"]).head(1).to_numpy()
        errors = self.errors.to_numpy()
        # Distances, which come last, have no error over examples.
        more = values.shape[1] - errors.shape[1]
        errors = np.pad(np.nan_to_num(errors), ((0, 0), (0, more)))
        return {
            method: Runs(seeds[rows], values[rows], errors[rows])
            for method, rows in rows_of(self.values).items()
        }

    def runs(self, method: str | None) -> "Runs":
        """Return the numbers of one method's first unlearning under each seed, if it has any."""
        none = np.empty((0, len(self.places)))
        return self._runs.get(method or "", Runs(np.empty(0, dtype=int), none, none))

    @property
    def original(self) -> str:
        """Label of the row that is the original as it was."""
        return self.facts.original(self.model)

    @property
    def unlearnings(self) -> int:
        """How often methods unlearned from each original at most."""
        return max((row.unlearnings for row in self.table.rows), default=1)

    @property
    def fakes(self) -> tuple[str, ...]:
        """Controls whose weights still hold what they hide, in the table's order."""
        return tuple(row.method for row in self.table.rows if row.method in self.facts.fakes)

    @property
    def origins(self) -> Mapping[str, tuple[str, bool]]:
        """How each method's setting came about, and whether it was tuned; perhaps empty."""
        return self.facts.rows.get(f"{self.dataset} · {self.model} · {self.scenario}", {})

    @property
    def tuned(self) -> TunedSetting | None:
        """What was tuned for this dataset, model and scenario, if anything was."""
        name = f"{self.dataset} · {self.model} · {self.scenario}"
        settings = self.facts.tuned.settings if self.facts.tuned else ()
        return next((setting for setting in settings if setting.name == name), None)

    @property
    def ranking(self) -> tuple[Row, ...]:
        """Methods with a distance, nearest first; only such as had the same budget of tuning."""
        return _same_budget(_measured(self.table), self.origins)

    @property
    def unranked(self) -> tuple[Row, ...]:
        """Methods with a distance that had another budget than those of the ranking."""
        return tuple(row for row in _measured(self.table) if row not in self.ranking)


def _measured(table: Table) -> tuple[Row, ...]:
    return tuple(row for row in table.of_kind("method") if table.value(row.method, DISTANCE))


def _same_budget(rows: tuple[Row, ...], origins: Mapping[str, tuple[str, bool]]) -> tuple[Row, ...]:
    """Return the tuned rows or the others, whichever are more; of equally many the tuned."""
    tuned = tuple(row for row in rows if origins.get(row.method, ("", False))[1])
    others = tuple(row for row in rows if row not in tuned)
    return tuned if len(tuned) >= len(others) else others


def sections(records: pd.DataFrame, facts: Facts = BUILT_IN_FACTS) -> tuple[Section, ...]:
    """Split long records by dataset, model and scenario, in order of appearance.

    Of a stream the last request's are taken: what it has come to. :mod:`.stream` has the way there.

    Args:
        records: As in ``records.csv``.
        facts: What ``suite.json`` says of metrics and methods; by default what is built in.
    """
    records = last_requests(with_places(records).astype({"seed": int, "value": float}))
    groups = records.groupby(["dataset", "model", "scenario"], sort=False)
    found = []
    for names, group in groups:
        dataset, model, scenario = map(str, names)
        found.append(_section(dataset, model, scenario, group, facts))
    return put_below(found, facts)


def _section(
    dataset: str, model: str, scenario: str, records: pd.DataFrame, facts: Facts
) -> Section:
    named = records[["method", "kind"]].drop_duplicates()
    kinds = dict(zip(named["method"], named["kind"], strict=True))
    measured = records[(records["metric"] != "") & (records["status"] != "failed")]
    by_class = {metric: _by_class(measured, metric) for metric in facts.by_class()}
    measured = measured[~measured["metric"].isin(by_class)]
    measured = measured.assign(column=columns_of(measured))
    each, errors, gap_errors = pivoted(measured)
    finished = set(each.index.get_level_values("method"))
    reference = next(
        (name for name, kind in kinds.items() if kind == "reference" and name in finished), None
    )
    away, compared = gaps_to(each, reference)
    if compared:
        each[DISTANCE] = 100 * away[list(compared)].abs().mean(axis=1, skipna=False)
    values, gaps = over_unlearnings(each), over_unlearnings(away)
    failures = _failures(records[records["status"] == "failed"])
    baseline = reference or facts.original(model)
    gap = gaps, gap_errors
    table = _table(values, gap, kinds, reference, baseline, failures, unlearnings(each))
    unresolved = measured[measured["status"] == "unresolved"]
    return Section(
        dataset,
        model,
        scenario,
        seeds=tuple(sorted(set(records["seed"]))),
        table=table,
        values=values,
        each=each,
        errors=errors,
        gap_errors=gap_errors,
        by_class=by_class,
        not_applicable=frozenset(measured[measured["status"] == "not_applicable"]["column"]),
        reference=reference,
        compared=compared,
        tied=_tied(
            _same_budget(_measured(table), facts.rows.get(f"{dataset} · {model} · {scenario}", {})),
            values,
        ),
        spread=_spread(values, reference, compared),
        # The positive control of the loss attack.
        power=table.gap(facts.original(model), MIA_AUC),
        failures=failures,
        unresolved={
            (method, column): reason or "too few examples"
            for method, column, reason in zip(
                unresolved["method"], unresolved["column"], unresolved["error"], strict=True
            )
        },
        facts=facts,
    )


def _by_class(measured: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the means over seeds of a metric that has one number per class."""
    own = measured[(measured["metric"] == metric) & (measured["split"] != "")]
    return own.pivot_table(index="method", columns="split", values="value", sort=False)


def _failures(failed: pd.DataFrame) -> tuple[Failure, ...]:
    return tuple(
        Failure(str(method), int(seed), str(error) or "no reason recorded", int(draw))
        for method, seed, error, draw in zip(
            failed["method"], failed["seed"], failed["error"], failed["draw"], strict=True
        )
    )


def _table(
    values: pd.DataFrame,
    gaps: tuple[pd.DataFrame, pd.DataFrame],
    kinds: Mapping[str, str],
    reference: str | None,
    baseline: str,
    failures: tuple[Failure, ...],
    unlearnings: Mapping[str, int],
) -> Table:
    rows = rows_of(values)
    cells = _cells(values, gaps, rows, reference)
    seeds = values.index.get_level_values("seed").to_numpy()
    failed_seeds: dict[str, set[int]] = {}
    for failure in failures:
        failed_seeds.setdefault(failure.method, set()).add(failure.seed)

    def row(method: str, kind: str) -> Row:
        finished = seeds[rows[method]].tolist() if method in rows else []
        failed = failed_seeds.get(method, set()).difference(finished)
        losses = [
            100 * (cells[baseline, column].value.mean - cells[method, column].value.mean)
            for column in ("retain_accuracy", "test_retain_accuracy")
            if (baseline, column) in cells and (method, column) in cells
        ]
        damage = max(losses, default=0.0)
        return Row(
            method,
            kind,
            tuple(sorted(finished)),
            tuple(sorted(failed)),
            damage if kind == "method" and damage >= DAMAGE_POINTS else None,
            unlearnings.get(method, 1),
        )

    def order(row: Row) -> tuple[int, bool, float, str]:
        distance = cells.get((row.method, DISTANCE))
        return (
            {"reference": 0, "control": 1}.get(row.kind, 2),
            not row.seeds,
            distance.value.mean if distance and row.kind == "method" else np.inf,
            row.method,
        )

    ordered = sorted((row(method, kind) for method, kind in kinds.items()), key=order)
    return Table(tuple(ordered), tuple(map(str, values.columns)), cells)


def _cells(
    values: pd.DataFrame,
    gaps: tuple[pd.DataFrame, pd.DataFrame],
    rows: Mapping[str, "NDArray[np.intp]"],
    reference: str | None,
) -> dict[tuple[str, str], Cell]:
    cells = {}
    numbers, names = values.to_numpy(), [str(column) for column in values.columns]
    with_gap = set(gaps[0].columns)
    # In the order of the values; distances have no gaps.
    away, error = (
        part.reindex(index=values.index, columns=values.columns).to_numpy() for part in gaps
    )
    for method, places in rows.items():
        of_method = (part[places].T.tolist() for part in (numbers, away, error))
        for column, own, apart, errors in zip(names, *of_method, strict=True):
            value = estimate(own)
            if value is None or (method == reference and column == DISTANCE):
                continue
            paired = method != reference and column in with_gap
            cells[method, column] = Cell(value, estimate_gap(apart, errors) if paired else None)
    return cells


def _tied(rows: tuple[Row, ...], values: pd.DataFrame) -> tuple[str, ...]:
    """Name the methods that the seeds do not tell apart from the nearest one.

    Below :data:`SEEDS_FOR_INFERENCE` a method is told apart if it is farther in every seed;
    from there on, if a paired t-test with Holm's adjustment says so at 5 %. Of a single seed
    only distances that print alike are ties.
    """
    ranked = [row.method for row in rows]
    if len(ranked) < 2:
        return ()
    leader, *others = ranked
    distances, places = values[DISTANCE].droplevel("method"), rows_of(values)
    nearest = distances.iloc[places[leader]]
    # Rounded to what is printed, so that noise of the last bit neither makes nor breaks a tie.
    lags = {other: (distances.iloc[places[other]] - nearest).dropna().round(1) for other in others}
    if len(nearest.dropna()) >= SEEDS_FOR_INFERENCE:
        p_values = holm([paired_p_value(lag) for lag in lags.values()])
        return tuple(other for other, p in zip(lags, p_values, strict=True) if p >= 0.05)
    return tuple(other for other, lag in lags.items() if lag.empty or (lag <= 0).any())


def _spread(values: pd.DataFrame, reference: str | None, compared: tuple[str, ...]) -> float | None:
    """Return the mean distance between two retrainings: what seeds alone would cost a method."""
    if reference is None or not compared:
        return None
    complete = seeds_of(values, reference)[list(compared)].dropna().to_numpy()
    n = len(complete)
    if n < 2:
        return None
    # The k-th smallest of n is subtracted in n - 1 - k pairs and subtracted from in k.
    weights = 2 * np.arange(n) - n + 1
    pairs = weights @ np.sort(complete, axis=0) / (n * (n - 1) / 2)
    return float(100 * pairs.mean())
