"""Audit bundles: a results folder as one zip file that proves to be unchanged and consistent.

A bundle holds the report, the tables, the runs behind them, the suite and the plug-in files; of
weights it holds the hashes only. ``MANIFEST.sha256`` lists every file as ``sha256sum -c`` reads
it, and the zip's comment is the SHA-256 of all bytes before it, so that a change anywhere shows.
Equal folders give equal bytes. Verifying reads, hashes and makes the tables again from the runs:
records, verdicts, hashes of weights, curves. It does not draw the pages and figures again, and does
not train again what the runs say. Nothing of a bundle is ever executed or written outside a
temporary folder.
"""

import csv
import hashlib
import io
import itertools
import re
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from unlearn_bench.analysis.table import sections
from unlearn_bench.analysis.verdict import as_csv as verdicts_csv
from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import readable_os_errors, refuse_links, write_atomically
from unlearn_bench.report.provenance import WEIGHTS, made, weights_csv
from unlearn_bench.results import curves
from unlearn_bench.results.facts import facts_of
from unlearn_bench.results.records import RunResult, as_csv, read_records, read_run, read_suite

MANIFEST = "MANIFEST.sha256"
# What a results folder may hold beside: locks, LaTeX's by-products, earlier bundles.
_FILES = (
    "suite.json",
    "suite.yaml",
    "tuned.yaml",
    "records.csv",
    "records.parquet",
    "curves.parquet",
    "verdicts.csv",
    "weights.csv",
    "report.html",
    "report.md",
    "report.tex",
)
# Of these, what follows from the runs.
_DERIVED = ("records.csv", "records.parquet", "verdicts.csv", "weights.csv", "curves.parquet")
_FOLDERS = ("figures", "plugins", "runs")
# More than any suite gives; a bundle that claims more is not read to its end.
MAX_FILES, MAX_BYTES = 200_000, 4 << 30
_DIGEST = 64


@dataclass(frozen=True)
class Verified:
    """What verifying found.

    Attributes:
        problems: One line each; none if the bundle is whole.
        files: How many files the manifest lists.
        runs: From how many runs the tables follow.
        tables: Those that were made again from the runs.
        manifest: SHA-256 of the manifest: the bundle's identity, to be published beside it.
    """

    problems: tuple[str, ...]
    files: int = 0
    runs: int = 0
    manifest: str = ""
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Contents:
    """The files of a bundle by name, readable one at a time, and what is wrong with the rest."""

    sizes: Mapping[str, int]
    read: Callable[[str], bytes]
    problems: tuple[str, ...]


def write_bundle(folder: Path, target: Path) -> Verified:
    """Write the bundle of a results folder whose report is up to date.

    Raises:
        OutputError: If the folder lacks what a bundle needs, or its tables do not follow from
            its runs; nothing is written then.
    """
    with readable_os_errors("read", folder):
        contents = {name: (folder / name).read_bytes() for name in _chosen(folder)}
    data = _zipped(contents)
    found = _verify(_in_zip(data), _seal_problems(data))
    if found.problems:
        raise OutputError(f"{folder} cannot be bundled: {'; '.join(found.problems[:5])}")
    write_atomically(target, data)
    return found


def verify(bundle: Path) -> Verified:
    """Check a bundle, zipped or unpacked, against its manifest and its own runs.

    Raises:
        OutputError: If there is no such file or folder.
    """
    if bundle.is_dir():
        return _verify(_in_folder(bundle), ())
    if not bundle.exists():
        raise OutputError(
            f"{bundle} does not exist; give a bundle's zip file, or the folder it was unpacked into"
        )
    with readable_os_errors("read", bundle):
        if bundle.stat().st_size > MAX_BYTES:
            return Verified((f"larger than {MAX_BYTES >> 30} GiB: not read",))
        data = bundle.read_bytes()
    try:
        return _verify(_in_zip(data), _seal_problems(data))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        return Verified((f"not a readable zip file: {error}",))


def _chosen(folder: Path) -> Iterator[str]:
    """Name the files of a results folder that belong into its bundle, in order.

    Raises:
        OutputError: If one of them is a link: it would pack what lies elsewhere.
    """
    planned = {f"{key}.json" for key in read_suite(folder).get("plan") or ()}
    refuse_links(folder, (*_FILES, *_FOLDERS))
    for name in _FILES:
        if (folder / name).is_file():
            yield name
    for place in _FOLDERS:
        for path in sorted((folder / place).rglob("*")):
            refuse_links(path.parent, (path.name,))
            of_other_plan = place == "runs" and path.name not in planned
            if path.is_file() and not path.name.startswith(".") and not of_other_plan:
                yield path.relative_to(folder).as_posix()


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    """Return a zip of the files and their manifest, the same bytes at every call."""
    lines = [f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        files = {MANIFEST: "".join(lines).encode()} | {n: contents[n] for n in sorted(contents)}
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # dated 1980: when it was written is nobody's business
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)
        archive.comment = b"0" * _DIGEST
    body = stream.getvalue()[:-_DIGEST]
    return body + hashlib.sha256(body).hexdigest().encode()


