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
    from unlearn_bench.report.content import Content
    from unlearn_bench.report.text import TextTable

# A figure's file: where several settings are shown, with the number and name of its own.
_FIGURE = re.compile(
    r"(\d{2,}-[a-z0-9-]*-)?"
    r"(accuracy|classes|cost|damage|phases|privacy|ranking|roc|training|tuning)\.(svg|pdf)"
)

__all__ = ["summary", "write_report"]


def write_report(folder: Path, content: Content | None = None) -> Path:
    """Write ``report.html``, ``.md`` and ``.tex``, tables and ``figures/`` into a folder.

    The tables are ``verdicts.csv``, ``weights.csv`` with the hashes of all weights,
    ``population.parquet`` with what takes many models and, beside ``records.csv``,
    ``records.parquet``, from which a folder without that CSV is read. Figures that only an earlier
    report had are removed.

    The same input gives the same bytes. A suite that failed in part, or has not run at all,
    still gives a report that says so.

    Args:
        folder: A results folder as ``unlearn-bench run`` wrote it.
        content: What is to be said of it, if it was read already.

    Returns:
        The path of ``report.html``.

    Raises:
        OutputError: If the folder holds no results, or cannot be written.
    """
    from unlearn_bench.analysis.verdict import as_csv
    from unlearn_bench.core.files import refuse_links, write_atomically
    from unlearn_bench.report import figures, html, latex, many, markdown
    from unlearn_bench.report.content import read_content
    from unlearn_bench.report.freshness import page_key
    from unlearn_bench.report.provenance import WEIGHTS, weights_csv
    from unlearn_bench.results.records import as_parquet
    from unlearn_bench.results.tables import CSV, PARQUET

    refuse_links(folder, ("figures", "plugins", "runs", "suite.json", CSV, PARQUET))
    # Before anything is read: what changes meanwhile makes the page stale.
    key = page_key(folder)
    content = content or read_content(folder)
    report = content.report
    drawn = figures.draw(report.sections, report.curves, content.population, content.streams)
    written: dict[str, str | bytes] = {}
    for figure in (figure for of_section in drawn.values() for figure in of_section):
        written |= {figure.path: figure.svg, figure.pdf_path: figure.pdf}
    for path, image in written.items():
        write_atomically(folder / path, image)
    _remove_stale(folder / "figures", set(written))
    write_atomically(folder / "verdicts.csv", as_csv(report.sections))
    if report.runs:
        write_atomically(folder / WEIGHTS, weights_csv(report.runs))
    # Without a CSV it is what was read.
    if (folder / CSV).exists():
        write_atomically(folder / PARQUET, as_parquet(report.records))
    if len(content.population):
        write_atomically(folder / many.FILE, many.as_parquet(content.population))
    write_atomically(folder / "report.md", markdown.render(content, drawn))
    write_atomically(folder / "report.tex", latex.render(content))
    page = folder / "report.html"
    write_atomically(page, html.render(content, drawn, key))
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


def summary(folder: Path, content: Content | None = None) -> tuple[TextTable, ...]:
    """Return one plain table per section, and what is missing, for the terminal.

    Args:
        folder: A results folder.
        content: What is to be said of it, if it was read already.

    Raises:
        OutputError: If the folder holds no results.
    """
    from unlearn_bench.report.content import read_content, terminal

    return terminal(content or read_content(folder))
