r"""The report's tables as LaTeX: ready for \input in a paper, and a document of their own.

One ``table*`` per setting, so that a table spans the columns of a two-column paper and is an
ordinary float elsewhere; it is shrunk to the width of the text where it is wider, and goes on in
a second float where a page would be too short for it. Bold is who earned it by the verdict, not
who has the smallest number: see
:func:`~unlearn_bench.analysis.verdict.distinguished`.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence

from unlearn_bench.analysis.table import Row, Section
from unlearn_bench.analysis.verdict import (
    DESCRIPTIVE,
    DISTINGUISHABLE,
    INDISTINGUISHABLE,
    UNDECIDED,
    Verdict,
    verdicts,
)
from unlearn_bench.report.content import Content, SectionContent
from unlearn_bench.report.text import (
    NONE,
    cell_text,
    overview_table,
    seeds_text,
)
from unlearn_bench.results.metrics import DISTANCE, TIME_RATIO

# Lines of \footnotesize that fit a page of letter paper, below a caption of ten lines.
ROWS_PER_TABLE = 48
SETTINGS_PER_TABLE = 8
# LaTeX holds back at most some fifty floats until it finds a page for them.
_TABLES_PER_FLUSH = 10

_HEAD = r"""% Tables of an unlearn-bench report, written by `unlearn-bench report`: do not edit.
% In a paper: put \usepackage{booktabs,graphicx} into its preamble, copy this file beside it and
% \input{report.tex}, or copy single tables. On its own: pdflatex report.tex
\expandafter\ifx\csname @nodocument\endcsname\relax
  \def\unlearnbenchend{}%
\else
  \documentclass{article}
  \usepackage[T1]{fontenc}
  \usepackage[margin=18mm]{geometry}
  \usepackage{booktabs,graphicx}
  \def\unlearnbenchend{\end{document}}
  \begin{document}
\fi
"""

_NOTHING = "\u2060"
_SPECIAL = {
    _NOTHING: "{}",
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "†": r"$^\dagger$",
    '"': "''",  # OT1, which a paper may use, has no such character
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "’": "'",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "`": r"\textasciigrave{}",
    "\u00a0": "~",
    "…": r"\dots{}",
}


def render(content: Content) -> str:
    """Render all sections; a report without any says so in a sentence."""
    tables = [table for of in content.sections for table in _section(of)]
    if len(content.sections) > 1:
        tables = [*_overview(content), *tables]
    if not tables:
        tables = [escape(content.finding) + "."]
    flushed = []
    for number, table in enumerate(tables, 1):
        flushed += [table] + ([r"\clearpage"] if number % _TABLES_PER_FLUSH == 0 else [])
    return _HEAD + "\n" + "\n\n".join(flushed) + "\n\n\\unlearnbenchend\n"


def escape(text: str) -> str:
    """Make any text stand for itself in LaTeX, with the letters that every font has.

    Letters with accents keep them up to Latin-1 and lose them beyond; what has no Latin form is
    named by its number, such as ``[U+4E2D]``.
    """
    text = unicodedata.normalize("NFC", re.sub(r"\s+", " ", text).strip())
    # Two of these in a row would become another character.
    text = re.sub("(?<=-)(?=-)|(?<=,)(?=,)", _NOTHING, text)
    set_ = "".join(map(_character, text))
    # After a line's end these would be taken for the break's argument.
    return "{}" + set_ if set_[:1] in ("[", "*") else set_


def _character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if (
        " " <= character <= "~"
        or character in "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ"
    ):
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    if plain and plain.isprintable():
        return "".join(map(_character, plain))
    return f"[U+{ord(character):04X}]"


def _section(of: SectionContent) -> Iterator[str]:
    section = of.section
    columns = [c for c in of.columns if c != "wall_seconds" or TIME_RATIO not in of.columns]
    judged = {v.method: v for v in verdicts(section)}
    blocks: dict[str, list[str]] = {"reference": [], "control": [], "method": []}
    for row in section.table.rows:
        name = escape(row.method + ("†" if row.damage is not None else ""))
        cells = [_number(cell_text(section, row, column)) for column in columns]
        if row.method in of.best:
            name = rf"\textbf{{{name}}}"
            cells = [
                rf"\textbf{{{cell}}}" if column == DISTANCE else cell
                for column, cell in zip(columns, cells, strict=True)
            ]
        verdict = _verdict(row, judged.get(row.method))
        blocks[row.kind].append(" & ".join([name, *cells, verdict, escape(seeds_text(row))]))
    heads = ["Method", *(_heading(section, c) for c in columns), "Verdict", "Seeds"]
    align = "l" + "r" * len(columns) + "lr"
    place = "-".join((section.dataset, section.model, section.scenario))
    yield from _tables(heads, align, list(blocks.values()), escape(of.caption), place)
    for own in of.apart:
        yield from _section(own)


def _heading(section: Section, column: str) -> str:
    """Set a column's heading, in two lines where it declares them."""
    text = section.facts.of(column).heading or section.facts.heading(column)
    return r"\\".join(escape(line) for line in text.split("\n"))


