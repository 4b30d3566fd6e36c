"""Whether a page says what its folder and this version of the package would say now.

A page carries a key of all that it is made from: the results, and the code that reads and prints
them. Times of files decide nothing, since an upgrade of the package changes none of them.
"""

import html
import re
from functools import cache
from pathlib import Path

from unlearn_bench import __version__
from unlearn_bench.core.errors import RefusedError
from unlearn_bench.core.keys import content_key, file_hash
from unlearn_bench.core.reading import is_regular, opened
from unlearn_bench.results.tables import source_of

# Of a results folder, what a page is made from.
_READ = ("suite.json", "curves.parquet")
# Of the package, who reads and prints it; a checkout changes without a new version.
_CODE = ("analysis", "report", "results")
# Bytes of a page within which the key stands.
_HEAD = 4096
_KEY = re.compile(r'<meta name="unlearn-bench-key" content="([^"]*)">')


def page_key(folder: Path) -> str:
    """Return the key of what the page of a folder would be made from now."""
    records = source_of(folder)
    names = (*_READ, records.name) if records is not None else _READ
    files = {name: file_hash(folder / name) for name in names if is_regular(folder / name)}
    return content_key({"version": __version__, "code": _code(), "files": files})


def is_fresh(folder: Path) -> bool:
    """Say whether ``report.html`` of a folder is what would be written now; if in doubt, no."""
    try:
        with opened(folder / "report.html", links=False) as stream:
            head = stream.read(_HEAD).decode(errors="replace")
        found = _KEY.search(head)
        return found is not None and html.unescape(found[1]) == page_key(folder)
    except (OSError, RefusedError):
        return False


@cache
def _code() -> list[str]:
    root = Path(__file__).parents[1]
    files = (path for name in _CODE for path in sorted((root / name).rglob("*")))
    return [file_hash(path) for path in files if path.suffix in (".py", ".html", ".css", ".js")]
