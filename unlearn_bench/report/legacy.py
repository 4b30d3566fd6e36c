"""The appendix of legacy metrics: what papers report, and why it misleads."""

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.text import TextTable, cell_text

WARNING = (
    "Papers report these attacks, so they are here, in an appendix, and enter no verdict. They are "
    "fitted on retained examples, so they ask whether an example is of the forgotten class, not "
    "whether it was trained on. Neither a low nor a high value is good: only retraining’s value is "
    "a target, and a model that hides a class behind its output, with the weights untouched, can "
    "come nearer to any target than honest unlearning."
)
_ROWS_FIRST = ("reference", "control", "method")


def legacy_table(section: Section) -> TextTable:
    """Return the legacy attacks of every row, retraining and the fakes on top; perhaps empty."""
    columns = [c for c in section.table.columns if section.facts.of(c).role == "legacy"]
    rows = [
        (
            f"{row.method} (fake)" if row.method in section.fakes else row.method,
            *(cell_text(section, row, column) for column in columns),
        )
        for kind in _ROWS_FIRST
        for row in section.table.of_kind(kind)
        if row.seeds
    ]
    names = tuple(section.facts.label(column).removeprefix("Legacy ") for column in columns)
    return TextTable(
        "Appendix: legacy metrics", "", ("Method", *names), tuple(rows) if columns else ()
    )
