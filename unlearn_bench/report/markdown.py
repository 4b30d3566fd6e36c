"""The report as Markdown, ready for a README or a pull request."""

import re
from collections.abc import Mapping, Sequence

from unlearn_bench.report.content import Content, SectionContent
from unlearn_bench.report.figures import Figure
from unlearn_bench.report.provenance import Provenance
from unlearn_bench.report.text import MEASURED, TextTable


def render(content: Content, drawn: Mapping[int, Sequence[Figure]]) -> str:
    """Render the report; figures are linked by paths relative to the results folder."""
    blocks = [f"# {escape(content.finding)}"]
    origin = content.report.provenance
    if origin.description:
        blocks.append(escape(origin.description))
    blocks += map(escape, content.gaps)
    if content.overview is not None:
        blocks += [f"## {content.overview.title}", render_table(content.overview)]
    for index, of in enumerate(content.sections):
        blocks += _section(of, drawn.get(index, ()), stands_alone=len(content.sections) == 1)
    if content.tuning:
        blocks.append("## Tuning")
        for table in content.tuning:
            blocks += _tuning(table, stands_alone=len(content.tuning) == 1)
    blocks += _provenance(origin)
    return "\n\n".join(blocks) + "\n"


def _tuning(table: TextTable, stands_alone: bool) -> list[str]:
    blocks = [] if stands_alone else [f"### {escape(table.title)}"]
    blocks += [f"**{escape(table.finding)}.**", render_table(table)]
    return [*blocks, "\n".join(f"- {escape(note)}" for note in table.notes)]


def escape(text: str) -> str:
    """Make any text stand for itself: no markup, no HTML, no line break."""
    text = re.sub(r"\s+", " ", text).strip()
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An underscore within a word is no markup, and most names have one.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", re.sub(r"([\\`*\[\]|~#])", r"\\\1", text))
    # What begins a line like this would make it a list, a heading or a rule.
    text = re.sub(r"^(\d{0,9})([-+=.)])(?=[\s=-]|$)", r"\1\\\2", text)
    # A bare address would become a link, and a name after an @ would be called.
    text = re.sub(r"(?i)(www)\.", "\\1\u200b.", text)
    return text.replace("://", ":\u200b//").replace("@", "&#64;\u200b").replace("$", r"\$")


def _section(of: SectionContent, figures: Sequence[Figure], stands_alone: bool) -> list[str]:
    blocks = [f"## {escape(of.title)}"]
    if not stands_alone:
        blocks.append(f"**{escape(of.finding)}.**")
    if of.verdicts.rows:
        blocks += [f"### {of.verdicts.title}", render_table(of.verdicts)]
        blocks += [f"**{escape(of.caveat)}**"] if of.caveat else []
        blocks.append(f"### {MEASURED}")
    blocks.append(render_table(of.table))
    explained = [text for text in (of.reading, of.distance) if text]
    if explained:
        blocks.append(escape(" ".join(explained)))
    if of.bands.rows:
        blocks += [f"### {of.bands.title}", render_table(of.bands), escape(of.band_reading)]
    for table in of.more:
        blocks += [f"### {table.title}", render_table(table), escape(" ".join(table.notes))]
    remarks = [f"- **{escape(note.lead)}**: {escape(note.text)}" for note in of.notes]
    remarks += [f"- {escape(failure)}" for failure in of.failures]
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


def _provenance(origin: Provenance) -> list[str]:
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
