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
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from unlearn_bench.analysis.table import sections
from unlearn_bench.analysis.verdict import as_csv as verdicts_csv
from unlearn_bench.core.columns import read_columns
from unlearn_bench.core.errors import OutputError, RefusedError, one_line
from unlearn_bench.core.files import readable_os_errors, refuse_links, replacing
from unlearn_bench.core.quantities import size_text
from unlearn_bench.core.reading import CHUNK, MIB, opened, read_text
from unlearn_bench.core.text import shortened
from unlearn_bench.population.many import table as population_table
from unlearn_bench.report import many
from unlearn_bench.report.archive import (
    DIGEST,
    MAX_BYTES,
    MAX_FILES,
    Contents,
    NotABundleError,
    in_folder,
    in_zip,
    is_safe,
    listed,
    sealed,
)
from unlearn_bench.report.provenance import WEIGHTS, made, weights_csv
from unlearn_bench.results import curves
from unlearn_bench.results.checks import NUMBERS
from unlearn_bench.results.facts import facts_of
from unlearn_bench.results.records import (
    PLACES,
    RECORDS_BYTES,
    RunResult,
    as_csv,
    read_records,
    read_run,
    read_suite,
)
from unlearn_bench.results.tables import CSV, PARQUET, source_of

MANIFEST = "MANIFEST.sha256"
# What a results folder may hold beside: locks, LaTeX's by-products, earlier bundles.
_FILES = (
    "suite.json",
    "suite.yaml",
    "tuned.yaml",
    "published.yaml",
    "records.csv",
    "records.parquet",
    "curves.parquet",
    "verdicts.csv",
    "weights.csv",
    "population.parquet",
    "report.html",
    "report.md",
    "report.tex",
)
# Of these, what follows from the runs.
_DERIVED = (
    "records.csv",
    "records.parquet",
    "verdicts.csv",
    "weights.csv",
    "curves.parquet",
    "population.parquet",
)
_FOLDERS = ("figures", "plugins", "runs")
MANIFEST_BYTES = 32 * MIB
# Problems that are named one by one.
MOST_PROBLEMS = 100
_REAL = (*NUMBERS, "null_low", "null_high", "x", "y")


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


def write_bundle(folder: Path, target: Path) -> Verified:
    """Write the bundle of a results folder whose report is up to date.

    Raises:
        OutputError: If the folder lacks what a bundle needs, or its tables do not follow from
            its runs; nothing is written then.
    """
    with replacing(target) as stream:
        _zip(folder, [*_chosen(folder)], stream)
        try:
            with zipfile.ZipFile(stream) as archive:
                found = _verify(listed(archive))
        except (NotABundleError, zipfile.BadZipFile) as error:
            found = Verified((str(error),))
        if found.problems:
            raise OutputError(f"{folder} cannot be bundled: {'; '.join(found.problems[:5])}")
    return found


def verify(bundle: Path) -> Verified:
    """Check a bundle, zipped or unpacked, against its manifest and its own runs.

    Raises:
        OutputError: If there is no such file or folder.
    """
    if not bundle.exists():
        raise OutputError(
            f"{bundle} does not exist; give a bundle's zip file, or the folder it was unpacked into"
        )
    with readable_os_errors("read", bundle):
        try:
            if bundle.is_dir():
                return _verify(in_folder(bundle))
            with in_zip(bundle) as contents:
                return _verify(contents)
        except (NotABundleError, RefusedError) as error:
            return Verified((str(error),))
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


