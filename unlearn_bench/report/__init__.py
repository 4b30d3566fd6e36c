"""The comparison report: which method came nearest to retraining, and what it cost.

``records.csv`` becomes one :class:`~unlearn_bench.analysis.table.Section` per dataset, model and
scenario; the sections become sentences, figures, Markdown and one HTML page. Nothing here
imports torch, and the drawing libraries are loaded only when something is drawn.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unlearn_bench.report.text import TextTable

# A figure's file: where several settings are shown, with the number and name of its own.
_FIGURE = re.compile(
    r"(\d{2,}-[a-z0-9-]*-)?"
    r"(accuracy|classes|cost|damage|phases|ranking|roc|training)\.(svg|pdf)"
)

__all__ = ["summary", "write_report"]


def write_report(folder: Path) -> Path:
    """Write ``report.html``, ``.md`` and ``.tex``, tables and ``figures/`` into a folder.

    The tables are ``verdicts.csv``, ``weights.csv`` with the hashes of all weights and, beside
    ``records.csv``, ``records.parquet``. Figures that only an earlier report had are removed.

    The same input gives the same bytes. A suite that failed in part, or has not run at all,
    still gives a report that says so.

    Args:
        folder: A results folder as ``unlearn-bench run`` wrote it.

    Returns:
        The path of ``report.html``.

    Raises:
        OutputError: If the folder holds no results, or cannot be written.
    """
    from unlearn_bench.analysis.verdict import as_csv
    from unlearn_bench.core.files import write_atomically
    from unlearn_bench.report import figures, html, latex, markdown
    from unlearn_bench.report.provenance import WEIGHTS, read_report, weights_csv
    from unlearn_bench.results.records import as_parquet

    report = read_report(folder)
    drawn = figures.draw(report.sections, report.curves)
    for section_figures in drawn.values():
        for figure in section_figures:
            write_atomically(folder / figure.path, figure.svg)
            write_atomically(folder / figure.pdf_path, figure.pdf)
    _remove_stale(
        folder / "figures",
        {
            path
            for of_section in drawn.values()
            for figure in of_section
            for path in (figure.path, figure.pdf_path)
        },
    )
    write_atomically(folder / "verdicts.csv", as_csv(report.sections))
    if report.runs:
        write_atomically(folder / WEIGHTS, weights_csv(report.runs))
    write_atomically(folder / "records.parquet", as_parquet(report.records))
    write_atomically(folder / "report.md", markdown.render(report, drawn))
    write_atomically(folder / "report.tex", latex.render(report))
    page = folder / "report.html"
    write_atomically(page, html.render(report, drawn))
    return page


def _remove_stale(place: Path, written: set[str]) -> None:
    """Remove figures that only an earlier report drew: they would be taken for this one's.

    A file whose name is not one that we give is somebody else's, and stays.
    """
    from unlearn_bench.core.files import readable_os_errors

    for path in sorted(place.glob("*")):
        ours = _FIGURE.fullmatch(path.name)
        if ours and path.is_file() and f"{place.name}/{path.name}" not in written:
            with readable_os_errors("remove", path):
                path.unlink()


def summary(folder: Path) -> tuple[TextTable, ...]:
    """Return one plain table per section, and what is missing, for the terminal.

    Raises:
        OutputError: If the folder holds no results.
    """
    from unlearn_bench.report.findings import headline, overview_headline, run_gaps
    from unlearn_bench.report.provenance import read_report
    from unlearn_bench.report.text import TextTable, brief_table

    report = read_report(folder)
    tables = [brief_table(section, headline(section)) for section in report.sections]
    if not tables:
        tables.append(TextTable("", overview_headline(()), (), ()))
    gaps = run_gaps(report.provenance)
    return (*tables, *([TextTable("", "", (), (), notes=gaps)] if gaps else ()))
