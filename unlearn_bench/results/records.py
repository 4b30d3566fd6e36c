"""Results of a suite on disk: one JSON file per run, one long table over all of them.

A results folder holds::

    suite.json      what was asked: the resolved suite and the keys of its runs
    runs/KEY.json   what one run gave: its records, curves, log and costs, or why it failed
    records.csv     every record of every planned run, long form, columns in COLUMNS;
                    records.parquet, written with the report, has the same rows
    curves.parquet  every point of what was measured as a curve (curves.py)

Each file is replaced atomically, so a killed process leaves either a finished run or none. A run's
file carries a checksum; one that is damaged is put aside as ``damaged/KEY-NUMBER.json``.
"""

import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from unlearn_bench.core.errors import OutputError, one_line
from unlearn_bench.core.files import readable_os_errors, write_atomically, write_if_changed
from unlearn_bench.core.keys import content_key

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
)

Status = Literal["ok", "failed", "unresolved", "not_applicable"]

# Raise when an evaluation records something else than before: old results are then made anew.
EVALUATION = 3

# Raise when the files of a results folder are named or laid out otherwise, and let `read_suite`
# read those of before. A folder of a later version is refused.
FORMAT = 1


_KEY = re.compile(r"[A-Za-z0-9][\w:.-]*")


class DamagedResultError(OutputError):
    """A run's file that is not what was written."""


@dataclass(frozen=True)
class Record:
    """One measured number of one run.

    Attributes:
        metric: Name as `unlearn-bench list metrics` shows it.
        split: Examples it was measured on: ``forget``, ``retain``, ``test_forget``,
            ``test_retain``, several joined by ``+``, or ``""`` where no examples are involved.
        value: The number; accuracies are fractions. None when there is no number to give.
        low: Lower end of the 95 % interval over examples, where the metric has one.
        high: Upper end of it.
        status: ``ok``; ``unresolved`` when it cannot be said here, ``not_applicable`` when the
            question makes no sense for this model or scenario; the value is then None.
        reason: Why there is no value.
    """

    metric: str
    split: str
    value: float | None
    low: float | None = None
    high: float | None = None
    status: Status = "ok"
    reason: str = ""


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
        scenario: Who was forgotten, such as ``class:8``.
        params: Hyper-parameters in force, defaults included.
        error: Why the run failed; of a finished one, what kept it from being complete, so that
            it is evaluated again when the suite is continued.
        log: What the method logged, one mapping of names to numbers per entry.
        metric_seconds: CPU seconds that the metrics took, by what computed them.
        environment: Hardware and library versions that produced the figures.
        hashes: SHA-256 of what went in and came out: ``data``, ``method_file``, and of the
            weights ``original``, ``unlearned`` and ``retrained``, as far as the run came.
        curves: What was measured as a curve, the ROC of attacks for one.
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

    def rows(self) -> list[dict[str, Any]]:
        """Return the long-form rows; a failed run is one row that carries its reason."""
        head = {
            "method": self.method,
            "dataset": self.dataset,
            "model": self.model,
            "scenario": self.scenario,
            "seed": self.seed,
            "kind": self.kind,
            "params": json.dumps(dict(self.params), sort_keys=True),
            "run_key": self.key,
        }
        if self.status != "ok":
            return [
                head
                | {
                    "metric": "",
                    "split": "",
                    "value": None,
                    "status": self.status,
                    "error": self.error,
                }
            ]
        measured = [dict(vars(record)) for record in self.records]  # asdict would copy in depth
        return [{"error": record.pop("reason")} | head | record for record in measured]


def run_file(folder: Path, key: str) -> Path:
    """Return the file of a run's result.

    Raises:
        OutputError: If the key is no plain name: it might lead out of the folder.
    """
    if not _KEY.fullmatch(key):
        raise OutputError(
            f"{folder}: {one_line(key)!r} is not the key of a run; its records are "
            "damaged or made up"
        )
    return folder / "runs" / f"{key}.json"


