"""Curves are kept beside the records, in long form, and read again without the runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import OutputError
from unlearn_bench.results.curves import COLUMNS, MOST_POINTS, read_curves, table, write_curves
from unlearn_bench.results.records import Curve, RunResult, read_run, write_run

ROC = Curve("roc", "mia_loss", (0.0, 0.5, 1.0), (0.25, 0.75, 1.0), n=40)


def result(**changes: Any) -> RunResult:
    values = {
        "key": "k",
        "method": "pbu",
        "kind": "method",
        "dataset": "digits",
        "model": "lenet",
        "scenario": "class:8",
        "seed": 3,
        "params": {},
        "status": "ok",
        "curves": (ROC,),
        "log": ({"step": 0.0, "loss": 2.0, "norm": None}, {"step": 1.0, "loss": None, "norm": 7.0}),
    }
    return RunResult(**(values | changes))


def test_every_point_is_a_row_and_comes_back(tmp_path: Path) -> None:
    write_curves(tmp_path, [result(), result(key="j", seed=4, log=(), curves=())])
    curves = read_curves(tmp_path)
    assert curves is not None and tuple(curves.columns) == COLUMNS
    rows = curves[["curve", "series", "n", "x", "y"]].to_numpy().tolist()
    assert rows == [
        ["roc", "mia_loss", 40, 0.0, 0.25],
        ["roc", "mia_loss", 40, 0.5, 0.75],
        ["roc", "mia_loss", 40, 1.0, 1.0],
        ["training", "loss", 0, 0.0, 2.0],
        ["training", "norm", 0, 1.0, 7.0],
    ]
    assert set(curves["method"]) == {"pbu"} and set(curves["seed"]) == {3}


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    first = write_curves(tmp_path / "a", [result()]).read_bytes()
    assert write_curves(tmp_path / "b", [result()]).read_bytes() == first


def test_a_long_log_is_thinned_and_keeps_its_end() -> None:
    log = tuple({"step": float(i), "loss": float(i)} for i in range(1999))
    points = table([result(log=log, curves=())])
    assert MOST_POINTS / 2 < len(points) <= MOST_POINTS
    assert points["x"].iloc[-1] == 1998 and points["x"].diff().dropna().nunique() == 1


def test_failed_runs_and_empty_suites_have_no_curves(tmp_path: Path) -> None:
    assert table([result(status="failed", error="boom")]).empty
    write_curves(tmp_path, [])
    curves = read_curves(tmp_path)
    assert curves is not None and curves.empty


def test_a_finished_run_gives_the_curves_that_it_gave_when_it_ended(tmp_path: Path) -> None:
    ended = result(log=({"step": 0.0, "loss": 2.0, "distance": 1.0},))
    write_run(tmp_path, ended)
    again = read_run(tmp_path, "k")
    assert again is not None and table([again]).equals(table([ended]))
    assert table([again])["series"].tolist()[-2:] == ["loss", "distance"]


def test_a_run_keeps_its_curves_and_an_older_file_has_none(tmp_path: Path) -> None:
    write_run(tmp_path, result())
    assert read_run(tmp_path, "k") == result()
    path = tmp_path / "runs" / "k.json"
    path.write_text(path.read_text().replace('"curves"', '"_"'))
    with pytest.raises(OutputError):
        read_run(tmp_path, "k")
    write_run(tmp_path, result(curves=()))
    older = json.loads(path.read_text())
    del older["curves"], older["check"]
    path.write_text(json.dumps(older))
    assert read_run(tmp_path, "k") == result(curves=())


def test_a_folder_without_curves_has_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert read_curves(tmp_path) is None
    (tmp_path / "curves.parquet").write_text("no")
    with pytest.raises(OutputError, match=r"curves\.parquet is not a table of curves"):
        read_curves(tmp_path)
