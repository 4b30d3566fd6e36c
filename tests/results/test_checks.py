"""Files of results that hold something else than results are refused with the place."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unlearn_bench.core.errors import OutputError
from unlearn_bench.results import checks, curves, records
from unlearn_bench.results.records import (
    COLUMNS,
    Curve,
    Record,
    RunResult,
    as_csv,
    read_records,
    read_run,
    read_suite,
    table,
    with_time_ratios,
    write_run,
)

few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
RUN = RunResult("k", "m", "method", "d", "n", "s", 0, {}, "ok", records=(Record("a", "f", 0.5),))


def csv_with(column: str, text: str, place: Path) -> Path:
    frame = table([RUN, RUN]).astype(object)
    frame.loc[1, column] = text
    frame.to_csv(place / "records.csv", index=False)
    return place


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("value", "inf", "the value is 'inf', and has to be a number of at most 1e[+]60 in size"),
        ("value", "-inf", "the value is '-inf'"),
        ("value", "NaN", "the value is 'NaN'"),
        ("value", "1e308", "the value is '1e308'"),
        ("low", "-1e61", "the low is '-1e61'"),
        ("high", "x", "the high is 'x'"),
        ("seed", "1.5", "the seed is '1.5', and has to be a whole number"),
        ("seed", "9" * 19, "the seed is '9999"),
        ("seed", "٣", "the seed is"),
        ("kind", "", "the kind is '', and has to be one of reference, control, method"),
        ("kind", "spy", "the kind is 'spy'"),
        ("status", "done", "the status is 'done', and has to be one of ok, failed"),
        ("run_key", "../../x", "the run_key is '../../x', and has to be the key of a run"),
        ("run_key", "k" * 300, "the run_key is"),
        ("method", "m" * 1001, "the method has 1,001 characters, and may have 1,000"),
        ("error", "e" * 100_001, "the error has 100,001 characters"),
    ],
)
def test_a_cell_that_is_none_of_a_record_is_named(
    column: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=rf"records\.csv:3: {message}"):
        read_records(csv_with(column, text, tmp_path))


@few
@given(text=st.floats(-checks.LARGEST, checks.LARGEST).map(repr) | st.sampled_from(["5e-324", ""]))
def test_numbers_are_read_exactly(text: str, tmp_path: Path) -> None:
    found = read_records(csv_with("value", text, tmp_path))["value"][1]
    assert found == float(text) if text else np.isnan(found)


@few
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode()))
def test_any_bytes_are_records_or_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    head = ",".join(COLUMNS).encode() + b"\n"
    for content in (data, head + data):
        (tmp_path / "records.csv").write_bytes(content)
        try:
            assert list(read_records(tmp_path).columns) == list(COLUMNS)
        except OutputError as error:
            assert "\n" not in str(error)


def test_tables_are_bounded_before_and_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = csv_with("error", "", tmp_path) / "records.csv"
    text = path.read_bytes()
    path.write_bytes(b"," * (records.MAX_LINE + 1) + b"\n" + text)
    with pytest.raises(OutputError, match="a line has 1,048,578 bytes, and may have 1,048,576"):
        read_records(tmp_path)
    path.write_bytes(text)
    monkeypatch.setattr(records, "MAX_ROWS", 1)
    with pytest.raises(OutputError, match="has more than 1 rows"):
        read_records(tmp_path)
    monkeypatch.setattr(records, "RECORDS_BYTES", 10)
    with pytest.raises(OutputError, match="is larger than 10 B"):
        read_records(tmp_path)


@pytest.mark.parametrize("name", ["records.csv", "suite.json", "runs/k.json", "curves.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_of_a_folder_are_read(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
    }[kind]()
    read = {
        "records.csv": read_records,
        "suite.json": read_suite,
        "runs/k.json": lambda folder: read_run(folder, "k"),
        "curves.parquet": curves.read_curves,
    }[name]
    with pytest.raises(OutputError, match="only regular files are read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"plan": 5}, "plan is a number, and has to be a list"),
        ({"notes": 7}, "notes is a number"),
        ({"suite": []}, "suite is a list, and has to be a mapping"),
        ({"command": {}}, "command is a mapping, and has to be text"),
        ({"plan": ["../x"]}, "'../x' in its plan is not the key of a run"),
        ({"plan": [5]}, "'5' in its plan is not the key"),
        ({"seed": float("inf")}, "Infinity is not a finite number"),
        ({"seed": 10**30}, "is larger than 64 bits hold"),
    ],
)
def test_a_suite_of_wrong_types_is_named(
    entry: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "suite.json").write_text(json.dumps(entry))
    with pytest.raises(OutputError, match=f"suite.json is damaged: .*{message}"):
        read_suite(tmp_path)


values = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([[1]])


@few
@given(name=st.sampled_from([*vars(RUN), "records.0.value", "curves.0.x", "log.0.a"]), value=values)
def test_any_entry_of_a_run_is_read_or_refused(name: str, value: object, tmp_path: Path) -> None:
    curve = Curve("roc", "a", (0.0, 1.0), (0.0, 1.0), 3)
    write_run(tmp_path, replace(RUN, curves=(curve,), log=({"a": 1.0},)))
    path = tmp_path / "runs" / "k.json"
    stored = json.loads(path.read_text())
    del stored["check"]
    at: Any = stored
    *way, last = name.split(".")
    for step in way:
        at = at[int(step) if isinstance(at, list) else step]
    at[last] = value
    path.write_text(json.dumps(stored))
    try:
        found = read_run(tmp_path, "k")
    except OutputError as error:
        assert "k.json is not a run's result" in str(error) and "\n" not in str(error)
    else:
        assert found is not None
        as_csv([found])
        curves.table([found])


def test_names_that_no_file_holds_are_replaced(tmp_path: Path) -> None:
    hostile = "a\x00b\udcffc\u202ed"
    run = replace(RUN, method=hostile, records=(Record("class_drop", hostile, 0.5),))
    records.write_records(tmp_path, [run])
    row = read_records(tmp_path).iloc[0]
    assert row["method"] == row["split"] == "a\ufffdb\ufffdc\ufffdd"
    point = replace(run, curves=(Curve("roc", hostile, (0.0,), (1.0,), 1),))
    curves.write_curves(tmp_path, [point])
    found = curves.read_curves(tmp_path)
    assert found is not None and found["series"][0] == row["method"] == found["method"][0]


def test_a_clock_that_stood_still_gives_no_ratio() -> None:
    runs = [
        replace(RUN, key=kind, kind=kind, method=kind, records=(Record("wall_seconds", "", value),))
        for kind, value in (("reference", 0.0), ("method", 1.0))
    ]
    found = with_time_ratios(table(runs))
    assert set(found["metric"]) == {"wall_seconds"}


def write_curve(place: Path, **columns: Any) -> None:
    texts = {name: ["a"] for name in COLUMNS[:4]} | {"kind": ["method"], "run_key": ["k"]}
    values = {"curve": ["roc"], "series": ["s"], "seed": [0], "n": [3], "x": [0.5], "y": [0.5]}
    pq.write_table(pa.table({**texts, **values, **columns}), place / "curves.parquet")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"n": ["3"]}, "column n is of type string, and has to be a whole number"),
        ({"x": ["0.5"]}, "column x is of type string, and has to be a number"),
        ({"x": [[0.5]]}, "column x is of type list"),
        ({"series": [{"a": {"b": 1}}]}, "column series is of type struct"),
        ({"series": [b"s"]}, "column series is of type binary"),
        ({"n": [-1]}, "column n holds a negative number"),
        ({"n": pa.array([None], pa.int64())}, "column n has empty cells"),
        ({"x": [np.inf]}, "column x holds a number beyond"),
        ({"y": [np.nan]}, "column y holds a number beyond"),
        ({"n": pa.array([2**63], pa.uint64())}, "not a readable table"),
        ({"series": ["s" * 1001]}, "column series holds a text longer than 1,000"),
    ],
)
def test_curves_of_wrong_kinds_are_named(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_curve(tmp_path, **columns)
    with pytest.raises(OutputError, match=message):
        curves.read_curves(tmp_path)


def test_curves_declare_no_more_than_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_curve(tmp_path)
    found = curves.read_curves(tmp_path)
    assert found is not None and found["x"].tolist() == [0.5]
    bomb = pd.DataFrame({"a": np.zeros(21_000_000, dtype=np.int8)})
    bomb.to_parquet(tmp_path / "curves.parquet")
    assert (tmp_path / "curves.parquet").stat().st_size < 100_000
    with pytest.raises(OutputError, match="declares 21,000,000 rows; at most 20,000,000 are read"):
        curves.read_curves(tmp_path)


def test_what_is_written_is_short_enough_to_be_read_again(tmp_path: Path) -> None:
    long = "e" * 200_000
    failed = replace(RUN, status="failed", error=long, records=())
    records.write_records(tmp_path, [failed])
    assert read_records(tmp_path)["error"][0].startswith("eee")
    curves.write_curves(tmp_path, [replace(RUN, curves=(Curve("roc", long, (0.0,), (1.0,), 1),))])
    assert curves.read_curves(tmp_path) is not None
