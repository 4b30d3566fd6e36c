"""Results survive being written and read, and a failed run is one row with its reason."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from unlearn_bench.core.errors import OutputError
from unlearn_bench.results.ratios import with_time_ratios
from unlearn_bench.results.records import (
    COLUMNS,
    Record,
    RunResult,
    read_records,
    read_run,
    read_suite,
    table,
    write_records,
    write_run,
)


def result(**changes: Any) -> RunResult:
    values = {
        "key": "k1",
        "method": "finetune",
        "kind": "method",
        "dataset": "digits",
        "model": "lenet",
        "scenario": "class:8",
        "seed": 0,
        "params": {"lr": 0.1, "b": None},
        "status": "ok",
        "records": (
            Record("forget_accuracy", "forget", 0.25, 0.125, 0.5),
            Record("mia_loss_auc", "forget+test_forget", None, status="unresolved"),
        ),
        "log": ({"step": 0.0, "loss": None},),
        "environment": {"torch": "2"},
    }
    return RunResult(**(values | changes))


def timed(seconds: float, **changes: Any) -> RunResult:
    return result(records=(Record("wall_seconds", "", seconds),), **changes)


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_run(tmp_path, result())
    assert read_run(tmp_path, "k1") == result()
    assert read_run(tmp_path, "k2") is None
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["k1.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"records": [{"surprise": 1}], "log": []}'])
def test_a_file_that_is_no_result_is_named_with_the_remedy(text: str, tmp_path: Path) -> None:
    write_run(tmp_path, result())
    (tmp_path / "runs" / "k1.json").write_text(text)
    with pytest.raises(OutputError, match="k1.json is not a run's result.*delete it and run"):
        read_run(tmp_path, "k1")


def test_a_changed_number_is_noticed(tmp_path: Path) -> None:
    write_run(tmp_path, result())
    path = tmp_path / "runs" / "k1.json"
    path.write_text(path.read_text().replace("0.25", "0.26"))
    with pytest.raises(OutputError, match="its checksum differs"):
        read_run(tmp_path, "k1")


def test_the_result_of_another_run_under_this_name_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, result(key="k2"))
    (tmp_path / "runs" / "k2.json").rename(tmp_path / "runs" / "k1.json")
    with pytest.raises(OutputError, match="it is that of k2"):
        read_run(tmp_path, "k1")


def test_a_result_from_before_checksums_is_read(tmp_path: Path) -> None:
    write_run(tmp_path, result())
    path = tmp_path / "runs" / "k1.json"
    stored = json.loads(path.read_text())
    del stored["check"]
    path.write_text(json.dumps(stored))
    assert read_run(tmp_path, "k1") == result()


def test_the_long_table_has_one_row_per_record(tmp_path: Path) -> None:
    path = write_records(tmp_path, [result()])
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    rows = read_records(tmp_path).to_dict("records")
    assert [row["metric"] for row in rows] == ["forget_accuracy", "mia_loss_auc"]
    assert rows[0]["value"] == 0.25 and (rows[0]["low"], rows[0]["high"]) == (0.125, 0.5)
    assert rows[0]["method"] == "finetune" and rows[0]["seed"] == 0
    assert json.loads(rows[0]["params"]) == {"lr": 0.1, "b": None}
    assert rows[1]["status"] == "unresolved" and rows[1]["value"] != rows[1]["value"]


def test_a_table_that_has_not_changed_is_left_alone(tmp_path: Path) -> None:
    path = write_records(tmp_path, [result()])
    os.utime(path, ns=(0, 0))
    write_records(tmp_path, [result()])
    assert path.stat().st_mtime_ns == 0
    write_records(tmp_path, [result(seed=1)])
    assert path.stat().st_mtime_ns != 0


def test_a_failed_run_is_one_row_with_its_reason() -> None:
    [row] = table([result(status="failed", error="boom", records=())]).to_dict("records")
    assert (row["status"], row["error"], row["metric"]) == ("failed", "boom", "")


def test_texts_that_look_like_missing_numbers_stay_texts(tmp_path: Path) -> None:
    write_records(tmp_path, [result(method="nan", model="NA", scenario="class:None")])
    row = read_records(tmp_path).iloc[0]
    assert (row["method"], row["model"], row["error"]) == ("nan", "NA", "")


def test_time_is_related_to_the_retraining_of_the_same_cell() -> None:
    reference = {"method": "retrain", "kind": "reference"}
    records = with_time_ratios(
        table(
            [
                timed(4.0, **reference),
                timed(1.0),
                timed(3.0, method="pbu"),
                timed(8.0, seed=1, **reference),
                timed(1.0, seed=1),
                timed(5.0, seed=2),
                timed(5.0, dataset="mnist"),
                timed(5.0, model="vit"),
                timed(5.0, scenario="class:1"),
            ]
        )
    )
    ratios = records[records["metric"] == "time_ratio_to_retrain"]
    found = {(row.method, row.seed): row.value for row in ratios.itertuples()}
    assert found == {
        ("retrain", 0): 1.0,
        ("finetune", 0): 0.25,
        ("pbu", 0): 0.75,
        ("retrain", 1): 1.0,
        ("finetune", 1): 0.125,
    }
    assert len(records) == 9 + len(found)


def test_precomputation_pays_from_so_many_requests_on() -> None:
    def run(wall: float, precompute: float, **rest: Any) -> RunResult:
        return result(
            **rest,
            key=rest.get("method", "finetune"),
            records=(
                Record("wall_seconds", "", wall),
                Record("wall_seconds_precompute", "", precompute),
            ),
        )

    records = with_time_ratios(
        table(
            [
                run(10.0, 0.0, method="retrain", kind="reference"),
                run(9.0, 6.0),
                run(3.0, 0.0, method="b"),
                run(14.0, 2.0, method="dear"),
            ]
        )
    )
    found = records[records["metric"] == "break_even_requests"].set_index("method")["value"]
    # 6 seconds once, 3 a request instead of 10; at once; never.
    assert found.to_dict() == {"finetune": 6 / 7, "b": 0.0}


def test_without_a_finished_reference_there_is_no_ratio() -> None:
    failed = result(method="retrain", kind="reference", status="failed", records=())
    records = with_time_ratios(table([failed, timed(1.0)]))
    assert "time_ratio_to_retrain" not in set(records["metric"])
    assert list(with_time_ratios(table([])).columns) == list(COLUMNS)


def test_a_table_from_before_gaps_had_errors_is_read(tmp_path: Path) -> None:
    write_records(tmp_path, [timed(1.0)])
    path = tmp_path / "records.csv"
    now = read_records(tmp_path)
    pd.read_csv(path, dtype=str).drop(columns="gap_error").to_csv(path, index=False)
    before = read_records(tmp_path)
    assert before["gap_error"].isna().all() and list(before.columns) == list(now.columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no records.csv; give the folder"),
        ("", "is not a table of records"),
        ('a,b\n"1', "is not a table of records"),
        ("method,value\nx,1\n", "lacks the columns dataset, model, scenario"),
        (
            ",".join(COLUMNS) + "\n" + "," * 4 + "0" + "," * 10 + "\n" + "," * 4 + "one" + "," * 10,
            r"records.csv:3: the seed is 'one', and has to be a whole number",
        ),
    ],
)
def test_a_folder_without_a_table_is_named(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "records.csv").write_text(text)
    with pytest.raises(OutputError, match=message):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "holds no suite.json"), ("{", "is damaged"), ("[]", "not a mapping")],
)
def test_a_folder_without_a_suite_is_named(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "suite.json").write_text(text)
    with pytest.raises(OutputError, match=message):
        read_suite(tmp_path)


@pytest.mark.parametrize("key", ["../../secret", "/etc/passwd", "", ".hidden", "a/b", "a\x1b[2Jb"])
def test_a_key_that_is_no_plain_name_reaches_no_file(key: str, tmp_path: Path) -> None:
    for use in (lambda: read_run(tmp_path, key), lambda: write_run(tmp_path, result(key=key))):
        with pytest.raises(OutputError, match="is not the key of a run"):
            use()
    assert not list(tmp_path.iterdir())
    write_records(tmp_path, [result(key=key)])
    if not key:
        return  # a table of before there were keys
    with pytest.raises(OutputError, match="the key of a run") as caught:
        read_records(tmp_path)
    assert str(caught.value).isprintable()
