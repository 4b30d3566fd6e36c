"""Where a site is written: only into a folder that is empty, or that holds a site."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from unlearn_bench import __version__
from unlearn_bench.core.errors import OutputError, RefusedError
from unlearn_bench.core.files import (
    is_temporary,
    readable_os_errors,
    refuse_links,
    write_atomically,
)
from unlearn_bench.core.reading import read_json

LIST = "site.json"
# Raise when files of a site are named or laid out otherwise. A site of a later version is refused.
FORMAT = 1
FOLDERS = ("tasks", "methods")
_PAGE = re.compile(r"index\.html|(tasks|methods)/[a-z0-9-]+\.html")


def refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds anything but a site.

    Raises:
        OutputError: With one of its files, or if a part of it is a symbolic link.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; choose another --out, or a folder")
    refuse_links(out, (LIST, "index.html", *FOLDERS))
    ours = {LIST, *_listed(out)}
    foreign = sorted(
        name for name in _files(out) if name not in ours and not is_temporary(Path(name).name)
    )
    if foreign:
        raise OutputError(
            f"{out} contains files that are not part of a site ({foreign[0]} for example), which "
            "pages might overwrite; choose another --out, or an empty folder"
        )


def write(out: Path, pages: Mapping[str, str]) -> Path:
    """Write the pages of a site, the first page last, and remove those of an earlier one.

    Args:
        out: A folder that :func:`refuse_foreign` lets pass.
        pages: Texts by their place in it.

    Raises:
        OutputError: If the file system refuses.
    """
    earlier = _listed(out)
    # Before any page: what a killed process leaves is then known to be a part of the site.
    write_atomically(out / LIST, _list_of({*pages, *earlier}))
    for name, text in sorted(pages.items(), key=lambda page: page[0] == "index.html"):
        write_atomically(out / name, text)
    for name in sorted(set(earlier) - set(pages)):
        with readable_os_errors("remove", out / name):
            (out / name).unlink(missing_ok=True)
    write_atomically(out / LIST, _list_of(pages))
    return out / "index.html"


def _list_of(names: Iterable[str]) -> str:
    stored = {"format": FORMAT, "version": __version__, "files": sorted(names)}
    return json.dumps(stored, indent=1) + "\n"


def _listed(out: Path) -> tuple[str, ...]:
    """Return the pages that a site says it has; none where there is no site.

    Raises:
        OutputError: If the site is of a later version, or its list cannot be read.
    """
    path = out / LIST
    if not path.exists():
        return ()
    try:
        stored = read_json(path, links=False)
        stored = stored if isinstance(stored, dict) else {}
    except (OSError, RefusedError) as error:
        raise OutputError(f"{path} cannot be read ({error}); choose another --out") from error
    if (found := stored.get("format")) != FORMAT:
        raise OutputError(
            f"{path} is of format {str(found)[:20]}, this version writes {FORMAT}: upgrade "
            "unlearn-bench, or choose another --out"
        )
    files = stored.get("files")
    names = files if isinstance(files, list) else []
    # Whatever else it lists is not ours: it might lead out of the folder.
    return tuple(name for name in names if isinstance(name, str) and _PAGE.fullmatch(name))


def _files(out: Path) -> Iterable[str]:
    with readable_os_errors("read", out):
        for place, folders, files in os.walk(out):
            links = [name for name in folders if Path(place, name).is_symlink()]
            for name in (*files, *links):
                yield Path(place, name).relative_to(out).as_posix()
