"""One verdict per method: can it be told apart from retraining, and how near is it at least?

Which metrics are primary, and the difference that never matters, is declared with the metrics in
``results/metrics.py``. Two questions are answered apart:

- *Can it be told apart from retraining?* A permutation test within seeds (``exchange.py``) among
  the unlearned model, the reference and every other retraining of the seed. At 5 % it gives
  DISTINGUISHABLE, by the metrics that tell it, or by all of them together where none does alone.
- *How near is it at least?* The number of spreads of retraining that it may be away, and the AUC
  with which one model could be told (``nearness.py``). INDISTINGUISHABLE is who cannot be told
  apart and is within the limits declared there; anything else is UNDECIDED, with the numbers.

With fewer seeds than the test can reject with, metrics are flagged that lie outside the retrain
band in every seed, on the same side, and the verdict is ``descriptive only``. However many the
seeds, not being told apart is evidence only where an inward metric tells the original apart, and
where no fake passes as well.

``benchmarks/verdict_rule.py`` simulates how often the rule errs; reports/verdict has its table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from unlearn_bench.analysis.apart import each
from unlearn_bench.analysis.exchange import LEVEL, exchange, seeds_needed, smallest_p_value
from unlearn_bench.analysis.nearness import (
    AUC_LIMIT,
    NEARNESS_LIMIT,
    joint_auc,
    nearness,
)
from unlearn_bench.analysis.statistics import SEEDS_FOR_INFERENCE, band, outside_in_every_seed
from unlearn_bench.analysis.table import Section
from unlearn_bench.core.text import csv_text
from unlearn_bench.suite.spec import OTHER_RETRAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

INDISTINGUISHABLE, DISTINGUISHABLE, UNDECIDED = "INDISTINGUISHABLE", "DISTINGUISHABLE", "UNDECIDED"
DESCRIPTIVE, NONE = "descriptive only", "no verdict"

NO_POWER = "power: no metric that looks into the model detects even the original"
NEEDED = "three seeds with two retrainings each, or six with one"
# From here on another retraining has a fair chance to pass: reports/verdict.
SEEDS_TO_PASS = 16


@dataclass(frozen=True)
class Verdict:
    """What can be said of one method.

    Attributes:
        method: Its label.
        kind: ``method`` or ``control``.
        verdict: One of the words above.
        apart: Primary metrics by which it is told apart from retraining.
        missing: What an UNDECIDED or absent verdict lacks.
        seeds: Seeds with both U and G in every primary metric that was measured.
        p_value: Of the permutation test; None where it cannot reject.
        nearness: Spreads of retraining that it may be away, in its worst metric; None likewise.
        worst: That metric.
        nearness_auc: Upper bound of the AUC with which one model can be told; None likewise.
    """

    method: str
    kind: str
    verdict: str
    apart: tuple[str, ...]
    missing: tuple[str, ...]
    seeds: int
    p_value: float | None = None
    nearness: float | None = None
    worst: str = ""
    nearness_auc: float | None = None

    @property
    def told_apart(self) -> bool:
        """Whether it can be told apart from retraining, by some metric or by all together."""
        return self.verdict == DISTINGUISHABLE or bool(self.apart)


@lru_cache(maxsize=64)
def primary(section: Section) -> dict[str, float]:
    """Return the columns that decide the verdict, measured or not, with their floors."""
    return section.facts.judged(_columns(section), "primary")


@lru_cache(maxsize=64)
def _secondary(section: Section) -> dict[str, float]:
    """Return the columns that are judged for being fooled as well, without a say."""
    return section.facts.judged(_columns(section), "secondary", "legacy")


def _believed(section: Section) -> dict[str, float]:
    """Return what is evidence: the legacy attacks are judged, and never believed."""
    secondary = section.facts.judged(_columns(section), "secondary")
    return primary(section) | secondary


def _columns(section: Section) -> tuple[str, ...]:
    return (*section.table.columns, *section.not_applicable)


def differences(section: Section, method: str, column: str) -> list[float]:
    """Return U - G per seed, ascending; seeds that lack either are left out."""
    if section.reference is None or column not in section.places:
        return []
    u, g, place = section.runs(method), section.runs(section.reference), section.places[column]
    _, of_u, of_g = np.intersect1d(u.seeds, g.seeds, assume_unique=True, return_indices=True)
    found = u.values[of_u, place] - g.values[of_g, place]
    away: list[float] = found[~np.isnan(found)].tolist()
    return away


def retrain_band(section: Section, method: str, column: str, floor: float) -> float | None:
    """Return the largest difference between two retrainings; the row itself is left out.

    None where fewer than two were measured.
    """
    rows = [section.reference, *(row for row in retrainings(section) if row != method)]
    if section.reference is None or column not in section.places:
        return None
    place = section.places[column]
    numbers = np.concatenate([section.runs(row).values[:, place] for row in rows])
    retrained: list[float] = numbers[~np.isnan(numbers)].tolist()
    return band(retrained, floor) if len(retrained) > 1 else None


@dataclass(frozen=True, eq=False)
class _Arms:
    """The models of each seed that has all of them: one unlearned, then the retrained ones.

    Attributes:
        columns: What is compared, with floors.
        values: [seeds, models, columns]; NaN where something was not measured.
    """

    columns: Mapping[str, float]
    values: "NDArray[np.float64]"

    @property
    def floors(self) -> "NDArray[np.float64]":
        """[columns], the difference of each that never matters."""
        return np.array(list(self.columns.values()), dtype=float)

    @property
    def can_reject(self) -> bool:
        """Whether there are seeds enough for the test."""
        seeds, models, _ = self.values.shape
        return seeds > 0 and smallest_p_value(seeds, models) <= LEVEL


def _arms(section: Section, method: str, columns: Mapping[str, float]) -> _Arms:
    """Gather a method's models, without further retrainings where these leave too few seeds."""
    places = [section.places[column] for column in columns]
    others = [
        row
        for row in retrainings(section)
        if row not in (method, section.reference)
        and not np.isnan(section.runs(row).values[:, places]).all(0).any()
    ]
    rows = [method, str(section.reference), *others]
    found = _together(section, rows, columns)
    return found if found.can_reject else _together(section, rows[:2], columns)


