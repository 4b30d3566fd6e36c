"""Many results folders as one static site: a leaderboard per task, a page per method.

A task is a dataset, a model and a scenario. Results of one folder and one budget of tuning are
ranked and sorted among themselves: what was tuned is never ranked beside what was not, nor the
numbers of one run beside those of another. Pages need no network and open from disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Written", "write_site"]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        page: The site's first page.
        tasks: How many tasks have a page.
        methods: How many methods have a page.
        without_report: Folders whose own page is not there to be linked.
    """

    page: Path
    tasks: int
    methods: int
    without_report: tuple[Path, ...]


def write_site(given: Sequence[str], out: Path) -> Written:
    """Write the site of several results folders.

    The same folders give the same bytes. Nothing is written unless all of them can be read; pages
    that only an earlier site had are removed.

    Args:
        given: Each a folder as ``unlearn-bench run`` wrote it, or ``NAME=FOLDER``.
        out: A folder that is empty, or holds a site.

    Raises:
        ConfigError: If no folder is given, or two cannot be told apart.
        OutputError: If one holds no results, or ``out`` holds something else or cannot be written.
    """
    from unlearn_bench.report.site import pages
    from unlearn_bench.report.site.folders import read_folders
    from unlearn_bench.report.site.place import refuse_foreign, write
    from unlearn_bench.report.site.tasks import Site

    refuse_foreign(out)
    site = Site.of(read_folders(given, out))
    page = write(out, pages.render(site))
    missing = tuple(folder.path for folder in site.folders if not folder.page)
    return Written(page, len(site.tasks), len(site.methods), missing)
