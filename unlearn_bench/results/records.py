"""Results of a suite on disk: one JSON file per run, one long table over all of them.

A results folder holds::

    suite.json      what was asked: the resolved suite and the keys of its runs
    runs/KEY.json   what one run gave: its records, curves, log and costs, or why it failed
    records.csv     every record of every planned run, long form, columns in COLUMNS;
                    records.parquet, written with the report, has the same rows, and is read
                    where there is no CSV
    curves.parquet  every point of what was measured as a curve (curves.py)

Each file is replaced atomically, so a killed process leaves either a finished run or none. A run's
file carries a checksum; one that is damaged is put aside as ``damaged/KEY-NUMBER.json``.
"""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unlearn_bench.core.errors import OutputError, RefusedError, one_line
from unlearn_bench.core.files import readable_os_errors, write_atomically, write_if_changed
from unlearn_bench.core.keys import content_key
from unlearn_bench.core.reading import JSON_BYTES, MIB, parse_json, read_bytes
from unlearn_bench.results import tables
from unlearn_bench.results.checks import (
    KINDS,
    MAX_SEED_DIGITS,
    NUMBERS,
    STATUSES,
    are_numbers,
    as_cells,
    as_name,
    checked,
    checked_records,
    is_key,
    number,
)
from unlearn_bench.results.ratios import with_time_ratios

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "method",
    "dataset",
    "model",
    "scenario",
    "seed",
    "metric",
    "split",
    "value",
    "low",
    "high",
    "status",
    "error",
    "kind",
    "params",
    "run_key",
    "gap_error",
)

# Columns that earlier tables lack: read as if empty.
LATER = ("gap_error",)

# Whole numbers, 0 where a suite has but one: which unlearning from the same original, from 0, and
# which request of a stream, from 1. A table without either has no such column.
PLACES = ("draw", "request")

Status = Literal["ok", "failed", "unresolved", "not_applicable"]

# Raise when an evaluation records something else than before: old results are then computed again.
EVALUATION = 6

# Raise when the files of a results folder are named or laid out otherwise, and let `read_suite`
# read those of before. A folder of a later version is refused.
FORMAT = 1


# Of records.csv and of one line in it.
RECORDS_BYTES, MAX_LINE, MAX_ROWS = 1024 * MIB, 1 * MIB, 3_000_000

_SUITE: Mapping[str, type] = {
    **dict.fromkeys(("suite", "methods", "metrics", "environment", "origin"), Mapping),
    **dict.fromkeys(("plan", "notes", "runs", "unlearned"), list),
    **dict.fromkeys(("command", "started", "device", "original"), str),
}
_RUN: Mapping[str, type] = {
    **dict.fromkeys(("key", "method", "kind", "dataset", "model", "scenario"), str),
    **dict.fromkeys(("status", "error"), str),
    **dict.fromkeys(("params", "metric_seconds", "environment", "hashes"), Mapping),
    "surrogates": Mapping,
    **dict.fromkeys(("records", "log", "curves"), list),
    **dict.fromkeys(("seed", *PLACES), int),
}


class DamagedResultError(OutputError):
    """A run's file that is not what was written."""


@dataclass(frozen=True)
class Record:
    """One measured number of one run.

    Attributes:
        metric: Name as `unlearn-bench list metrics` shows it.
        split: Examples it was measured on: ``forget``, ``retain``, ``test_forget``,
            ``test_retain``, several joined by ``+``, or ``""`` where no examples are involved.
        value: The number; accuracies are fractions. None if there is none.
        low: Lower end of the 95 % interval over examples, where the metric has one.
        high: Upper end of it.
        status: ``ok``; ``unresolved`` if it cannot be measured here, ``not_applicable`` if it makes
            no sense for this model or scenario; the value is then None.
        reason: Why there is no value.
        gap_error: Standard error over examples of the difference to the retrained model of the same
            seed, from the differences of paired examples; None where there is none.
    """

    metric: str
    split: str
    value: float | None
    low: float | None = None
    high: float | None = None
    status: Status = "ok"
    reason: str = ""
    gap_error: float | None = None