def write_run(folder: Path, result: RunResult) -> None:
    """Store one run's result as ``runs/KEY.json``, atomically, with a checksum."""
    # Through JSON first: the checksum is of what a reader will find.
    stored = json.loads(json.dumps(asdict(result), allow_nan=False))
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
        stored = json.loads(path.read_bytes())
        # Results from before there were checksums have none.
        if stored.pop("check", None) not in (None, content_key(stored)):
            raise ValueError("its checksum differs")
        if stored["key"] != key:
            raise ValueError(f"it is that of {stored['key']}")
        stored["records"] = tuple(Record(**record) for record in stored["records"])
        stored["log"] = tuple(stored["log"])
        stored["curves"] = tuple(
            Curve(**curve | {"x": tuple(curve["x"]), "y": tuple(curve["y"])})
            for curve in stored.get("curves", ())
        )
        return RunResult(**stored)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedResultError(
            f"{path} is not a run's result ({error}); delete it and run the suite again"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


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


def table(results: Iterable[RunResult]) -> pd.DataFrame:
    """Return all rows of ``results`` in long form, columns as in :data:`COLUMNS`."""
    rows = [row for result in results for row in result.rows()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def with_time_ratios(records: pd.DataFrame) -> pd.DataFrame:
    """Append what relates a run's time to retraining's: two metrics that one run cannot know.

    ``time_ratio_to_retrain`` is seconds to unlearn over seconds to retrain.
    ``break_even_requests`` is from how many requests on the method is cheaper, its
    precomputation done once: p / (r - (w - p)), left out where a request saves nothing.

    The reference is the retraining of the same dataset, model, scenario and seed; runs without
    a finished reference get neither.
    """
    pair = ["dataset", "model", "scenario", "seed"]
    seconds = records[records["metric"] == "wall_seconds"]
    reference = seconds[seconds["kind"] == "reference"].drop_duplicates(pair)
    both = seconds.merge(reference[[*pair, "value"]], on=pair, suffixes=("", "_reference"))
    if both.empty:
        return records
    both = both.assign(low=None, high=None)
    wall, retrain = both["value"].astype(float), both["value_reference"].astype(float)
    ratio = both.assign(metric="time_ratio_to_retrain", value=wall / retrain)
    once = records[records["metric"] == "wall_seconds_precompute"].set_index("run_key")["value"]
    precompute = both["run_key"].map(once[~once.index.duplicated()]).astype(float)
    saved = retrain - (wall - precompute)
    pays = both.assign(metric="break_even_requests", value=precompute / saved)[saved > 0]
    pays = pays[pays["kind"] == "method"]
    added = [part[list(COLUMNS)].astype(object) for part in (ratio, pays) if len(part)]
    return pd.concat([records.astype(object), *added], ignore_index=True)


def as_csv(results: Iterable[RunResult]) -> str:
    """Return the text of ``records.csv``: all rows of the planned runs, time ratios appended."""
    return with_time_ratios(table(results)).to_csv(index=False)


def as_parquet(records: pd.DataFrame) -> bytes:
    """Return the content of ``records.parquet``: the rows of ``records.csv``, typed."""
    numbers = dict.fromkeys(("value", "low", "high"), "float64") | {"seed": "int64"}
    types = {column: numbers.get(column, "str") for column in COLUMNS}
    stream = io.BytesIO()
    records[list(COLUMNS)].astype(types).to_parquet(stream, index=False)
    return stream.getvalue()


def write_records(folder: Path, results: Iterable[RunResult]) -> Path:
    """Write ``records.csv`` from the results of the planned runs and return its path.

    A file that has the very content already is left alone.
    """
    path = folder / "records.csv"
    write_if_changed(path, as_csv(results))
    return path


def _number_or_nan(text: str) -> float:
    return float(text) if text else math.nan


def read_records(folder: Path) -> pd.DataFrame:
    """Read ``records.csv`` of a results folder, columns as in :data:`COLUMNS`.

    Raises:
        OutputError: If the folder has none that can be read, it lacks a column, or a seed or a
            key is none.
    """
    path = folder / "records.csv"
    try:
        # Only numbers may be missing: a method may be called "nan". They are read exactly, which
        # is not every parser's default, so that they compare equal to those of the runs.
        numbers = dict.fromkeys(("value", "low", "high"), _number_or_nan)
        records = pd.read_csv(path, keep_default_na=False, converters=numbers)
    except FileNotFoundError:
        raise OutputError(
            f"{folder} holds no records.csv; give the folder that `unlearn-bench run` wrote"
        ) from None
    except NotADirectoryError:
        raise OutputError(
            f"{folder} is a file; give the folder that `unlearn-bench run` wrote"
        ) from None
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise OutputError(f"{path} is not a table of records: {error}") from error
    missing = [column for column in COLUMNS if column not in records.columns]
    if missing:
        raise OutputError(f"{path} lacks the columns {', '.join(missing)}")
    for line, seed in enumerate(records["seed"].astype(str), 2):
        if re.fullmatch(r"-?\d{1,18}", seed) is None:
            raise OutputError(f"{path}:{line}: the seed is {seed!r}, and has to be a whole number")
    for key in records["run_key"].astype(str).unique():
        run_file(folder, key)
    return records


def read_suite(folder: Path) -> dict[str, Any]:
    """Read ``suite.json`` of a results folder.

    Raises:
        OutputError: If it is missing, damaged, or of a later version.
    """
    path = folder / "suite.json"
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError:
        raise OutputError(
            f"{folder} holds no suite.json; give the folder that `unlearn-bench run` wrote"
        ) from None
    except ValueError as error:
        raise OutputError(f"{path} is damaged: {error}; choose another --out") from error
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(stored, dict):
        raise OutputError(f"{path} is damaged: not a mapping; choose another --out")
    # Folders from before there were numbers are of the first format.
    if (found := stored.get("format", FORMAT)) != FORMAT:
        raise OutputError(
            f"{path} is of format {found}, this version reads {FORMAT}: upgrade unlearn-bench, or "
            "choose another --out"
        )
    plan = stored.get("plan")
    # The keys name files: one that led out of the folder would have others read.
    for key in plan if isinstance(plan, list) else ():
        if not _KEY.fullmatch(str(key)):
            raise OutputError(
                f"{path} is damaged: {key!r} is not the key of a run; choose another --out"
            )
    return stored