def _seal_problems(data: bytes) -> tuple[str, ...]:
    if hashlib.sha256(data[:-_DIGEST]).hexdigest().encode() == data[-_DIGEST:]:
        return ()
    return ("the zip file's bytes are not as they were written: its seal differs",)


def _in_zip(data: bytes) -> _Contents:
    """Look into a zip without unpacking it.

    Raises:
        zipfile.BadZipFile: If it is none.
    """
    archive = zipfile.ZipFile(io.BytesIO(data))
    entries = archive.infolist()
    problems = []
    if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
        too_much = f"holds more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB: not read"
        return _Contents({}, archive.read, (too_much,))
    times = Counter(entry.filename for entry in entries)
    sizes = {}
    for entry in entries:
        name = entry.filename
        if times[name] > 1:
            problems.append(f"{name!r} is there {times[name]} times")
        elif not _is_safe(name) or stat.S_ISLNK(entry.external_attr >> 16) or entry.is_dir():
            problems.append(f"{name!r} is not a plain file below the bundle")
        else:
            sizes[name] = entry.file_size
    return _Contents(sizes, archive.read, tuple(dict.fromkeys(problems)))


def _in_folder(folder: Path) -> _Contents:
    problems, sizes = [], {}
    paths = itertools.islice(sorted(folder.rglob("*")), MAX_FILES + 1)
    for number, path in enumerate(paths):
        name = path.relative_to(folder).as_posix()
        if number == MAX_FILES:
            problems.append(f"holds more than {MAX_FILES} files: the rest is not read")
        elif path.is_symlink() or not (path.is_file() or path.is_dir()):
            problems.append(f"{name!r} is not a plain file below the bundle")
        elif path.is_file():
            sizes[name] = path.stat().st_size
    if sum(sizes.values()) > MAX_BYTES:
        return _Contents({}, lambda _: b"", (f"holds more than {MAX_BYTES >> 30} GiB: not read",))
    return _Contents(sizes, lambda name: (folder / name).read_bytes(), tuple(problems))


def _is_safe(name: str) -> bool:
    """Whether a name stays below the folder that it is unpacked into, on any system."""
    parts = PurePosixPath(name).parts
    return (
        name == "/".join(parts)
        and not name.startswith("/")
        and not {"..", "."} & set(parts)
        and not re.search(r"[\\\x00-\x1f\x7f]|^[A-Za-z]:", name)
    )


def _verify(contents: _Contents, problems: tuple[str, ...]) -> Verified:
    problems += contents.problems
    if MANIFEST not in contents.sizes:
        return Verified((*problems, f"there is no {MANIFEST}: not a bundle, or not all of it"))
    try:
        manifest = contents.read(MANIFEST)
        listed, unreadable = _listed(manifest)
    except Exception as error:  # a damaged stream: zlib's own errors among others
        return Verified((*problems, f"{MANIFEST} cannot be read: {error}"))
    found = list(problems) + unreadable
    whole: dict[str, bytes] = {}
    for name, digest in listed.items():
        if name not in contents.sizes:
            found.append(f"{name}: listed, but not there")
            continue
        try:
            content = contents.read(name)
        except Exception as error:
            found.append(f"{name}: cannot be read: {error}")
            continue
        if hashlib.sha256(content).hexdigest() != digest:
            found.append(f"{name}: changed, its SHA-256 is not the listed one")
        elif name.startswith("runs/") or name in _FILES:
            whole[name] = content
    found += [f"{name}: not listed" for name in contents.sizes if name not in (*listed, MANIFEST)]
    runs = 0
    if not found:
        runs, inconsistent = _consistency(whole)
        found += inconsistent
    digest = hashlib.sha256(manifest).hexdigest()
    tables = tuple(name for name in _DERIVED if name in whole) if not found else ()
    return Verified(tuple(found), len(listed), runs, digest, tables)


