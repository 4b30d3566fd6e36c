"""What of a very large suite is drawn: as much as a reader can tell apart; tables have the rest."""

from dataclasses import replace

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures.canvas import Figure
from unlearn_bench.report.limits import MOST_METHODS


def nearest_only(section: Section) -> Section:
    """Return the section with its references and controls, and the nearest of its methods."""
    if len(section.table.rows) <= MOST_METHODS:
        return section
    others = [row for row in section.table.rows if row.kind != "method"][:MOST_METHODS]
    rows = (*others, *section.table.of_kind("method")[:MOST_METHODS])
    kept = {row.method for row in rows}
    return replace(
        section,
        table=replace(section.table, rows=rows),
        values=section.values[section.values.index.isin(kept, level="method")],
        each=section.each[section.each.index.isin(kept, level="method")],
        errors=section.errors[section.errors.index.isin(kept, level="method")],
        gap_errors=section.gap_errors[section.gap_errors.index.isin(kept, level="method")],
        by_class={name: own[own.index.isin(kept)] for name, own in section.by_class.items()},
        tied=tuple(method for method in section.tied if method in kept),
    )


def explained(figure: Figure, section: Section) -> Figure:
    """Say in a figure's caption whether it leaves methods out."""
    methods = len(section.table.of_kind("method"))
    if methods <= MOST_METHODS:
        return figure
    words = (
        f" The figure shows the {MOST_METHODS} nearest of {methods:,} methods; the tables list all."
    )
    return replace(figure, caption=figure.caption + words)