def _zip(folder: Path, names: Sequence[str], stream: IO[bytes]) -> None:
    """Write a zip of files and their manifest with its seal, the same bytes at every call.

    Raises:
        OutputError: If they are more or larger than a bundle may be, or cannot be read.
    """
    size = sum((folder / name).lstat().st_size for name in names)
    if len(names) >= MAX_FILES or size > MAX_BYTES:
        raise OutputError(
            f"{folder} cannot be bundled: it has {len(names):,} files of {size_text(size)}, and a "
            f"bundle holds {MAX_FILES:,} and {size_text(MAX_BYTES)}"
        )
    files = Contents(
        {name: (folder / name).lstat().st_size for name in names},
        lambda name: opened(folder / name, links=False),
    )
    with readable_os_errors("read", folder), zipfile.ZipFile(stream, "w") as archive:
        lines = [f"{files.digest(name)}  {name}\n" for name in sorted(names)]
        with archive.open(_entry(MANIFEST), "w") as target:
            target.write("".join(lines).encode())
        for name in sorted(names):
            entry = _entry(name)
            entry.file_size = files.sizes[name]
            with files.open(name) as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, CHUNK)
        archive.comment = b"0" * DIGEST
    stream.flush()
    seal = sealed(stream)[1]
    stream.seek(-DIGEST, os.SEEK_END)
    stream.write(seal.encode())
    stream.flush()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # dated 1980: when it was written is nobody's business
    entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _verify(contents: Contents) -> Verified:
    """Check every file against the manifest, and the tables against the runs."""
    problems = contents.problems
    if MANIFEST not in contents.sizes:
        return Verified((*problems, f"there is no {MANIFEST}: not a bundle, or not all of it"))
    try:
        manifest = contents.read(MANIFEST, MANIFEST_BYTES)
        named, unreadable = _listed(manifest)
    except Exception as error:  # a damaged stream: zlib's own errors among others
        return Verified((*problems, f"{MANIFEST} cannot be read: {error}"))
    found = [*problems, *unreadable]
    runs = 0
    tables: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        (place / "runs").mkdir()
        for name, digest in named.items():
            if name not in contents.sizes:
                found.append(f"{name}: listed, but not there")
                continue
            try:
                if contents.digest(name, place / name if _is_table(name) else None) != digest:
                    found.append(f"{name}: changed, its SHA-256 is not the listed one")
            except Exception as error:
                found.append(f"{name}: cannot be read: {one_line(str(error))}")
        extra = contents.sizes.keys() - named.keys() - {MANIFEST}
        found += [f"{name}: not listed" for name in sorted(extra)]
        if not found:
            present = tuple(name for name in _DERIVED if (place / name).exists())
            runs, found = _consistency(place)
            tables = () if found else present
    if len(found) > MOST_PROBLEMS:
        found = [*found[:MOST_PROBLEMS], f"and {len(found) - MOST_PROBLEMS:,} more problems"]
    return Verified(tuple(found), len(named), runs, hashlib.sha256(manifest).hexdigest(), tables)


def _is_table(name: str) -> bool:
    """Whether a file takes part in making the tables again."""
    return name in _FILES or re.fullmatch(r"runs/[^/]+", name) is not None