def _overview(content: Content) -> Iterator[str]:
    """Yield the distances of all methods by setting, some settings a table."""
    finding = content.finding
    for start in range(0, len(content.sections), SETTINGS_PER_TABLE):
        some = content.sections[start : start + SETTINGS_PER_TABLE]
        table = overview_table([of.section for of in some], finding)
        best = [of.best for of in some]
        rows = []
        for method, *cells in table.rows:
            set_ = [escape(method), *map(_number, cells)]
            for column, names in enumerate(best, 1):
                if method in names:
                    set_[column] = rf"\textbf{{{set_[column]}}}"
            rows.append(" & ".join(set_))
        heads = [r"\\".join(escape(part) for part in name.split(" · ")) for name in table.columns]
        align = "l" + "r" * (len(table.columns) - 1)
        yield from _tables(
            heads, align, [rows], escape(content.overview_caption), f"overview-{start}"
        )


def _tables(
    heads: Sequence[str], align: str, blocks: Sequence[Sequence[str]], caption: str, place: str
) -> Iterator[str]:
    """Yield one float, or several where the rows do not fit one."""
    rows = [row for block in blocks for row in block]
    ends = {sum(map(len, blocks[: i + 1])) for i in range(len(blocks))} - {0, len(rows)}
    parts = max(1, math.ceil(len(rows) / ROWS_PER_TABLE))
    length = max(1, math.ceil(len(rows) / parts))  # parts of like length, not one line alone
    starts = range(0, max(1, len(rows)), length)
    label = re.sub(r"[^A-Za-z0-9]+", "-", place).strip("-")
    head = " & ".join(rf"\shortstack{{{name}}}" if r"\\" in name else name for name in heads)
    for part, start in enumerate(starts):
        body = []
        for number in range(start, min(start + length, len(rows))):
            if number in ends and number > start:
                body.append(r"\midrule")
            body.append(rows[number] + r" \\")
        yield "\n".join(
            [
                r"\begin{table*}[tp]",
                r"\centering\footnotesize",
                rf"\caption{{{caption}}}"
                if part == 0
                else rf"\caption{{Table~\ref{{tab:{label}}}, part {part + 1} of {len(starts)}.}}",
                rf"\label{{tab:{label}{'' if part == 0 else f'-{part + 1}'}}}",
                r"\smallskip",
                # Not wider than the text, and never blown up to it.
                r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                rf"\begin{{tabular}}{{{align}}}",
                r"\toprule",
                head + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}}",
                r"\end{table*}",
            ]
        )


def _number(text: str) -> str:
    """Set an estimate with its interval small beside it."""
    if text == NONE:
        return "--"
    mean, plus_minus, rest = text.partition(" ± ")
    if not plus_minus:
        return escape(text)
    half_width, space, suffix = rest.partition(" ")
    return rf"{escape(mean)}\,{{\scriptsize$\pm$\,{half_width}}}" + space + escape(suffix)


def _verdict(row: Row, verdict: Verdict | None) -> str:
    if not row.seeds:
        return "failed" if row.failed else "--"
    if verdict is None or verdict.verdict not in (
        INDISTINGUISHABLE,
        UNDECIDED,
        DISTINGUISHABLE,
        DESCRIPTIVE,
    ):
        return "--"
    if verdict.verdict == DESCRIPTIVE:
        return f"told apart ({len(verdict.apart)})" if verdict.apart else "not told apart"
    words = verdict.verdict.lower()
    if verdict.verdict == UNDECIDED and verdict.nearness is not None:
        return f"{words} ({verdict.nearness:.1f})"
    return f"{words} ({len(verdict.apart)})" if verdict.apart else words
