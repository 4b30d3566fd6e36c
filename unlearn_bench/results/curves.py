"""Curves of a suite on disk: ``curves.parquet``, long form, one row per point.

Kept beside ``records.csv`` and written with it: what a method logged while it ran (``training``,
one series per logged name, x the step) and the ROC of membership attacks (``roc``, one series
per attack, x the false, y the true positive rate). Reading it takes no torch.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import write_if_changed
from unlearn_bench.results.records import Curve, RunResult

FILE = "curves.parquet"
COLUMNS = (
    "method",
    "dataset",
    "model",
    "scenario",
    "seed",
    "kind",
    "run_key",
    "curve",
    "series",
    "n",
    "x",
    "y",
)
TRAINING, ROC = "training", "roc"
# More points of one logged series than this do not show on any screen; runs/KEY.json has more.
MOST_POINTS = 200


def logged(result: RunResult) -> list[Curve]:
    """Return what the method logged, one curve per name, thinned evenly with the end kept."""
    names = dict.fromkeys(name for entry in result.log for name in entry if name != "step")
    found = []
    for name in names:
        points = [
            (float(entry.get("step", position)), float(value))
            for position, entry in enumerate(result.log)
            if (value := entry.get(name)) is not None
        ]
        if points:
            stride = -(-len(points) // MOST_POINTS)
            kept = points[::-1][::stride][::-1]
            x, y = zip(*kept, strict=True)
            found.append(Curve(TRAINING, name, x, y))
    return found


def table(results: Iterable[RunResult]) -> pd.DataFrame:
    """Return every point of every curve of ``results``, columns as in :data:`COLUMNS`."""
    parts = [
        pd.DataFrame(
            {
                "method": result.method,
                "dataset": result.dataset,
                "model": result.model,
                "scenario": result.scenario,
                "seed": result.seed,
                "kind": result.kind,
                "run_key": result.key,
                "curve": curve.curve,
                "series": curve.series,
                "n": curve.n,
                "x": curve.x,
                "y": curve.y,
            }
        )
        for result in results
        if result.status == "ok"
        for curve in (*result.curves, *logged(result))
    ]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def write_curves(folder: Path, results: Iterable[RunResult]) -> Path:
    """Write ``curves.parquet`` from the results of the planned runs and return its path."""
    path = folder / FILE
    types = {"seed": "int64", "n": "int64", "x": "float64", "y": "float64"}
    texts = dict.fromkeys(set(COLUMNS) - set(types), "str")
    buffer = io.BytesIO()
    table(results).astype(types | texts).to_parquet(buffer, index=False, compression="zstd")
    write_if_changed(path, buffer.getvalue())
    return path


def read_curves(folder: Path) -> pd.DataFrame | None:
    """Read ``curves.parquet`` of a results folder; None if it has none, as older ones.

    Raises:
        OutputError: If the file is there but is no table of curves.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        curves = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path} is not a table of curves ({error}); continue the suite to write it again"
        ) from error
    missing = [column for column in COLUMNS if column not in curves.columns]
    if missing:
        raise OutputError(f"{path} lacks the columns {', '.join(missing)}")
    return curves