def _together(section: Section, rows: list[str], columns: Mapping[str, float]) -> _Arms:
    places = [section.places[column] for column in columns]
    runs = [section.runs(row) for row in rows]
    common = runs[0].seeds
    for other in runs[1:]:
        common = np.intersect1d(common, other.seeds)
    values = np.stack([r.values[np.isin(r.seeds, common)][:, places] for r in runs], 1)
    return _Arms(columns, values)


@lru_cache(maxsize=64)
def retrainings(section: Section) -> tuple[str, ...]:
    """Name the rows that are retrained models as right as the reference itself."""
    return tuple(
        row.method
        for row in section.table.rows
        if row.seeds and (row.method == OTHER_RETRAIN or row.method.startswith(f"{OTHER_RETRAIN}-"))
    )


def is_apart(section: Section, method: str, column: str, floor: float) -> bool:
    """Whether one metric on its own tells a row from retraining."""
    by_test = _apart_by_test(section, method)
    if by_test is not None:
        return column in by_test
    width = retrain_band(section, method, column, floor)
    return width is not None and outside_in_every_seed(differences(section, method, column), width)


@lru_cache(maxsize=4096)
def _apart_by_test(section: Section, method: str) -> frozenset[str] | None:
    """Name the metrics that tell a row apart on their own; None where none can yet."""
    if section.reference is None:
        return None
    judged = primary(section) | _secondary(section)
    arms = _arms(section, method, {c: f for c, f in judged.items() if c in section.places})
    if not arms.can_reject:
        return None
    alone = exchange(arms.values, arms.floors).alone
    return frozenset(c for c, p in zip(arms.columns, alone, strict=True) if p <= LEVEL)


@lru_cache(maxsize=64)
def powerless(section: Section) -> tuple[str, ...]:
    """Name the metrics that do not even tell the original from retraining here, as they should."""
    return tuple(
        column
        for column, floor in _believed(section).items()
        # The original has what a method must keep as well: blindness to it is no lack.
        if not section.facts.of(column).utility
        and differences(section, section.original, column)
        and not is_apart(section, section.original, column, floor)
    )


@lru_cache(maxsize=64)
def fooled(section: Section) -> dict[str, tuple[str, ...]]:
    """Name the metrics that tell the original from retraining but not a fake, and the fakes."""
    found = {}
    for column, floor in (primary(section) | _secondary(section)).items():
        if not is_apart(section, section.original, column, floor):
            continue
        fakes = tuple(
            fake
            for fake in section.fakes
            if differences(section, fake, column) and not is_apart(section, fake, column, floor)
        )
        if fakes:
            found[column] = fakes
    return found


def passing_fakes(section: Section) -> tuple[str, ...]:
    """Name the fakes that no primary metric tells from retraining: the rule is blind here."""
    return tuple(
        v.method
        for v in verdicts(section)
        if v.method in section.fakes and v.verdict != NONE and not v.told_apart
    )


def exposing(section: Section, fake: str) -> tuple[str, ...]:
    """Name the metrics that tell a fake from retraining."""
    return tuple(
        column
        for column, floor in _believed(section).items()
        if is_apart(section, fake, column, floor)
    )


@lru_cache(maxsize=64)
def verdicts(section: Section) -> tuple[Verdict, ...]:
    """Return the verdict on every method and control, in the table's order."""
    return tuple(
        _verdict(section, row.method, row.kind)
        for row in section.table.rows
        if row.kind != "reference" and row.seeds
    )


