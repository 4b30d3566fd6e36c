"""One verdict per method: can it be told from retraining, by which metric, or what is missing?

Which metrics are primary, and the difference that never matters, is declared with the metrics in
``results/metrics.py``; they were chosen before any result was seen. With eight seeds or more each
is held against D = max(floor, 2 s_G) with the spread s_G of retrainings of different seeds: all
equivalent (TOST, 90 % interval inside +-D) gives INDISTINGUISHABLE, one beyond D
(Holm-adjusted) DISTINGUISHABLE, anything else UNDECIDED. With fewer seeds the spread is too
uncertain: metrics are flagged that lie outside the retrain band in every seed, on the same side,
and the verdict is ``descriptive only``. However many the seeds, not being told apart is evidence
only where an inward metric tells the original apart, and where no fake passes as well.

Simulated with seven independent normal metrics and 8 seeds, another retraining is told apart in
under 1 % of cases, and found INDISTINGUISHABLE in 40 %: the rest stays undecided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from unlearn_bench.analysis.statistics import (
    SEEDS_FOR_INFERENCE,
    Gap,
    band,
    distinguishing,
    gap,
    margin,
    outside_in_every_seed,
)
from unlearn_bench.analysis.table import ORIGINAL, Section
from unlearn_bench.core.text import csv_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

INDISTINGUISHABLE, DISTINGUISHABLE, UNDECIDED = "INDISTINGUISHABLE", "DISTINGUISHABLE", "UNDECIDED"
DESCRIPTIVE, NONE = "descriptive only", "no verdict"

NO_POWER = "power: no metric that looks into the model tells even the original apart"
OTHER_RETRAIN = "retrain_other_seed"


@dataclass(frozen=True)
class Verdict:
    """What can be said of one method.

    Attributes:
        method: Its label.
        kind: ``method`` or ``control``.
        verdict: One of the words above.
        apart: Primary metrics by which it is told from retraining.
        missing: What an UNDECIDED or absent verdict lacks.
        seeds: Seeds with both U and G in every primary metric that was measured.
    """

    method: str
    kind: str
    verdict: str
    apart: tuple[str, ...]
    missing: tuple[str, ...]
    seeds: int


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
    found: list[float] = _pairs(section, method, column)[0].tolist()
    return found


def _pairs(
    section: Section, method: str, column: str
) -> tuple["NDArray[np.float64]", "NDArray[np.float64]"]:
    """Return U - G of the seeds that have both, and the standard error of each over examples."""
    u, g, place = section.runs(method), section.runs(section.reference), section.places[column]
    _, of_u, of_g = np.intersect1d(u.seeds, g.seeds, assume_unique=True, return_indices=True)
    found = u.values[of_u, place] - g.values[of_g, place]
    both = ~np.isnan(found)
    errors = np.hypot(u.errors[of_u, place], g.errors[of_g, place])
    return found[both], errors[both]


def retrain_band(section: Section, method: str, column: str, floor: float) -> float | None:
    """Return the largest difference between two retrainings; the row itself is left out.

    None where fewer than two were measured.
    """
    rows = [section.reference, *([OTHER_RETRAIN] if method != OTHER_RETRAIN else [])]
    if section.reference is None or column not in section.places:
        return None
    place = section.places[column]
    numbers = np.concatenate([section.runs(row).values[:, place] for row in rows])
    retrained: list[float] = numbers[~np.isnan(numbers)].tolist()
    return band(retrained, floor) if len(retrained) > 1 else None


def estimated_gap(section: Section, method: str, column: str, floor: float) -> Gap | None:
    """Return U - G with its error and D, or None with fewer than two seeds."""
    if section.reference is None or column not in section.places:
        return None
    found, errors = _pairs(section, method, column)
    if len(found) < 2:
        return None
    retrained = section.runs(section.reference).values[:, section.places[column]]
    spread = margin(retrained[~np.isnan(retrained)].tolist(), floor)
    return gap(found.tolist(), errors.tolist(), spread)


def is_apart(section: Section, method: str, column: str, floor: float) -> bool:
    """Whether one metric on its own tells a row from retraining."""
    found = differences(section, method, column)
    if len(found) >= SEEDS_FOR_INFERENCE:
        estimated = estimated_gap(section, method, column, floor)
        return estimated is not None and estimated.p_value < 0.05
    width = retrain_band(section, method, column, floor)
    return width is not None and outside_in_every_seed(found, width)


@lru_cache(maxsize=64)
def powerless(section: Section) -> tuple[str, ...]:
    """Name the metrics that do not even tell the original from retraining here, as they should."""
    return tuple(
        column
        for column, floor in _believed(section).items()
        # The original has what a method must keep as well: blindness to it is no lack.
        if not section.facts.of(column).utility
        and differences(section, ORIGINAL, column)
        and not is_apart(section, ORIGINAL, column, floor)
    )


@lru_cache(maxsize=64)
def fooled(section: Section) -> dict[str, tuple[str, ...]]:
    """Name the metrics that tell the original from retraining but not a fake, and the fakes."""
    found = {}
    for column, floor in (primary(section) | _secondary(section)).items():
        if not is_apart(section, ORIGINAL, column, floor):
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
        if v.method in section.fakes and v.verdict != NONE and not v.apart
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
    powerful = _has_power(section, measured)
    if n < SEEDS_FOR_INFERENCE:
        apart = tuple(c for c, floor in measured.items() if is_apart(section, method, c, floor))
        more = SEEDS_FOR_INFERENCE - n
        lacks = [f"{more} more seed{'s' if more > 1 else ''}"]
        lacks += [] if apart or powerful else [NO_POWER]
        return Verdict(method, kind, DESCRIPTIVE, apart, tuple(lacks), n)
    gaps = {
        column: found
        for column, floor in measured.items()
        if (found := estimated_gap(section, method, column, floor)) is not None
    }
    apart = distinguishing(gaps)
    if apart:
        return Verdict(method, kind, DISTINGUISHABLE, apart, (), n)
    missing = [f"{column} was not measured" for column in applicable if column not in measured]
    missing += [
        f"{column} is not settled by {n} seeds" for column, g in gaps.items() if not g.equivalent
    ]
    if not powerful:
        missing.append(NO_POWER)
    return Verdict(method, kind, UNDECIDED if missing else INDISTINGUISHABLE, (), tuple(missing), n)


def _has_power(section: Section, measured: Mapping[str, float]) -> bool:
    """Whether a metric that sees more than where the largest logit is tells the original apart.

    One that was not measured for the method, or that nothing shows to work, is no evidence.
    """
    return any(
        section.facts.of(column).inward and is_apart(section, ORIGINAL, column, floor)
        for column, floor in measured.items()
    )


def distinguished(section: Section) -> frozenset[str]:
    """Name the methods that the verdict sets apart from the others: those set in bold.

    From eight seeds on: INDISTINGUISHABLE ones. With fewer: those that no primary metric tells
    from retraining in every seed. Nobody where there is no verdict at all, or where every method
    is told apart: the smallest number of a table is then no reason to recommend its method. Who
    damaged the model is not among them either: too few seeds may hide even that. And nobody where
    no metric that looks into the model has power, or where a fake would be among them.
    """
    damaged = {row.method for row in section.table.rows if row.damage is not None}
    earned = [
        v
        for v in verdicts(section)
        if v.verdict == INDISTINGUISHABLE
        or (v.verdict == DESCRIPTIVE and not v.apart and NO_POWER not in v.missing)
    ]
    if any(v.method in section.fakes for v in earned):
        return frozenset()
    return frozenset(v.method for v in earned if v.kind == "method") - damaged


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
        ]
        for section in sections
        for v in verdicts(section)
    )
    return csv_text([head, *rows])
