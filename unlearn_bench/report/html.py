"""The report as one self-contained HTML page: no network, light and dark, whole without script.

The scripts in ``templates/`` add what a still page cannot have: sorting, filters, another method in
the comparison, a switch of the theme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any
from urllib.parse import quote

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.cells import Cell, cell, verdict_cell
from unlearn_bench.report.content import Content, SectionContent
from unlearn_bench.report.download import methods_csv
from unlearn_bench.report.figures import OVERALL, Figure, inline
from unlearn_bench.report.figures.ranking import why_absent
from unlearn_bench.report.legacy import WARNING
from unlearn_bench.report.pages import environment, scripted
from unlearn_bench.report.provenance import Report
from unlearn_bench.report.text import gap_reading, section_title, seeds_text
from unlearn_bench.results.facts import Facts
from unlearn_bench.results.metrics import TIME_RATIO

_KINDS = {"reference": "Reference", "control": "Control", "method": "Method"}
_UNKNOWN = "unknown"
# A figure stands beside one that is at most this many times as tall.
_MOST_TALLER = 1.5
_NO_CURVES = (
    "This folder has no curves.parquet, as it was made by an earlier version or cut short: the "
    "attack's ROC and training curves cannot be drawn. Running the suite's command again adds them."
)


@dataclass(frozen=True)
class _Line:
    """One table row with its remarks and what it can be filtered by."""

    anchor: str
    name: str
    detail: str
    tags: tuple[tuple[str, str], ...]
    cells: tuple[Cell, ...]
    classes: str
    facets: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Facet:
    """A filter: its name, and the values among the rows."""

    key: str
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class _Main:
    """The table of all rows of all sections."""

    headings: tuple[tuple[str, str], ...]
    lines: tuple[_Line, ...]
    facets: tuple[_Facet, ...]
    download: str
    reading: str


@dataclass(frozen=True)
class _View:
    """What the template needs of one section beside what is said: links and figures."""

    said: SectionContent
    anchor: str
    rows: Mapping[str, str]
    figures: tuple[Mapping[str, Any], ...]


def render(content: Content, drawn: Mapping[int, Sequence[Figure]], key: str = "") -> str:
    """Render the page; every text is escaped, the figures are inlined.

    Args:
        content: What is said.
        drawn: Figures by the place of their section, and over all sections.
        key: What the page was made from, see :mod:`unlearn_bench.report.freshness`.
    """
    templates = environment()
    report = content.report
    several = len(report.sections) > 1
    overall = drawn.get(OVERALL, ())
    views = [
        _view(of, i, [*drawn.get(i, ()), *(() if several else overall)])
        for i, of in enumerate(content.sections)
    ]
    # The banner about failed runs leads to the first list of them.
    failed = next((f"{view.anchor}-failures" for view in views if view.said.failures), "")
    measured = any(row.seeds for section in report.sections for row in section.table.rows)
    return templates.get_template("report.html").render(
        key=key,
        finding=content.finding,
        overview=content.overview,
        intervals=content.intervals,
        sections=views,
        tuning=content.tuning,
        failed=failed if report.provenance.failed else "",
        main=_main(content),
        overall=_figures(overall) if several else (),
        no_ranking=why_absent(report.sections) if measured else "",
        no_curves=_NO_CURVES if measured and report.curves is None else "",
        legacy_warning=WARNING,
        origin=report.provenance,
        gaps=content.gaps,
        **scripted(templates, "theme.js", "tables.js", "report.js"),
    )


def _view(of: SectionContent, number: int, figures: Sequence[Figure]) -> _View:
    rows = of.section.table.rows
    return _View(
        of,
        anchor=f"s{number + 1}",
        rows={row.method: _anchor(number, i) for i, row in enumerate(rows)},
        figures=_figures(figures),
    )


def _figures(figures: Sequence[Figure]) -> tuple[Mapping[str, Any], ...]:
    """Prepare figures for a grid of two columns; one without a neighbour has its words there."""
    places: list[str] = []
    paired = False
    for figure, following in zip_longest(figures, figures[1:]):
        if figure.wide or paired:
            paired = False
            places.append("wide" if figure.wide else "")
        else:
            paired = following is not None and _match(figure, following)
            places.append("" if paired else "beside")
    return tuple(
        {
            "svg": inline(figure.svg),
            "title": figure.title,
            "caption": figure.caption,
            "place": place,
            "name": figure.name,
            "data": _download(figure.data),
        }
        for figure, place in zip(figures, places, strict=True)
    )


def _match(figure: Figure, following: Figure) -> bool:
    """Whether two figures side by side leave no hole beneath the lower one."""
    low, high = sorted(
        float(f.svg.partition('height="')[2].partition("pt")[0]) for f in (figure, following)
    )
    return not following.wide and high < _MOST_TALLER * low


def _download(text: str) -> str:
    """Return a link that holds a CSV file."""
    return "data:text/csv;charset=utf-8," + quote(text, safe=" ,.;:+-_()/|=*'!?@$~")


def _anchor(section: int, row: int) -> str:
    return f"s{section + 1}-r{row + 1}"


def _main(content: Content) -> _Main:
    report = content.report
    several = len(report.sections) > 1
    shown = list(dict.fromkeys(column for of in content.sections for column in of.columns))
    # Seconds stand in the second line of the time column where there is a ratio to retraining.
    columns = [c for c in shown if c != "wall_seconds" or TIME_RATIO not in shown]
    lines = tuple(
        _line(report, section, number, place, columns)
        for number, section in enumerate(report.sections)
        for place in range(len(section.table.rows))
    )
    names = ["Model, data, scenario"] if several else []
    facets = (
        tuple(
            _Facet(key, name, tuple(dict.fromkeys(dict(line.facets)[key] for line in lines)))
            for key, name in (
                ("kind", "Kind"),
                ("access", "Access"),
                ("family", "Family"),
                ("model", "Model"),
                ("dataset", "Dataset"),
                ("scenario", "Scenario"),
            )
        )
        if lines
        else ()
    )
    headings = (
        ("Method", ""),
        *((name, "") for name in names),
        ("Verdict", ""),
        *(_heading(report.facts, column) for column in columns),
        ("Seeds", ""),
    )
    download = _download(methods_csv(report, shown))
    return _Main(headings, lines, facets, download, _reading(content))


def _reading(content: Content) -> str:
    """Say how the table is to be read; settings that measure distance alike share a sentence."""
    gap = gap_reading(content.report.sections)
    second = f"The second line is the {gap}; under time it is wall time."
    settings: dict[str, list[str]] = {}
    for of in content.sections:
        if of.distance:
            settings.setdefault(of.distance, []).append(of.title)
    several = len(settings) > 1
    said = [f"{', '.join(of)}: {text}" if several else text for text, of in settings.items()]
    return " ".join([content.intervals, second, *said])


def _heading(facts: Facts, column: str) -> tuple[str, str]:
    """Split a heading into name and unit."""
    name, _, unit = facts.heading(column).partition(", ")
    return name, unit


def _line(
    report: Report, section: Section, number: int, place: int, columns: Sequence[str]
) -> _Line:
    row = section.table.rows[place]
    known = report.methods.get(row.method, {})
    family, access = str(known.get("family") or ""), str(known.get("access") or "")
    leaders = [ranked.method for ranked in section.ranking[:1]]
    tags = []
    classes = [row.kind]
    if row.method in leaders and len(section.ranking) > 1:
        tags.append(("nearest", "good"))
        classes.append("leader")
    if row.method in section.tied:
        tags.append(("tied with the nearest", "even"))
        classes.append("tied")
    if row.method in section.origins:
        tags.append((section.origins[row.method][0], "even"))
    if row.damage is not None:
        tags.append((f"retain −{row.damage:.0f} points", "bad"))
        classes.append("damaged")
    if row.failed:
        total = len(row.seeds) + len(row.failed)
        tags.append((f"failed in {len(row.failed)} of {total} seeds", "bad"))
    cells = [verdict_cell(section, row)]
    if len(report.sections) > 1:
        cells.insert(0, Cell(section_title(section), classes="words", key=f"{number:03d}"))
    cells += [cell(section, row, column) for column in columns]
    cells.append(Cell(seeds_text(row), key=float(len(row.seeds))))
    detail = " · ".join(filter(None, (family, f"reads {access}" if access else "")))
    if row.kind != "method":
        detail = _KINDS[row.kind].lower()
    return _Line(
        _anchor(number, place),
        row.method,
        detail,
        tuple(tags),
        tuple(cells),
        " ".join(classes),
        (
            ("kind", _KINDS[row.kind]),
            ("access", access or _UNKNOWN),
            ("family", family or _UNKNOWN),
            ("model", section.model),
            ("dataset", section.dataset),
            ("scenario", section.scenario),
        ),
    )
