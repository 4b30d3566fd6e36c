"""Rows of methods that start from an ensemble of their own: a table each, with the reason."""

from collections.abc import Sequence

from unlearn_bench.analysis.table import Section
from unlearn_bench.analysis.verdict import verdicts
from unlearn_bench.report.glance import verdict_text
from unlearn_bench.report.text import TextTable, failure_texts, intervals, text_table

TITLE = "Compared with its own retraining"


def why(own: Section) -> str:
    """Say in one line why the rows of an ensemble are not compared like others.

    Args:
        own: A section below another.
    """
    method = own.facts.ensembles[own.model].method
    return (
        f"{method} starts from an original of its own, {own.model}, so its row is compared with "
        "retraining of that ensemble and is not ranked with the other methods."
    )


def ensemble_table(own: Section, columns: Sequence[str]) -> TextTable:
    """Return the rows of an ensemble: its retraining, itself as it was, and the method.

    Args:
        own: A section below another.
        columns: Of the first table.
    """
    method = own.facts.ensembles[own.model].method
    judged = [verdict_text(own, v) for v in verdicts(own) if v.kind == "method"]
    table = text_table(own, "", columns)
    return TextTable(
        f"{TITLE}: {method}",
        "",
        table.columns,
        table.rows,
        notes=(
            why(own),
            *([f"Verdict against that retraining: {'; '.join(judged)}."] if judged else []),
            *([intervals([own])] if own.values.size else []),
            *failure_texts(own),
        ),
    )