@dataclass(frozen=True)
class Curve:
    """Something measured as a function of something else.

    Attributes:
        curve: What kind it is, such as ``roc``.
        series: Which one of that kind, such as ``mia_loss``.
        x: Positions, ascending.
        y: Values there.
        n: Examples that ``x`` is counted over; 0 where it is no share of examples.
    """

    curve: str
    series: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    n: int = 0


@dataclass(frozen=True)
class RunResult:
    """Everything one run left behind.

    Attributes:
        key: Hash of all that determines the run.
        method: Label under which the run is reported.
        kind: ``method``, ``reference`` (retraining) or ``control``.
        scenario: What was forgotten, such as ``class:8``.
        params: Hyper-parameters in force, defaults included.
        error: Why the run failed; of a finished one, what kept it from being complete, so that
            it is evaluated again when the suite is continued.
        log: What the method logged, one mapping of names to numbers per entry.
        metric_seconds: CPU seconds that the metrics took, by what computed them.
        environment: Hardware and library versions that produced the figures.
        hashes: SHA-256 of what went in and came out: ``data``, ``method_file``, and of the
            weights ``original``, ``unlearned`` and ``retrained``, as far as the run came.
        curves: What was measured as a curve, the ROC of attacks for one.
        draw: Which of several unlearnings from the same original, from 0.
        request: Which request of a stream, from 1; 0 where nothing comes after the other.
        surrogates: Of the surrogate images that the method was handed: ``name``, ``images``, how
            many, and ``digest``, of the dataset; empty where there were none.
    """

    key: str
    method: str
    kind: str
    dataset: str
    model: str
    scenario: str
    seed: int
    params: Mapping[str, Any]
    status: Status
    error: str = ""
    records: tuple[Record, ...] = ()
    log: tuple[Mapping[str, float], ...] = ()
    metric_seconds: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    draw: int = 0
    request: int = 0
    surrogates: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the long-form rows; a failed run is one row that carries its reason."""
        head = {
            "method": as_name(self.method),
            "dataset": as_name(self.dataset),
            "model": as_name(self.model),
            "scenario": as_name(self.scenario),
            "seed": self.seed,
            "kind": self.kind,
            "params": json.dumps(dict(self.params), sort_keys=True),
            "run_key": self.key,
            **{place: getattr(self, place) for place in PLACES},
        }
        if self.status != "ok":
            return [
                head
                | {
                    "metric": "",
                    "split": "",
                    "value": None,
                    "status": self.status,
                    "error": as_name(self.error),
                }
            ]
        # asdict would copy in depth.
        measured = [
            dict(vars(record)) | {"split": as_name(record.split)} for record in self.records
        ]
        return [{"error": as_name(record.pop("reason"))} | head | record for record in measured]


def run_file(folder: Path, key: str) -> Path:
    """Return the file of a run's result.

    Raises:
        OutputError: If the key is no plain name: it might lead out of the folder.
    """
    if not is_key(key):
        raise OutputError(
            f"{folder}: {one_line(key)!r} is not the key of a run; its records are "
            "damaged or made up"
        )
    return folder / "runs" / f"{key}.json"


def write_run(folder: Path, result: RunResult) -> None:
    """Store one run's result as ``runs/KEY.json``, atomically, with a checksum."""
    # asdict would copy every number.
    parts = {name: [vars(part) for part in getattr(result, name)] for name in ("records", "curves")}
    # Through JSON first: the checksum is of what a reader will find.
    stored = json.loads(json.dumps(vars(result) | parts, allow_nan=False))
    stored["check"] = content_key(stored)
    # In the order given, so that what is read is what was written: curves follow the log's order.
    text = json.dumps(stored, indent=1, allow_nan=False)
    write_atomically(run_file(folder, result.key), text + "\n")