def _listed(manifest: bytes) -> tuple[dict[str, str], list[str]]:
    listed: dict[str, str] = {}
    problems = []
    for number, line in enumerate(manifest.decode().split("\n")[:-1], 1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None or match[2] in listed or not is_safe(match[2]):
            problems.append(f"{MANIFEST}:{number}: not a line of a SHA-256 and a file's name")
        else:
            listed[match[2]] = match[1]
    if not manifest.endswith(b"\n"):
        problems.append(f"{MANIFEST}: does not end with its last line")
    return listed, problems


def _consistency(place: Path) -> tuple[int, list[str]]:
    """Make the tables again from the runs; return the number of runs, and what differs."""
    source = source_of(place)
    missing = [] if (place / "suite.json").exists() else ["suite.json is missing"]
    if source is None:
        return 0, [*missing, f"{CSV} is missing"]
    if missing:
        return 0, missing
    there = {path.name for path in (place / "runs").iterdir()}
    try:
        suite, records = read_suite(place), read_records(place)
        plan = suite.get("plan") or ()
        told = set(records["run_key"])
        absent = sorted(key for key in told if f"{key}.json" not in there)
        if absent:
            what = "runs/" if len(absent) == len(told) else f"runs/{absent[0]}.json"
            return 0, [
                f"{what} is missing: {len(absent)} of the {len(told)} runs in {source.name} have "
                "no file there, and reports are committed without them"
            ]
        results = [result for key in plan if (result := read_run(place, key))]
        if source.name == PARQUET:  # which is compared below with the table that the runs give
            (place / CSV).write_text(as_csv(results), encoding="utf-8")
            records = read_records(place)
        problems = _differences(place / CSV, as_csv(results))
        if not problems:
            problems = _other_differences(place, suite, records, results)
    except (OutputError, RefusedError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = str(error).replace(f"{place}/", "")
        return 0, [f"the tables cannot be made from the runs: {said}"]
    planned = {f"{key}.json" for key in plan}
    problems += [f"runs/{name}: belongs to no planned run" for name in sorted(there - planned)]
    return len(results), problems


def _other_differences(
    place: Path, suite: Mapping[str, Any], records: pd.DataFrame, results: Sequence[RunResult]
) -> list[str]:
    """Compare the tables that the runs give beside ``records.csv``, as far as they are there."""
    verdicts = verdicts_csv(sections(records, facts_of(suite)))
    given = place / "verdicts.csv"
    # Of an earlier rule there are fewer columns, and other verdicts.
    if given.exists() and _head(given) != verdicts.partition("\n")[0].strip():
        verdicts = read_text(given, RECORDS_BYTES, links=False)
    problems = _differences(given, verdicts)
    weights = place / WEIGHTS
    aside = weights.with_name(f"given-{WEIGHTS}")
    if weights.exists():  # it would stand in for what the runs do not say
        weights.rename(aside)
    problems += _differences(aside, weights_csv(made(place, records)), WEIGHTS)
    if aside.exists():
        aside.rename(weights)
    problems += _parquet_differences(place / PARQUET, records, CSV)
    points = curves.table(results)
    problems += _parquet_differences(place / curves.FILE, points, "the runs")
    problems += _parquet_differences(place / many.FILE, population_table(points), curves.FILE)
    return problems


def _head(path: Path) -> str:
    return read_text(path, RECORDS_BYTES, links=False).partition("\n")[0].strip()


def _differences(path: Path, derived: str, name: str = "") -> list[str]:
    """Compare two CSV texts; numbers are equal if their values are, however they are written."""
    name = name or path.name
    given = read_text(path, RECORDS_BYTES, links=False) if path.exists() else derived
    if given == derived:
        return []
    try:
        tables = [list(csv.reader(io.StringIO(text))) for text in (given, derived)]
    except csv.Error as error:
        return [f"{name}: is not valid CSV: {error}"]
    head = tables[0][0] if tables[0] else []
    for number, (one, other) in enumerate(zip(*tables, strict=False), 1):
        if len(one) != len(other):
            return [f"{name}:{number}: has {len(one)} cells, the runs give {len(other)}"]
        for column, left, right in zip(head, one, other, strict=False):
            if left != right and not _same_number(left, right):
                shown = (repr(shortened(text, 60)) for text in (left, right))
                return [f"{name}:{number}: {column} is {', the runs give '.join(shown)}"]
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
    types = {name: _kind(name) for name in expected.columns}
    try:
        given = read_columns(path, types, curves.MAX_POINTS, empty=True).to_pandas()
    except RefusedError as error:
        return [f"{path.name}: cannot be read: {str(error).replace(f'{path.parent}/', '')}"]
    for column in expected.columns:
        left, right = given[column], expected[column]
        if len(left) != len(right) or not ((left == right) | (left.isna() & right.isna())).all():
            return [f"{path.name}: {column} is not that of {source}"]
    return []


def _kind(column: str) -> type:
    """Return the type of a column of records or curves."""
    return (
        int if column in ("seed", "n", "n_models", *PLACES) else float if column in _REAL else str
    )
