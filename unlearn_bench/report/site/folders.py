"""Results folders of a site, and the names by which they are told apart there."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.core.reading import real_path
from unlearn_bench.report.provenance import Report, read_report


@dataclass(frozen=True, eq=False)
class Folder:
    """A results folder of a site.

    Attributes:
        name: The suite's; where two folders have the same, the folder's own, or one that was given.
        path: As it was given.
        report: What it holds.
        page: Address of its own page as seen from the site's first page; empty where it has none.
    """

    name: str
    path: Path
    report: Report
    page: str


def read_folders(given: Sequence[str], out: Path) -> tuple[Folder, ...]:
    """Read results folders, each given as ``FOLDER`` or ``NAME=FOLDER``.

    Args:
        given: In the order in which they are shown.
        out: Where the site is written.

    Raises:
        ConfigError: If there is none, or two of them cannot be told apart.
        OutputError: If one of them is no results folder.
    """
    if not given:
        raise ConfigError("no results folder was given; name one or more that `run` wrote")
    named = [_named(one) for one in given]
    paths = [path for _, path in named]
    real = [real_path(path, "a results folder") for path in paths]
    for place, path in enumerate(paths):
        if any(real[place] == other for other in real[:place]):
            raise ConfigError(f"{path} was given twice; give every results folder once")
    reports = [read_report(path) for path in paths]
    names = _names([name for name, _ in named], paths, reports)
    return tuple(
        Folder(name, path, report, _page(path, out))
        for name, path, report in zip(names, paths, reports, strict=True)
    )


def _named(given: str) -> tuple[str, Path]:
    """Split ``NAME=FOLDER``; a folder whose own name has a ``=`` is taken for what it is."""
    name, equals, place = given.partition("=")
    if not equals or Path(given).exists():
        return "", Path(given)
    if not name.strip() or not place:
        raise ConfigError(f"{given!r} has no name or no folder; write NAME=FOLDER, or FOLDER alone")
    return name.strip(), Path(place)


def _names(
    given: Sequence[str], paths: Sequence[Path], reports: Sequence[Report]
) -> tuple[str, ...]:
    own = [real_path(path, "a results folder").name for path in paths]
    suites = [report.provenance.name or name for report, name in zip(reports, own, strict=True)]
    often = Counter(suite.casefold() for suite in suites)
    names = tuple(
        name or (folder if often[suite.casefold()] > 1 else suite)
        for name, suite, folder in zip(given, suites, own, strict=True)
    )
    first: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        if name.casefold() in first:
            raise ConfigError(
                f"{first[name.casefold()]} and {path} would both be called {name!r}; folders are "
                "told apart by the suite's name, then by the folder's: give one of them a name of "
                f"your choice, as in other={path}"
            )
        first[name.casefold()] = path
    return names


def _page(path: Path, out: Path) -> str:
    page = path / "report.html"
    if not page.is_file():
        return ""
    return quote(Path(os.path.relpath(page.resolve(), real_path(out, "--out"))).as_posix())
