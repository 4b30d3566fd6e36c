"""What `status` and `--dry-run` need of every result, in one line each.

A result's file has tens of kilobytes, and a large suite has ten thousand such files. When a result
is written, ``.brief-seed-N.jsonl`` gets a line with its state and the seconds that it took. The
line counts only while the result's file has the size and the time of change that it names. Results
without such a line, as after a kill or in a copied folder, are read as a whole.
"""

import json
import os
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from unlearn_bench.core.errors import RefusedError
from unlearn_bench.core.reading import JSON_BYTES, parse_json, read_bytes
from unlearn_bench.results.checks import number
from unlearn_bench.results.records import Record, RunResult, result_of, run_file

PREFIX = ".brief"
SECONDS = ("wall_seconds", "wall_seconds_evaluate", "wall_seconds_original")
HEAD = (
    *("key", "method", "kind", "dataset", "model", "scenario", "seed", "status", "error"),
    *("draw", "request"),
)

_Version = tuple[int, int]


def note_brief(folder: Path, result: RunResult) -> None:
    """Append the line of a result that was just written.

    Only one process at a time works on a seed, and no other appends to its file. Where nothing can
    be written, do without.
    """
    seconds = {r.metric: r.value for r in result.records if r.metric in SECONDS}
    head = {name: getattr(result, name) for name in HEAD}
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with suppress(OSError):
        version = _version(run_file(folder, result.key).lstat())
        line = json.dumps({"version": version, "seconds": seconds, "run": head})
        handle = os.open(folder / f"{PREFIX}-seed-{result.seed}.jsonl", flags, 0o666)
        with os.fdopen(handle, "ab") as stream:
            # A line that a killed process left half-written ends here.
            stream.write(f"\n{line}".encode(errors="backslashreplace"))


def read_briefs(folder: Path) -> dict[str, RunResult]:
    """Return the results whose lines count, by key; of records they have :data:`SECONDS` alone."""
    lines: list[bytes] = []
    for path in folder.glob(f"{PREFIX}-seed-*.jsonl"):
        with suppress(OSError, RefusedError):
            lines += read_bytes(path, JSON_BYTES, links=False).splitlines()
    versions = _versions(folder) if lines else {}
    briefs: dict[str, RunResult] = {}
    for line in _parsed(lines):
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            seconds = {name: number(line["seconds"].get(name), name) for name in SECONDS}
            records = tuple(
                Record(n, "", value) for n, value in seconds.items() if value is not None
            )
            result = result_of(line["run"] | {"params": {}, "records": [], "log": []})
            if versions.get(result.key) == tuple(line["version"]):
                briefs[result.key] = replace(result, records=records)
    return briefs


def _parsed(lines: list[bytes]) -> list[Any]:
    """Return the values of lines; all at once where none is damaged, which is much faster."""
    there = [line for line in lines if line]
    with suppress(RefusedError):
        return list(parse_json(b"[" + b",".join(there) + b"]", "lines"))
    values = []
    for line in there:
        with suppress(RefusedError):
            values.append(parse_json(line, "a line"))
    return values


def _versions(folder: Path) -> dict[str, _Version]:
    """Return what tells the results of a folder from earlier ones, by key."""
    versions = {}
    with suppress(OSError), os.scandir(folder / "runs") as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                versions[entry.name.removesuffix(".json")] = _version(found)
    return versions


def _version(found: os.stat_result) -> _Version:
    return found.st_size, found.st_mtime_ns
