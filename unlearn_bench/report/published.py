"""A paper's figures beside ours, with the difference in definition; they enter nothing else."""

from unlearn_bench.analysis.estimate import Estimate
from unlearn_bench.analysis.table import Section
from unlearn_bench.report.text import NONE, TextTable, plus_minus
from unlearn_bench.suite.published import Published, PublishedMetric

TITLE = "Published figures"
COLUMNS = ("Method", "Metric", "Published", "Ours", "Ours − published")
_ONLY_SHOWN = "Published figures are only shown here: they enter no record, verdict or ranking."


def published_table(section: Section) -> TextTable:
    """Return what a paper reports for a section beside what was measured; perhaps empty."""
    published = section.facts.published
    place = (section.dataset, section.model, section.scenario)
    values = published.of(*place) if published else {}
    if published is None or not values:
        return TextTable(TITLE, "", (), ())
    ours = {row.method: i for i, row in enumerate(section.table.rows)}
    methods = sorted(values, key=lambda method: ours.get(method, len(ours)))
    rows = tuple(
        _row(section, method, name, published.metrics[name], value)
        for method in methods
        for name, value in values[method].items()
    )
    return TextTable(TITLE, "", COLUMNS, rows, words=True, notes=_notes(section, published))


def _row(
    section: Section, method: str, name: str, metric: PublishedMetric, value: float
) -> tuple[str, ...]:
    ours = _in_percent(section, method, metric)
    theirs = f"{plus_minus(Estimate(value, None, 1), 2)} %"
    if ours is None:
        return method, name, theirs, NONE, NONE
    away = Estimate(ours.mean - value, ours.half_width, ours.n)
    return method, name, theirs, f"{plus_minus(ours, 2)} %", plus_minus(away, 2, sign=True)


def _in_percent(section: Section, method: str, metric: PublishedMetric) -> Estimate | None:
    found = section.table.value(method, metric.ours)
    # Only a share can stand beside a figure in percent.
    if found is None or section.facts.of(metric.ours).unit != "percent":
        return None
    ours = found.scaled(100)
    return Estimate(100 - ours.mean, ours.half_width, ours.n) if metric.complement else ours


def _notes(section: Section, published: Published) -> tuple[str, ...]:
    notes = [f"Source: {published.source}."]
    for name, metric in published.metrics.items():
        label = section.facts.label(metric.ours)
        ours = f"100 % − {label[:1].lower()}{label[1:]}" if metric.complement else label
        said = f"{name}: {metric.definition}; ours is {ours}"
        notes.append(f"{said}. {metric.difference}" if metric.difference else f"{said}.")
    notes += [published.setup] if published.setup else []
    return (*notes, _ONLY_SHOWN)
