"""All that a report says, put together once: page, Markdown, LaTeX and terminal only print it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from unlearn_bench.analysis.stream import Place, Stream, place_of, streams
from unlearn_bench.analysis.table import Section
from unlearn_bench.analysis.verdict import distinguished
from unlearn_bench.population.many import table as population_table
from unlearn_bench.report.caption import caption, overview_caption
from unlearn_bench.report.ensembles import ensemble_table, why
from unlearn_bench.report.findings import (
    Note,
    caveat,
    distance_definition,
    headline,
    overview_headline,
    run_gaps,
)
from unlearn_bench.report.glance import Glance, glance
from unlearn_bench.report.legacy import legacy_table
from unlearn_bench.report.limits import not_drawn, notes
from unlearn_bench.report.many import many_table, of_section, tier
from unlearn_bench.report.provenance import Provenance, Report, read_report
from unlearn_bench.report.published import published_table
from unlearn_bench.report.stages import variance_note, variance_table
from unlearn_bench.report.stream import reading_of, stream_note, stream_tables
from unlearn_bench.report.text import (
    NONE,
    TextTable,
    band_reading,
    band_table,
    brief_table,
    cell_text,
    failure_texts,
    intervals,
    main_columns,
    overview_table,
    reading,
    section_title,
    text_table,
    verdict_table,
)
from unlearn_bench.report.tuning import table as tuning_table
from unlearn_bench.results.metrics import TIME_RATIO
from unlearn_bench.suite.tuned import TunedSetting


@dataclass(frozen=True, eq=False)
class SectionContent:
    """What is said of one dataset, model and scenario.

    Attributes:
        section: The numbers behind it.
        finding: One sentence: who came nearest to retraining, and at what cost.
        columns: Of the first table.
        table: The first table.
        brief: The same for a terminal.
        distance: How the distance is computed here; empty without one.
        caveat: Why not being told apart is no evidence here; empty where it is some.
        best: Methods that the verdict sets apart from the others.
        caption: Of the first table where it stands alone, as in a paper.
        many: What takes all seeds together; empty with too few.
        stages: How much of the variance training and unlearning give; empty for one stage.
        stream: What is said of a stream of requests; empty where there is none.
        ensembles: Rows of methods that are compared with retraining of an ensemble of their own.
        apart: The same for what prints more than such a table.
        published: A paper's figures beside these; empty where the suite names none.
    """

    section: Section
    title: str
    finding: str
    columns: tuple[str, ...]
    table: TextTable
    brief: TextTable
    reading: str
    distance: str
    verdicts: TextTable
    caveat: str
    best: frozenset[str]
    caption: str
    bands: TextTable
    band_reading: str
    notes: tuple[Note, ...]
    failures: tuple[str, ...]
    glance: Glance
    everything: TextTable
    legacy: TextTable
    many: TextTable
    stages: TextTable
    published: TextTable
    stream: tuple[TextTable, ...] = ()
    ensembles: tuple[TextTable, ...] = ()
    apart: tuple["SectionContent", ...] = ()

    @property
    def more(self) -> tuple[TextTable, ...]:
        """The tables below the first ones that have rows, each with notes for its reader."""
        tables = (*self.ensembles, *self.stream, self.stages, self.many, self.published)
        return tuple(table for table in tables if table.rows)


@dataclass(frozen=True, eq=False)
class Content:
    """What is said of a results folder.

    Attributes:
        report: The numbers, and how they came to be.
        finding: One sentence over all sections.
        overview: Distances of every method in every section; None for a single one.
        intervals: What stands behind a ±.
        gaps: Which planned runs have no result, and why.
        tuning: How the settings were tuned, a table for each dataset, model and scenario.
        overview_caption: Of the overview where it stands alone; empty without one.
        population: What takes many models, columns as in ``population.parquet``.
        streams: Streams of requests by dataset, model and scenario.
    """

    report: Report
    finding: str
    overview: TextTable | None
    intervals: str
    gaps: tuple[str, ...]
    sections: tuple[SectionContent, ...]
    tuning: tuple[TextTable, ...] = ()
    overview_caption: str = ""
    population: pd.DataFrame = field(default_factory=lambda: population_table(None))
    streams: Mapping[Place, Stream] = field(default_factory=dict)


def read_content(folder: Path) -> Content:
    """Read a results folder and say all there is to say of it.

    Raises:
        OutputError: If the folder is not a results folder, or is damaged.
    """
    return content_of(read_report(folder))


def content_of(report: Report) -> Content:
    """Say all there is to say of a report that was read."""
    sections = report.sections
    finding = overview_headline(sections)
    numbers, requests = population_table(report.curves), streams(report.records)
    return Content(
        report,
        finding,
        overview_table(sections, finding) if len(sections) > 1 else None,
        intervals(sections) if sections else "",
        run_gaps(report.provenance),
        tuple(
            _section_content(
                section,
                report.provenance,
                not_drawn(place, sections),
                of_section(numbers, section),
                requests.get(place_of(section)),
            )
            for place, section in enumerate(sections)
        ),
        tuple(
            tuning_table(section.facts.tuned, _of_run(section.tuned, section), _requests(section))
            for section in sections
            if section.facts.tuned and section.tuned
        ),
        overview_caption(sections, finding) if len(sections) > 1 else "",
        numbers,
        requests,
    )


def _of_run(setting: TunedSetting, section: Section) -> TunedSetting:
    """Return what was tuned of the methods that were run: a suite's settings have many more."""
    shown = {row.method for row in section.table.rows}
    methods = {name: method for name, method in setting.methods.items() if name in shown}
    return setting.model_copy(update={"methods": methods}) if methods else setting


