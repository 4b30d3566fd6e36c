"""The report as Markdown, ready for a README or a pull request."""

import re
from collections.abc import Mapping, Sequence

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures import Figure
from unlearn_bench.report.findings import (
    caveat,
    distance_definition,
    headline,
    notes,
    overview_headline,
    run_gaps,
)
from unlearn_bench.report.provenance import Report
from unlearn_bench.report.text import (
    MEASURED,
    TextTable,
    band_reading,
    band_table,
    failure_texts,
    main_columns,
    overview_table,
    reading,
    section_title,
    text_table,
    verdict_table,
)


def render(report: Report, drawn: Mapping[int, Sequence[Figure]]) -> str:
    """Render the report; figures are linked by paths relative to the results folder."""
    finding = overview_headline(report.sections)
    blocks = [f"# {escape(finding)}"]
    if report.provenance.description:
        blocks.append(escape(report.provenance.description))
    blocks += [escape(gap) for gap in run_gaps(report.provenance)]
    if len(report.sections) > 1:
        overview = overview_table(report.sections, finding)
        blocks += [f"## {overview.title}", render_table(overview)]
    for index, section in enumerate(report.sections):
        blocks += _section(section, drawn.get(index, ()), stands_alone=len(report.sections) == 1)
    blocks += _provenance(report)
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Make any text stand for itself: no markup, no HTML, no line break."""
    text = re.sub(r"\s+", " ", text).strip()
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An underscore within a word is no markup, and most names have one.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", re.sub(r"([\\`*\[\]|~#])", r"\\\1", text))
    # A bare address would become a link.
    return text.replace("://", ":\u200b//").replace("@", "&#64;")


def _section(section: Section, figures: Sequence[Figure], stands_alone: bool) -> list[str]:
    finding = headline(section)
    table = text_table(section, finding, main_columns(section))
    blocks = [f"## {escape(section_title(section))}"]
    if not stands_alone:
        blocks.append(f"**{escape(finding)}.**")
    verdict = verdict_table(section)
    if verdict.rows:
        blocks += [f"### {verdict.title}", render_table(verdict)]
        blocks += [f"**{escape(caveat(section))}**"] if caveat(section) else []
        blocks.append(f"### {MEASURED}")
    blocks.append(render_table(table))
    explained = [reading(section)] if reading(section) else []
    if section.compared:
        explained.append(distance_definition(section))
    if explained:
        blocks.append(escape(" ".join(explained)))
    bands = band_table(section)
    if bands.rows:
        blocks += [f"### {bands.title}", render_table(bands), escape(band_reading(section))]
    remarks = [f"- **{escape(note.lead)}**: {escape(note.text)}" for note in notes(section)]
    remarks += [f"- {escape(failure)}" for failure in failure_texts(section)]
    if remarks:
        blocks.append("\n".join(remarks))
    for figure in figures:
        blocks += [f"![{escape(figure.title)}]({figure.path})", f"*{escape(figure.caption)}*"]
    return blocks


def render_table(table: TextTable) -> str:
    """Render one table; whatever its cells hold, every line has as many as the head."""
    lines = [table.columns, *table.rows]
    marked = {(row + 1, column) for row, column in table.marked}
    text = [
        " | ".join(
            f"**{escape(cell)}**" if (i, j) in marked else escape(cell)
            for j, cell in enumerate(line)
        )
        for i, line in enumerate(lines)
    ]
    side = "---" if table.words else "---:"
    rule = " | ".join(["---", *[side] * (len(table.columns) - 1)])
    return "\n".join(f"| {line} |" for line in [text[0], rule, *text[1:]])


def _provenance(report: Report) -> list[str]:
    origin = report.provenance
    blocks = ["## How this was made"]
    if origin.command:
        blocks.append(_fenced(origin.command))
    items = [f"- {label}: {escape(text)}" for label, text in origin.facts]
    if origin.planned:
        items.append(
            f"- Runs: {origin.finished} finished, {origin.failed} failed, {origin.missing} not run"
        )
    items += [f"- {escape(note)}" for note in origin.notes]
    blocks += ["\n".join(items)] if items else []
    if origin.reproduce:
        blocks += [escape(origin.how_to_repeat), _fenced(origin.reproduce)]
    return blocks


def _fenced(command: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return f"{fence}console\n{command}\n{fence}"
