"""Cells of a page's tables: the number, what stands behind it, and the key to sort by."""

import math
from dataclasses import dataclass

from unlearn_bench.analysis.table import DAMAGE_POINTS, Row, Section
from unlearn_bench.analysis.verdict import Verdict, verdicts
from unlearn_bench.report.findings import uninformative
from unlearn_bench.report.glance import verdict_text
from unlearn_bench.report.text import NONE, cell_text, format_gap, format_value
from unlearn_bench.results.metrics import DISTANCE, MIA_AUC, TIME_RATIO


@dataclass(frozen=True)
class Cell:
    """One table cell: the number, its half-width, a smaller second line, the key to sort by."""

    value: str
    half_width: str = ""
    second: str = ""
    classes: str = ""
    key: float | str | None = None


def verdict_of(section: Section, row: Row) -> Verdict | None:
    """Return the verdict on a row, if there is one on it."""
    return next((v for v in verdicts(section) if v.method == row.method), None)


def verdict_cell(section: Section, row: Row) -> Cell:
    """Return the verdict on a row in a few words."""
    found = verdict_of(section, row)
    if found is None:
        return Cell(NONE, classes="words none")
    text = verdict_text(section, found)
    tone = "words bad" if found.told_apart and row.kind == "method" else "words"
    # All metrics together may tell a method apart where none does alone.
    by = len(found.apart) or int(found.told_apart)
    return Cell(text, classes=tone, key=f"{by} {text}")


def cell(section: Section, row: Row, column: str) -> Cell:
    """Return one quantity of a row; the second line is the gap, or wall time under its ratio."""
    value = section.table.value(row.method, column)
    if value is None:
        is_target = row.method == section.reference and column == DISTANCE
        text = cell_text(section, row, column)
        return Cell(text, classes="none", key=0.0 if is_target else None)
    info = section.facts.of(column)
    mean, _, half_width = format_value(info, value).partition(" ± ")
    gap = section.table.gap(row.method, column)
    second, classes = "", ""
    if column == TIME_RATIO:
        seconds = section.table.value(row.method, "wall_seconds")
        second = format_value(section.facts.of("wall_seconds"), seconds) if seconds else ""
    elif gap is not None and info.direction == "retrain":
        second = format_gap(info, gap)
    if column == MIA_AUC and uninformative(section):
        classes = "weak"
    if row.damage is not None and column in ("retain_accuracy", "test_retain_accuracy"):
        small = gap is not None and 100 * gap.mean > -DAMAGE_POINTS
        classes = "" if small else "hurt"
    if column == DISTANCE:
        classes = "distance"
    if value.n != len(row.seeds):
        second = f"{second} n = {value.n}".strip()
    key = value.mean if math.isfinite(value.mean) else None
    return Cell(mean, half_width, second, classes, key)