def _verdict(section: Section, method: str, kind: str) -> Verdict:
    applicable = {
        c: floor for c, floor in primary(section).items() if c not in section.not_applicable
    }
    measured = {c: floor for c, floor in applicable.items() if differences(section, method, c)}
    n = min((len(differences(section, method, column)) for column in measured), default=0)
    if n == 0:
        return Verdict(method, kind, NONE, (), ("a finished retraining",), 0)
    if n == 1:
        return Verdict(method, kind, NONE, (), ("a second seed",), 1)
    arms = _arms(section, method, measured)
    powerful = _has_power(section, measured)
    if not arms.can_reject:
        apart = tuple(c for c, floor in measured.items() if is_apart(section, method, c, floor))
        lacks = [_lacks(n, arms.values.shape[1])]
        lacks += [] if apart or powerful else [NO_POWER]
        return Verdict(method, kind, DESCRIPTIVE, apart, tuple(lacks), n)
    test = exchange(arms.values, arms.floors)
    spreads = nearness(arms.values, arms.floors)
    worst, farthest = list(measured)[int(spreads.argmax())], float(spreads.max())
    auc = joint_auc(arms.values, arms.floors)

    def judged(word: str, apart: tuple[str, ...], missing: list[str]) -> Verdict:
        numbers = (test.p_value, farthest, worst, auc)
        return Verdict(method, kind, word, apart, tuple(missing), n, *numbers)

    if test.p_value <= LEVEL:
        apart = tuple(c for c, p in zip(measured, test.adjusted, strict=True) if p <= LEVEL)
        return judged(DISTINGUISHABLE, apart, [])
    missing = [f"{column} was not measured" for column in applicable if column not in measured]
    if farthest > NEARNESS_LIMIT:
        name = section.facts.label(worst)
        missing.append(f"{name} may be {farthest:.1f} spreads away, over {NEARNESS_LIMIT:g}")
    if auc > AUC_LIMIT:
        missing.append(f"all metrics together may tell it with AUC {auc:.2f}, over {AUC_LIMIT:g}")
    if not powerful:
        missing.append(NO_POWER)
    return judged(UNDECIDED if missing else INDISTINGUISHABLE, (), missing)


def _lacks(seeds: int, models: int) -> str:
    more = seeds_needed(models) - seeds
    return (
        f"{more} more seed{'s' if more > 1 else ''}" if more > 0 else "seeds with all retrainings"
    )


def _has_power(section: Section, measured: Mapping[str, float]) -> bool:
    """Whether a metric that sees more than where the largest logit is tells the original apart.

    One that was not measured for the method, or that nothing shows to work, is no evidence.
    """
    return any(
        section.facts.of(column).inward and is_apart(section, section.original, column, floor)
        for column, floor in measured.items()
    )


def detects_original(section: Section) -> bool:
    """Whether the mean of a primary metric that looks inside is off for the original: one seed's.

    With one seed there is no band: a difference counts that is larger than what never matters.
    """
    return any(
        (gap := section.table.gap(section.original, column)) is not None and abs(gap.mean) > floor
        for column, floor in primary(section).items()
        if section.facts.of(column).inward
    )


def distinguished(section: Section) -> frozenset[str]:
    """Name the methods that the verdict sets apart from the others: those set in bold.

    From eight seeds on: INDISTINGUISHABLE ones. With fewer, which hardly anything could pass:
    those that are not told apart from retraining. Nobody where there is no verdict at all, or where
    every method is told apart: the smallest number of a table is then no reason to recommend its
    method. Who damaged the model is not among them either: too few seeds may hide even that. And
    nobody where no metric that looks into the model has power, or where a fake would be among them.
    """
    damaged = {row.method for row in section.table.rows if row.damage is not None}
    earned = [v for v in verdicts(section) if v.verdict == INDISTINGUISHABLE or _may_pass(v)]
    if any(v.method in section.fakes for v in earned):
        return frozenset()
    return frozenset(v.method for v in earned if v.kind == "method") - damaged


def _may_pass(verdict: Verdict) -> bool:
    few = verdict.verdict in (DESCRIPTIVE, UNDECIDED) and verdict.seeds < SEEDS_FOR_INFERENCE
    return few and not verdict.told_apart and NO_POWER not in verdict.missing


def as_csv(sections: tuple[Section, ...]) -> str:
    """Return all verdicts as a CSV table, one line per method and section."""
    head = [
        "dataset",
        "model",
        "scenario",
        "method",
        "kind",
        "verdict",
        "apart",
        "missing",
        "seeds",
        "p_value",
        "nearness",
        "nearness_auc",
    ]
    rows = (
        [
            section.dataset,
            section.model,
            section.scenario,
            v.method,
            v.kind,
            v.verdict,
            "; ".join(v.apart),
            "; ".join(v.missing),
            v.seeds,
            _figure(v.p_value),
            _figure(v.nearness),
            _figure(v.nearness_auc),
        ]
        for section in each(sections)
        for v in verdicts(section)
    )
    return csv_text([head, *rows])


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
