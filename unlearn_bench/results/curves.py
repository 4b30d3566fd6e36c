"""Curves of a suite on disk: ``curves.parquet``, long form, one row per point.

Kept beside ``records.csv`` and written with it: what a method logged while it ran (``training``,
one series per logged name, x the step), the ROC of membership attacks (``roc``, one series
per attack, x the false, y the true positive rate) and the scores of single examples (``scores``,
one series per split, x the example's index, y phi), and likewise how far examples are memorised
(``memorisation``), where the scenario is about that. Of several unlearnings from one original the
first has a place in it, and of a stream the last request: what is drawn, and taken together over
seeds, is one model of each seed. Reading it takes no torch.
"""

import io
import os
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearn_bench.core.columns import read_columns
from unlearn_bench.core.errors import OutputError, RefusedError
from unlearn_bench.core.files import write_if_changed
from unlearn_bench.core.text import readable
from unlearn_bench.results.checks import LARGEST, MAX_NAME_LENGTH, as_name
from unlearn_bench.results.records import Curve, RunResult

if TYPE_CHECKING:
    import pandas as pd

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
TRAINING, ROC, SCORES, MEMORISATION = "training", "roc", "scores", "memorisation"
# The series of scores that gives the class of each target of thirds.
TARGET_CLASS = "target_class"
# More points of one logged series than this do not show on any screen; runs/KEY.json has more.
MOST_POINTS = 200
# Of all curves of a folder together.
MAX_POINTS = 20_000_000

_NUMBERS: Mapping[str, type] = {"seed": int, "n": int, "x": float, "y": float}


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


def table(results: Iterable[RunResult]) -> "pd.DataFrame":
    """Return every point of every curve of ``results``, columns as in :data:`COLUMNS`."""
    import pandas as pd

    curves = [
        (result, curve)
        for result in _one_of_each_seed(results)
        for curve in (*result.curves, *logged(result))
    ]
    heads = pd.DataFrame(
        [
            {
                "method": readable(result.method),
                "dataset": readable(result.dataset),
                "model": readable(result.model),
                "scenario": readable(result.scenario),
                "seed": result.seed,
                "kind": result.kind,
                "run_key": result.key,
                "curve": curve.curve,
                "series": as_name(curve.series),
                "n": curve.n,
            }
            for result, curve in curves
        ],
        columns=COLUMNS[:-2],
    )
    # One table, for thousands of small ones take longer than all that they hold.
    points = heads.loc[heads.index.repeat([len(curve.x) for _, curve in curves])]
    x, y = (
        np.fromiter(chain.from_iterable(getattr(curve, axis) for _, curve in curves), float)
        for axis in ("x", "y")
    )
    return points.reset_index(drop=True).assign(x=x, y=y)


def _one_of_each_seed(results: Iterable[RunResult]) -> list[RunResult]:
    """Return the finished results without further unlearnings and earlier requests of streams."""
    finished = [result for result in results if result.status == "ok"]
    last: dict[str, int] = {}
    for result in finished:
        last[result.scenario] = max(result.request, last.get(result.scenario, 0))
    return [r for r in finished if r.draw == 0 and r.request == last[r.scenario]]


def write_curves(folder: Path, results: Iterable[RunResult]) -> Path:
    """Write ``curves.parquet`` from the results of the planned runs and return its path."""
    path = folder / FILE
    types = {"seed": "int64", "n": "int64", "x": "float64", "y": "float64"}
    texts = dict.fromkeys(set(COLUMNS) - set(types), "str")
    buffer = io.BytesIO()
    table(results).astype(types | texts).to_parquet(buffer, index=False, compression="zstd")
    write_if_changed(path, buffer.getvalue())
    return path


def read_curves(folder: Path) -> "pd.DataFrame | None":
    """Read ``curves.parquet`` of a results folder; None if it has none, as older ones.

    Texts are categories, for each stands in thousands of rows.

    Raises:
        OutputError: If the file is there but is no table of curves.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return None
    types = {column: _NUMBERS.get(column, str) for column in COLUMNS}
    try:
        stored = read_columns(path, types, MAX_POINTS, shared=True)
        # Column by column, each let go of when it is copied.
        curves: pd.DataFrame = stored.to_pandas(split_blocks=True, self_destruct=True)
        del stored
        for column, kind in types.items():
            if kind is str:
                curves[column] = _names(curves[column], column)
        for column in ("x", "y"):
            if not (curves[column].abs() <= LARGEST).all():
                raise ValueError(f"column {column} holds a number beyond {LARGEST:g}, or none")
        if (curves["n"] < 0).any():
            raise ValueError("column n holds a negative number")
    except (RefusedError, OSError, ValueError) as error:
        raise OutputError(
            f"{path} is not a table of curves ({error}); continue the suite to write it again"
        ) from error
    return curves


def _names(texts: "pd.Series[Any]", column: str) -> "pd.Series[Any]":
    """Return a column of categories with every name readable and none too long."""
    texts = texts.cat.remove_unused_categories()
    known = {text: readable(text) for text in texts.cat.categories}
    if max(map(len, known), default=0) > MAX_NAME_LENGTH:
        raise ValueError(f"column {column} holds a text longer than {MAX_NAME_LENGTH:,} characters")
    # Two may become one.
    return texts.map(known).astype("category")