def _requests(section: Section) -> dict[str, float]:
    """Return what one request costs by each method, in times of one retraining."""
    found = {row.method: section.table.value(row.method, TIME_RATIO) for row in section.table.rows}
    return {method: ratio.mean for method, ratio in found.items() if ratio is not None}


def _section_content(
    section: Section,
    origin: Provenance,
    more: tuple[Note, ...],
    found: pd.DataFrame,
    stream: Stream | None,
) -> SectionContent:
    finding, columns = headline(section), main_columns(section)
    # Of unequal budgets nobody is set in bold beside the others.
    best = distinguished(section) - {row.method for row in section.unranked}
    return SectionContent(
        section,
        section_title(section),
        finding,
        columns,
        table=text_table(section, finding, columns),
        brief=brief_table(section, finding),
        reading=" ".join(filter(None, (reading_of(stream), reading(section)))),
        distance=distance_definition(section) if section.compared else "",
        verdicts=verdict_table(section),
        caveat=caveat(section),
        best=best,
        caption=caption(section, origin, stressed=bool(best)),
        bands=band_table(section),
        band_reading=band_reading(section),
        notes=(*notes(section), *more),
        failures=failure_texts(section),
        glance=glance(section, tier(found)),
        everything=_everything(section),
        legacy=legacy_table(section),
        many=many_table(found, section),
        stages=variance_table(section),
        published=published_table(section),
        stream=stream_tables(stream, section),
        ensembles=tuple(ensemble_table(own, main_columns(own)) for own in section.apart),
        apart=tuple(_apart(own, origin, found) for own in section.apart),
    )


def _apart(own: Section, origin: Provenance, found: pd.DataFrame) -> SectionContent:
    """Return what is said of a section below another, with why it is not compared like others."""
    content, reason = _section_content(own, origin, (), found[:0], None), why(own)
    return replace(
        content,
        brief=replace(content.brief, notes=(reason, *content.brief.notes)),
        caption=f"{content.caption} {reason}",
    )


def _everything(section: Section) -> TextTable:
    """Turn the whole table around: one line per metric, one column per method."""
    rows = section.table.rows
    lines = tuple(
        (
            section.facts.heading(column),
            *(cell_text(section, row, column) if row.seeds else NONE for row in rows),
        )
        for column in section.table.columns
    )
    return TextTable("Everything measured", "", ("", *(row.method for row in rows)), lines)


def terminal(content: Content) -> tuple[TextTable, ...]:
    """Return one plain table per section, and what is missing, for the terminal."""
    tables: list[TextTable] = []
    for of in content.sections:
        stream = content.streams.get(place_of(of.section))
        notes = (*stream_note(stream, of.section), *variance_note(of.section))
        tables.append(replace(of.brief, notes=(*of.brief.notes, *notes)))
        tables += [own.brief for own in of.apart]
    tables = tables or [TextTable("", content.finding, (), ())]
    gaps = [TextTable("", "", (), (), notes=content.gaps)] if content.gaps else []
    return (*tables, *content.tuning, *gaps)
