"""The report as one self-contained HTML page: no script, no network, light and dark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_bench.report.figures import Figure, inline
from unlearn_bench.report.findings import (
    Note,
    distance_definition,
    headline,
    notes,
    overview_headline,
    run_gaps,
    uninformative,
)
from unlearn_bench.report.provenance import Report
from unlearn_bench.report.table import (
    ACCURACIES,
    DAMAGE_POINTS,
    DISTANCE,
    MIA_AUC,
    TIME_RATIO,
    Row,
    Section,
)
from unlearn_bench.report.text import (
    BAND_READING,
    NONE,
    TextTable,
    band_table,
    cell_text,
    failure_texts,
    format_gap,
    format_value,
    heading,
    main_columns,
    overview_table,
    section_title,
    seeds_text,
    verdict_table,
)

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class _Cell:
    """One table cell: the number, its half-width, and a smaller second line."""

    value: str
    half_width: str = ""
    second: str = ""
    classes: str = ""


@dataclass(frozen=True)
class _Line:
    """One table row with its remarks."""

    name: str
    tags: tuple[tuple[str, str], ...]
    cells: tuple[_Cell, ...]
    seeds: str
    classes: str


@dataclass(frozen=True)
class _View:
    """All that the template needs of one section."""

    title: str
    finding: str
    definition: str
    headings: tuple[tuple[str, str], ...]
    groups: tuple[tuple[str, tuple[_Line, ...]], ...]
    has_gaps: bool
    notes: tuple[Note, ...]
    failures: tuple[str, ...]
    figures: tuple[tuple[str, Figure], ...]
    everything: TextTable
    verdicts: TextTable
    bands: TextTable
    band_reading: str


def render(report: Report, drawn: Mapping[int, Sequence[Figure]]) -> str:
    """Render the page; every text is escaped, the figures are inlined."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("unlearn_bench.report", "templates"),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"breakable": _breakable, "typeset": _typeset}
    finding = overview_headline(report.sections)
    several = len(report.sections) > 1
    return environment.get_template("report.html").render(
        finding=finding,
        overview=overview_table(report.sections, finding) if several else None,
        sections=[_view(s, drawn.get(i, ())) for i, s in enumerate(report.sections)],
        origin=report.provenance,
        gaps=run_gaps(report.provenance),
    )


def _breakable(name: str) -> "Markup":
    """Let a long name break after an underscore, where a reader expects it."""
    from markupsafe import Markup

    return Markup("_<wbr>").join(name.split("_"))


def _typeset(text: str) -> str:
    """Keep a number with its unit and its interval on one line."""
    return text.replace(" %", "\u00a0%").replace(" ± ", "\u00a0±\u00a0")


def _view(section: Section, figures: Sequence[Figure]) -> _View:
    shown = main_columns(section)
    # Seconds stand in the second line of the time column where there is a ratio to retraining.
    columns = [c for c in shown if c != "wall_seconds" or TIME_RATIO not in shown]
    lines = {
        kind: tuple(_line(section, row, columns) for row in section.table.of_kind(kind))
        for kind in ("reference", "control", "method")
    }
    titles = {"reference": "Reference", "control": "Control", "method": "Methods"}
    return _View(
        title=section_title(section),
        finding=headline(section),
        definition=distance_definition(section) if section.compared else "",
        headings=tuple(_heading(column) for column in columns),
        groups=tuple((titles[kind], lines[kind]) for kind in lines if lines[kind]),
        has_gaps=section.reference is not None,
        notes=notes(section),
        failures=failure_texts(section),
        figures=tuple((inline(figure.svg), figure) for figure in figures),
        everything=_everything(section),
        verdicts=verdict_table(section),
        bands=band_table(section),
        band_reading=BAND_READING,
    )


def _heading(column: str) -> tuple[str, str]:
    """Split a heading into name and unit."""
    name, _, unit = heading(column).partition(", ")
    return name, unit


def _line(section: Section, row: Row, columns: Sequence[str]) -> _Line:
    leaders = [ranked.method for ranked in section.ranking[:1]]
    tags = []
    classes = [row.kind]
    if row.method in leaders and len(section.ranking) > 1:
        tags.append(("nearest", "good"))
        classes.append("leader")
    if row.method in section.tied:
        tags.append(("not told apart", "even"))
        classes.append("tied")
    if row.damage is not None:
        tags.append((f"retain −{row.damage:.0f} points", "bad"))
        classes.append("damaged")
    if row.failed:
        total = len(row.seeds) + len(row.failed)
        tags.append((f"failed in {len(row.failed)} of {total} seeds", "bad"))
    cells = tuple(_cell(section, row, column) for column in columns)
    return _Line(row.method, tuple(tags), cells, seeds_text(row), " ".join(classes))


def _cell(section: Section, row: Row, column: str) -> _Cell:
    value = section.table.value(row.method, column)
    if value is None:
        return _Cell(cell_text(section, row, column), classes="none")
    mean, _, half_width = format_value(column, value).partition(" ± ")
    gap = section.table.gap(row.method, column)
    second, classes = "", ""
    if column == TIME_RATIO:
        seconds = section.table.value(row.method, "wall_seconds")
        second = format_value("wall_seconds", seconds) if seconds else ""
    elif gap is not None and column in (*ACCURACIES, MIA_AUC):
        second = format_gap(column, gap)
    if column == MIA_AUC and uninformative(section):
        classes = "weak"
    if row.damage is not None and column in ("retain_accuracy", "test_retain_accuracy"):
        small = gap is not None and 100 * gap.mean > -DAMAGE_POINTS
        classes = "" if small else "hurt"
    if column == DISTANCE:
        classes = "distance"
    if value.n != len(row.seeds):
        second = f"{second} n = {value.n}".strip()
    return _Cell(mean, half_width, second, classes)


def _everything(section: Section) -> TextTable:
    """Turn the whole table around: one line per metric, one column per method."""
    rows = section.table.rows
    lines = tuple(
        (heading(column), *(cell_text(section, row, column) if row.seeds else NONE for row in rows))
        for column in section.table.columns
    )
    return TextTable("Everything measured", "", ("", *(row.method for row in rows)), lines)
