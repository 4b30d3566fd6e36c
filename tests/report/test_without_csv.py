"""A folder whose ``records.csv`` stayed out of git: ``records.parquet`` is read in its place."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from unlearn_bench.core.errors import OutputError
from unlearn_bench.report import write_report
from unlearn_bench.report.compare import compare
from unlearn_bench.report.freshness import is_fresh
from unlearn_bench.results.records import read_records

pytestmark = pytest.mark.usefixtures("no_figures")
WRITTEN = ("report.md", "report.tex", "verdicts.csv", "records.parquet")


@pytest.fixture
def committed(folder: Any, realistic: Any, run: Any) -> Path:
    """A report as it is committed, with a name and a reason that CSV has to quote."""
    place: Path = folder([*realistic(), run("=1+1", error="a, b\nc"), run("'=x", error="x")])
    write_report(place)
    (place / "records.csv").unlink()
    return place


def test_the_report_is_written_again_the_same(folder: Any, realistic: Any, run: Any) -> None:
    place = folder([*realistic(), run("=1+1", error="a, b\nc")])
    write_report(place)
    before = {name: (place / name).read_bytes() for name in WRITTEN}
    page = (place / "report.html").read_text()
    records = read_records(place)
    (place / "records.csv").unlink()
    pd.testing.assert_frame_equal(read_records(place), records)
    write_report(place)
    assert {name: (place / name).read_bytes() for name in WRITTEN} == before
    without_key = [line for line in page.splitlines() if "unlearn-bench-key" not in line]
    assert not set(without_key) - set((place / "report.html").read_text().splitlines())
    assert not (place / "records.csv").exists() and is_fresh(place)


def test_names_keep_their_quotes(committed: Path) -> None:
    assert {"=1+1", "'=x"} <= set(read_records(committed)["method"])


def test_it_is_compared_with_a_folder_that_has_its_csv(
    committed: Path, tmp_path_factory: pytest.TempPathFactory, write_folder: Any, realistic: Any
) -> None:
    other = write_folder(tmp_path_factory.mktemp("other"), realistic())
    found = compare(committed, other)
    assert found.differences and {d.state for d in found.differences} == {"same"}


def test_a_table_without_the_error_of_gaps_is_one_of_before(committed: Path) -> None:
    path = committed / "records.parquet"
    pd.read_parquet(path).drop(columns="gap_error").to_parquet(path, index=False)
    assert read_records(committed)["gap_error"].isna().all()
    pd.read_parquet(path).drop(columns="value").to_parquet(path, index=False)
    with pytest.raises(OutputError, match="records.parquet is not read: it lacks the column value"):
        read_records(committed)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("value", 1e308, r"records.parquet, row 2: the value is '1e\+308', and has to be a number"),
        ("value", float("inf"), "row 2: the value is 'inf'"),
        ("kind", "spy", "row 2: the kind is 'spy', and has to be one of reference, control, me"),
        ("kind", None, "row 2: the kind is '', and has to be one of"),
        ("run_key", "../../x", "row 2: the run_key is '../../x', and has to be the key of a run"),
        ("method", "m" * 1001, "row 2: the method has 1,001 characters, and may have 1,000"),
        ("seed", 10**18, "row 2: the seed is '1000000000000000000', and has to be a whole number"),
        ("seed", None, "column seed is of type double, and has to be a whole number"),
        ("status", 3, "is not a readable table|column status is of type"),
    ],
)
def test_a_cell_that_is_none_of_a_record_is_named(
    column: str, value: object, message: str, committed: Path
) -> None:
    path = committed / "records.parquet"
    records = pd.read_parquet(path).astype({column: object})
    records.loc[1, column] = value
    if value == 3:
        records[column] = 3
    records.infer_objects().to_parquet(path, index=False)
    with pytest.raises(OutputError, match=message):
        read_records(committed)


def test_a_damaged_table_is_refused_and_nothing_is_written_over(committed: Path) -> None:
    (committed / "records.parquet").write_bytes(b"PAR1 and no more")
    page = (committed / "report.html").read_bytes()
    with pytest.raises(OutputError, match="records.parquet is not a readable table"):
        write_report(committed)
    assert (committed / "report.html").read_bytes() == page


def test_a_link_in_its_place_is_not_followed(committed: Path, tmp_path: Path) -> None:
    path = committed / "records.parquet"
    path.rename(tmp_path / "elsewhere.parquet")
    path.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(OutputError, match="symbolic link"):
        write_report(committed)
    with pytest.raises(OutputError, match="only regular files are read"):
        read_records(committed)
