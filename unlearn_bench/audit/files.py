"""Write an audit into a folder, and check that a folder still holds one as it was written."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from unlearn_bench.audit import page, prose
from unlearn_bench.audit.document import document
from unlearn_bench.audit.statement import SCHEMA, Statement, published_schema
from unlearn_bench.core.errors import OutputError, RefusedError, one_line
from unlearn_bench.core.files import readable_os_errors, write_atomically
from unlearn_bench.core.reading import JSON_BYTES, parse_json, read_bytes

STATEMENT, PAGE, PROSE = "audit.json", "audit.html", "audit.md"


@dataclass(frozen=True)
class Verified:
    """What a check of an audit found.

    Attributes:
        problems: What is not as it was written; empty for a sound audit.
        seal: The statement's own hash.
    """

    problems: tuple[str, ...]
    seal: str


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder whose files of an audit's names are no audit: they would be overwritten.

    Raises:
        OutputError: With one of the files.
    """
    present = [name for name in (STATEMENT, SCHEMA, PROSE, PAGE) if (folder / name).exists()]
    if not present:
        return
    try:
        _read(folder / STATEMENT)
    except OutputError as error:
        raise OutputError(
            f"{folder / present[0]} would be overwritten, and {folder} holds no audit that "
            "unlearn-bench wrote; choose another --out, or an empty folder"
        ) from error


def write(said: Statement, folder: Path) -> Path:
    """Write ``audit.json``, its schema, ``audit.md`` and ``audit.html``; return the page's path.

    Raises:
        OutputError: If the folder cannot be written.
    """
    with readable_os_errors("write into", folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in _texts(said).items():
        write_atomically(folder / name, text)
    return folder / PAGE


def _texts(said: Statement) -> dict[str, str]:
    read = document(said)
    return {
        STATEMENT: said.as_json(),
        SCHEMA: published_schema(),
        PROSE: prose.render(read),
        PAGE: page.render(read),
    }


def verify(place: Path) -> Verified:
    """Check an audit: its hash, and that its pages say what its statement holds.

    Args:
        place: The folder, or its ``audit.json``.

    Raises:
        OutputError: If there is no statement that can be read.
    """
    folder = place if place.is_dir() else place.parent
    said = _read(folder / STATEMENT)
    problems = []
    if said.self_hash != said.computed_hash():
        problems.append(f"{STATEMENT} was changed: its hash is {said.computed_hash()}")
    for name, text in _texts(said).items():
        if name != STATEMENT and not _holds(folder / name, text):
            problems.append(f"{name} does not say what {STATEMENT} holds")
    return Verified(tuple(problems), said.self_hash)


def _read(file: Path) -> Statement:
    """Return the statement of a file.

    Raises:
        OutputError: If there is none that can be read.
    """
    try:
        stored = parse_json(read_bytes(file, JSON_BYTES, links=False), str(file))
        return Statement.model_validate(stored)
    except OSError as error:
        raise OutputError(f"cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = one_line(".".join(map(str, fault["loc"])))
        raise OutputError(f"{file} is no audit: {where}: {one_line(fault['msg'])}") from error
    except (RefusedError, ValueError) as error:
        raise OutputError(f"{file} is no audit: {one_line(str(error))}") from error


def _holds(path: Path, text: str) -> bool:
    """Whether a page is there with this text, or not at all."""
    expected = text.encode(errors="backslashreplace")  # as it is written
    try:
        return read_bytes(path, len(expected), links=False) == expected
    except FileNotFoundError:
        return True
    except (OSError, RefusedError):
        return False


def is_audit(place: Path) -> bool:
    """Whether a path leads to an audit."""
    return place.name == STATEMENT or (place / STATEMENT).is_file()


def schema_text(schema: object) -> str:
    """Return the text of the published schema."""
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