def read_run(folder: Path, key: str) -> RunResult | None:
    """Return the stored result of the run ``key``, or None if there is none.

    Raises:
        DamagedResultError: If the file is there but is not that run's result.
        OutputError: If it cannot be read.
    """
    path = run_file(folder, key)
    try:
        stored = parse_json(read_bytes(path, JSON_BYTES, links=False), path.name)
        if not isinstance(stored, dict):
            raise ValueError("it is not a mapping")
        # Results from before there were checksums have none.
        if stored.pop("check", None) not in (None, content_key(stored)):
            raise ValueError("its checksum differs")
        if stored["key"] != key:
            raise ValueError(f"it is that of {stored['key']}")
        return result_of(stored)
    except FileNotFoundError:
        return None
    except (RefusedError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedResultError(
            f"{path} is not a run's result ({error}); delete it and run the suite again"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


def result_of(stored: dict[str, Any]) -> RunResult:
    """Return the result that a run's file holds.

    Raises:
        ValueError, KeyError, TypeError: If it holds something else.
    """
    checked(stored, _RUN)
    if stored["kind"] not in KINDS or stored["status"] not in STATUSES:
        raise ValueError(f"its kind is {stored['kind']!r}, its status {stored['status']!r}")
    for place in ("seed", *PLACES):
        value = stored.get(place, 0)
        if isinstance(value, bool) or abs(value) >= 10**MAX_SEED_DIGITS:
            raise ValueError(f"its {place} is {value}")
    stored["records"] = tuple(map(_record_of, stored["records"]))
    stored["log"] = tuple(
        {name: number(value, f"{name} in its log") for name, value in entry.items()}
        for entry in stored["log"]
    )
    stored["curves"] = tuple(map(_curve_of, stored.get("curves", ())))
    return RunResult(**stored)


def _record_of(stored: dict[str, Any]) -> Record:
    checked(stored, {"metric": str, "split": str, "status": str, "reason": str}, "a record's ")
    record = Record(**stored)
    numbers = {name: value for name in NUMBERS if (value := stored.get(name)) is not None}
    if not are_numbers(list(numbers.values())):
        for name, value in numbers.items():
            number(value, f"the {name} of {record.metric}")
    if record.status not in STATUSES:
        raise ValueError(f"the status of {record.metric} is {record.status!r}")
    return record


def _curve_of(stored: dict[str, Any]) -> Curve:
    checked(stored, {"curve": str, "series": str, "x": list, "y": list, "n": int}, "a curve's ")
    if not (are_numbers(stored["x"]) and are_numbers(stored["y"])):
        raise ValueError(f"a point of {stored['series']} is not a pair of numbers")
    if len(stored["x"]) != len(stored["y"]) or not 0 <= stored.get("n", 0) < 1 << 62:
        raise ValueError(f"the points of {stored['series']} are not as many as they have to be")
    return Curve(**stored | {"x": tuple(stored["x"]), "y": tuple(stored["y"])})


def put_run_aside(folder: Path, key: str) -> Path:
    """Move a damaged result out of the way and return where to.

    Raises:
        OutputError: If the file system refuses.
    """
    path, number = run_file(folder, key), 1
    while (place := folder / "damaged" / f"{key}-{number}.json").exists():
        number += 1
    with readable_os_errors("put aside the damaged", path):
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    return place


def table(results: Iterable[RunResult]) -> "pd.DataFrame":
    """Return all rows of ``results`` in long form: :data:`COLUMNS`, and those places that vary."""
    import pandas as pd

    rows = [row for result in results for row in result.rows()]
    varying = [place for place in PLACES if any(row[place] for row in rows)]
    return pd.DataFrame(rows, columns=[*COLUMNS, *varying])


def with_places(records: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table that has all of :data:`PLACES`, 0 where it had no such column."""
    return records.assign(**{p: 0 for p in PLACES if p not in records.columns})


def as_csv(results: Iterable[RunResult]) -> str:
    """Return the text of ``records.csv``: all rows of the planned runs, time ratios appended."""
    return as_cells(with_time_ratios(table(results))).to_csv(index=False)


def as_parquet(records: "pd.DataFrame") -> bytes:
    """Return the content of ``records.parquet``: the rows of ``records.csv``, typed."""
    numbers = dict.fromkeys(NUMBERS, "float64") | {"seed": "int64"}
    numbers |= dict.fromkeys(PLACES, "int64")
    types = {column: numbers.get(column, "str") for column in records.columns}
    stream = io.BytesIO()
    records.astype(types).to_parquet(stream, index=False)
    return stream.getvalue()


def write_records(folder: Path, results: Iterable[RunResult]) -> Path:
    """Write ``records.csv`` from the results of the planned runs and return its path.

    A file that has the very content already is left alone.
    """
    path = folder / "records.csv"
    write_if_changed(path, as_csv(results))
    return path


def read_records(folder: Path) -> "pd.DataFrame":
    """Read ``records.csv`` of a results folder, columns as in :data:`COLUMNS`.

    Where there is none, as in reports kept in git, ``records.parquet`` has the same rows.

    Raises:
        OutputError: If the folder has none that can be read, or a cell is not what it has to be.
    """
    path = tables.source_of(folder) or folder / tables.CSV
    typed = path.name == tables.PARQUET
    if typed:
        required = [column for column in COLUMNS if column not in LATER]
        records = tables.parquet_cells(path, required, (*LATER, *PLACES), MAX_ROWS)
    else:
        data = _read(folder, path.name, RECORDS_BYTES)
        records = tables.csv_cells(path, data, MAX_ROWS, MAX_LINE)
    records = records.assign(**{name: "" for name in LATER if name not in records.columns})
    missing = [column for column in COLUMNS if column not in records.columns]
    if missing:
        raise OutputError(f"{path} lacks the columns {', '.join(missing)}")
    places = [place for place in PLACES if place in records.columns]
    return checked_records(records[[*COLUMNS, *places]], str(path), typed=typed)


def read_suite(folder: Path) -> dict[str, Any]:
    """Read ``suite.json`` of a results folder.

    Raises:
        OutputError: If it is missing, damaged, or of a later version.
    """
    path = folder / "suite.json"
    try:
        stored = parse_json(_read(folder, path.name, JSON_BYTES), str(path))
        if not isinstance(stored, dict):
            raise ValueError("it is not a mapping")
        # Folders from before there were numbers are of the first format.
        if (found := stored.get("format", FORMAT)) != FORMAT:
            raise OutputError(
                f"{path} is of format {found}, this version reads {FORMAT}: upgrade unlearn-bench, "
                "or use another folder"
            )
        checked(stored, _SUITE, null=True)
        # The keys name files: one that led out of the folder would have others read.
        for key in stored.get("plan") or ():
            if not is_key(key):
                raise ValueError(f"{str(key)[:60]!r} in its plan is not the key of a run")
    except (RefusedError, ValueError) as error:
        raise OutputError(f"{path} is damaged: {error}; choose another --out") from error
    return stored


def _read(folder: Path, name: str, limit: int) -> bytes:
    """Return the content of a file of a results folder.

    Raises:
        OutputError: If it is missing, too large or no regular file, or cannot be read.
    """
    try:
        return read_bytes(folder / name, limit, links=False)
    except FileNotFoundError:
        raise OutputError(
            f"{folder} holds no {name}; give the folder that `unlearn-bench run` wrote"
        ) from None
    except NotADirectoryError:
        raise OutputError(
            f"{folder} is a file; give the folder that `unlearn-bench run` wrote"
        ) from None
    except OSError as error:
        raise OutputError(f"cannot read {folder / name}: {error.strerror}") from error
    except RefusedError as error:
        raise OutputError(f"{error}; give the folder that `unlearn-bench run` wrote") from None