def _listed(manifest: bytes) -> tuple[dict[str, str], list[str]]:
    listed: dict[str, str] = {}
    problems = []
    for number, line in enumerate(manifest.decode().split("\n")[:-1], 1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None or match[2] in listed or not _is_safe(match[2]):
            problems.append(f"{MANIFEST}:{number}: not a line of a SHA-256 and a file's name")
        else:
            listed[match[2]] = match[1]
    if not manifest.endswith(b"\n"):
        problems.append(f"{MANIFEST}: does not end with its last line")
    return listed, problems


def _consistency(files: Mapping[str, bytes]) -> tuple[int, list[str]]:
    """Make the tables again from the runs; return the number of runs, and what differs."""
    needed = [name for name in ("suite.json", "records.csv") if name not in files]
    if needed:
        return 0, [f"{name} is missing" for name in needed]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        (place / "runs").mkdir()
        for name, content in files.items():
            # Two levels at most, and names that _is_safe let pass.
            if len(PurePosixPath(name).parts) <= 2:
                (place / name).write_bytes(content)
        try:
            plan = [str(key) for key in read_suite(place).get("plan") or ()]
            # A key is part of a path: it must not lead out of the folder.
            strange = [key for key in plan if not re.fullmatch(r"[A-Za-z0-9][\w:.-]*", key)]
            if strange:
                return 0, [f"suite.json: {strange[0]!r} is not the key of a run"]
            told = set(read_records(place)["run_key"].astype(str))
            absent = sorted(key for key in told if f"runs/{key}.json" not in files)
            if absent:
                what = "runs/" if len(absent) == len(told) else f"runs/{absent[0]}.json"
                return 0, [
                    f"{what} is missing: {len(absent)} of the {len(told)} runs in records.csv have "
                    "no file there, and reports are committed without them"
                ]
            results = [result for key in plan if (result := read_run(place, key))]
            problems = _differences("records.csv", files, as_csv(results))
            if not problems:
                problems = _other_differences(place, files, results)
        except (OutputError, ValueError, KeyError, TypeError, AttributeError) as error:
            return 0, [f"the tables cannot be made from the runs: {error}"]
    planned = {f"runs/{key}.json" for key in plan}
    problems += [
        f"{name}: of no planned run"
        for name in files
        if name.startswith("runs/") and name not in planned
    ]
    return len(results), problems


def _other_differences(
    place: Path, files: Mapping[str, bytes], results: Sequence[RunResult]
) -> list[str]:
    """Compare the tables that the runs give beside ``records.csv``, as far as they are there."""
    records = read_records(place)
    problems = _differences(
        "verdicts.csv", files, verdicts_csv(sections(records, facts_of(read_suite(place))))
    )
    (place / WEIGHTS).unlink(missing_ok=True)  # it would stand in for what the runs do not say
    problems += _differences(WEIGHTS, files, weights_csv(made(place, records)))
    problems += _parquet_differences(place / "records.parquet", records, "records.csv")
    problems += _parquet_differences(place / curves.FILE, curves.table(results), "the runs")
    return problems


def _differences(name: str, files: Mapping[str, bytes], derived: str) -> list[str]:
    """Compare two CSV texts; numbers are equal if their values are, however they are written."""
    given = files[name].decode() if name in files else derived
    if given == derived:
        return []
    tables = [list(csv.reader(io.StringIO(text))) for text in (given, derived)]
    head = tables[0][0] if tables[0] else []
    for number, (one, other) in enumerate(zip(*tables, strict=False), 1):
        if len(one) != len(other):
            return [f"{name}:{number}: has {len(one)} cells, the runs give {len(other)}"]
        for column, left, right in zip(head, one, other, strict=False):
            if left != right and not _same_number(left, right):
                return [f"{name}:{number}: {column} is {left!r}, the runs give {right!r}"]
    lines = [len(table) for table in tables]
    if lines[0] != lines[1]:
        return [f"{name}: has {lines[0]} lines, the runs give {lines[1]}"]
    return []


def _same_number(left: str, right: str) -> bool:
    try:
        return float(left) == float(right)
    except ValueError:
        return False


def _parquet_differences(path: Path, expected: pd.DataFrame, source: str) -> list[str]:
    if not path.exists():
        return []
    try:
        given = pd.read_parquet(path)
        for column in expected.columns:
            left, right = given[column], expected[column]
            if (
                len(left) != len(right)
                or not ((left == right) | (left.isna() & right.isna())).all()
            ):
                return [f"{path.name}: {column} is not that of {source}"]
    except Exception as error:  # whatever a damaged or foreign file makes the reader raise
        return [f"{path.name}: cannot be read: {error}"]
    return []
