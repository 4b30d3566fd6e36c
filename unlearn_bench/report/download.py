"""The table of all methods as numbers for another program: what the page prints, in its units."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unlearn_bench.analysis.apart import each
from unlearn_bench.analysis.estimate import Estimate
from unlearn_bench.analysis.table import Row, Section
from unlearn_bench.analysis.verdict import verdicts
from unlearn_bench.core.text import csv_text
from unlearn_bench.plugins.metric import MetricInfo
from unlearn_bench.report.glance import verdict_text
from unlearn_bench.report.provenance import Report
from unlearn_bench.report.text import in_unit
from unlearn_bench.results.facts import Facts


def methods_csv(report: Report, columns: Sequence[str]) -> str:
    """Return one line per method and setting as CSV; what was not measured is left empty.

    Args:
        report: The sections, and what is known of their methods.
        columns: Quantities in the order of the page; each gives its mean, half-width, n and,
            where it is compared, the paired gap to retraining with its half-width.
    """
    facts = ("Method", "Kind", "Access", "Family", "Model", "Dataset", "Scenario", "Verdict")
    numbers = [name for column in columns for name, _ in _parts(report.facts, column, None, None)]
    rows: list[list[object]] = [[*facts, *numbers, "Seeds", "Failed seeds"]]
    for section in each(report.sections):
        judged = {verdict.method: verdict_text(section, verdict) for verdict in verdicts(section)}
        for row in section.table.rows:
            known = report.methods.get(row.method, {})
            rows.append(
                [
                    row.method,
                    row.kind,
                    known.get("access") or "",
                    known.get("family") or "",
                    section.model,
                    section.dataset,
                    section.scenario,
                    judged.get(row.method, ""),
                    *_numbers(section, row, columns),
                    len(row.seeds),
                    len(row.failed),
                ]
            )
    return csv_text(rows)


@dataclass(frozen=True)
class _Written:
    """A number as it is to be written: a minus before it makes no formula of it."""

    text: str

    def __str__(self) -> str:
        return self.text


def _numbers(section: Section, row: Row, columns: Sequence[str]) -> Iterator[_Written]:
    for column in columns:
        value = section.table.value(row.method, column)
        gap = section.table.gap(row.method, column)
        yield from (_Written(number) for _, number in _parts(section.facts, column, value, gap))


def _parts(
    facts: Facts, column: str, value: Estimate | None, gap: Estimate | None
) -> Iterator[tuple[str, str]]:
    """Yield the name and the number of every cell that one quantity fills."""
    info, name = facts.of(column), facts.label(column).partition(",")[0]
    mean, half_width = _numbers_of(info, value)
    yield facts.heading(column) + (", s" if info.unit == "seconds" else ""), mean
    yield f"{name}, half-width", half_width
    if info.direction == "retrain":  # a distance or a ratio is a gap itself
        mean, half_width = _numbers_of(info, gap)
        yield f"{name}, gap", mean
        yield f"{name}, gap half-width", half_width
    yield f"{name}, n", str(value.n) if value else ""


def _numbers_of(info: MetricInfo, found: Estimate | None) -> tuple[str, str]:
    """Write mean and half-width in the metric's unit."""
    if found is None:
        return "", ""
    found = in_unit(info, found)
    half_width = "" if found.half_width is None else f"{found.half_width:.6g}"
    return f"{found.mean:.6g}", half_width
