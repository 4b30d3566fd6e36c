"""The section "Training or unlearning": where the variance of methods' figures comes from."""

import math
from collections.abc import Mapping

from unlearn_bench.analysis.estimate import Estimate
from unlearn_bench.analysis.table import Section
from unlearn_bench.analysis.variance import Components, split
from unlearn_bench.core.quantities import in_order
from unlearn_bench.report.text import NONE, TextTable, format_value, measured_primary
from unlearn_bench.results.facts import Facts
from unlearn_bench.results.metrics import DISTANCE

TITLE = "Training or unlearning"
_READING = (
    "Standard deviation that training gives, then that of unlearning from the same original, and "
    "the share of unlearning in the variance of a single run. One-way analysis of variance with "
    "random effects; a deviation of 0 from training says that originals differ no more than "
    "unlearnings from one original do."
)


def variance_table(section: Section) -> TextTable:
    """Return the variance of the primary metrics by stage, one line per method.

    Without rows where methods unlearned but once from each original, or from a single one.
    """
    columns = [DISTANCE] if DISTANCE in section.table.columns else []
    columns += measured_primary(section)
    found = split(section, columns)
    methods = [row.method for row in section.table.rows if any(m == row.method for m, _ in found)]
    if not methods:
        return TextTable(TITLE, "", (), ())
    facts = section.facts
    rows = tuple(
        (method, *(_cell(facts, column, found.get((method, column))) for column in columns))
        for method in methods
    )
    return TextTable(
        TITLE, "", ("Method", *map(facts.heading, columns)), rows, notes=(_READING, _units(section))
    )


def variance_note(section: Section) -> tuple[str, ...]:
    """Say in one line how much of the distance's variance unlearning gives, for a terminal."""
    shares = {
        method: parts.unlearning_share
        for (method, _), parts in _of_distance(section).items()
        if parts.unlearning_share is not None
    }
    if not shares:
        return ()
    named = [f"{method} {100 * share:.0f} %" for method, share in shares.items()]
    return (f"Share of unlearning in the variance of distances: {in_order(named)}",)


def _of_distance(section: Section) -> Mapping[tuple[str, str], Components]:
    return split(section, [DISTANCE]) if DISTANCE in section.table.columns else {}


def _units(section: Section) -> str:
    seeds, times = len(section.seeds), section.unlearnings
    return (
        f"{seeds} originals, {times} unlearnings from each. Means and intervals in this report are "
        f"over originals, each the mean of its unlearnings; verdicts rest on the first unlearning "
        f"from each original, as a mean of {times} would vary less than the one retrained model "
        "that it is compared with."
    )


def _cell(facts: Facts, column: str, parts: Components | None) -> str:
    if parts is None:
        return NONE
    info = facts.of(column)
    training, unlearning = (
        format_value(info, Estimate(math.sqrt(part), None, 1))
        for part in (parts.training, parts.unlearning)
    )
    share = parts.unlearning_share
    return f"{training}; {unlearning}" + ("" if share is None else f" ({100 * share:.0f} %)")
