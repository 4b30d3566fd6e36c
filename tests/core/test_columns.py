"""Columns of Parquet files that a stranger may have made."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unlearn_bench.core.columns import read_columns
from unlearn_bench.core.errors import RefusedError

TYPES = {"name": str, "n": int, "x": float}


def written(tmp_path: Path, table: pa.Table) -> Path:
    pq.write_table(table, tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


def table_of(**columns: pa.Array) -> pa.Table:
    sound = {"name": pa.array(["a", "b"]), "n": pa.array([1, 2]), "x": pa.array([0.5, 1.5])}
    return pa.table(sound | columns)


def test_an_empty_table_has_no_types_and_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, pa.table({name: pa.nulls(0) for name in TYPES}))
    assert read_columns(path, TYPES, 10).num_rows == 0


@pytest.mark.parametrize("rows", [0, 1, 200_000])
def test_shared_texts_are_the_same_texts(tmp_path: Path, rows: int) -> None:
    names = [f"name {place % 3}" for place in range(rows)]
    numbers = {"n": pa.array(range(rows)), "x": pa.array([0.5] * rows, pa.float64())}
    path = written(tmp_path, table_of(name=pa.array(names, pa.string()), **numbers))
    shared = read_columns(path, TYPES, rows, shared=True)
    assert pa.types.is_dictionary(shared.schema.field("name").type)
    assert shared.column("name").to_pylist() == names
    assert len(shared.to_pandas()["name"].cat.categories) == min(rows, 3)


def test_an_empty_table_without_types_has_no_shared_texts(tmp_path: Path) -> None:
    path = written(tmp_path, pa.table({name: pa.nulls(0) for name in TYPES}))
    assert read_columns(path, TYPES, 10, shared=True).to_pandas()["name"].dtype == "category"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (table_of(name=pa.nulls(2)), "column name has empty cells"),
        (table_of(n=pa.array(["1", "2"])), "column n is of type string"),
        (table_of(x=pa.array([{"y": 1.0}, {"y": 2.0}])), "column x is of type struct"),
        (table_of().drop_columns(["n"]), "it lacks the column n"),
        (table_of().append_column("n", pa.array([1, 2])), "or has it more than once"),
        (pa.concat_tables([table_of()] * 6), "it declares 12 rows; at most 10 are read"),
    ],
)
def test_what_is_no_such_table_is_refused_in_words(
    table: pa.Table, said: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match=said):
        read_columns(written(tmp_path, table), TYPES, 10)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link.parquet").symlink_to(written(tmp_path, table_of()))
    with pytest.raises(RefusedError, match="link"):
        read_columns(tmp_path / "link.parquet", TYPES, 10)


def test_optional_columns_may_be_absent(tmp_path: Path) -> None:
    path = written(tmp_path, table_of().drop_columns(["n"]))
    assert read_columns(path, TYPES, 10, optional=["n"]).column_names == ["name", "x"]


def test_one_long_text_in_every_row_of_a_small_file_is_not_unpacked(tmp_path: Path) -> None:
    rows, text = 60_000, "a" * 100_000
    names = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text])
    path = written(tmp_path, pa.table({"name": names}))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(RefusedError, match="its texts have more than 1.1 GB"):
        read_columns(path, {"name": str}, rows)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_no_parquet_is_refused_with_a_reason(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(content)
    with pytest.raises(RefusedError, match=r"is not a readable table: \w") as caught:
        read_columns(path, TYPES, 10)
    assert "\n" not in str(caught.value)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(min_value=0, max_value=10_000), byte=st.integers(0, 255))
def test_a_changed_byte_anywhere_is_read_or_refused_in_one_line(
    place: int, byte: int, tmp_path: Path
) -> None:
    path = written(tmp_path, table_of())
    data = bytearray(path.read_bytes())
    data[place % len(data)] = byte
    path.write_bytes(data)
    try:
        read_columns(path, TYPES, 10)
    except RefusedError as error:
        assert "\n" not in str(error)


# pyarrow calls terminate() for some damage, which ends the process: in a process of its own here.
EVERY_BYTE = """
import sys
from pathlib import Path

from unlearn_bench.core.columns import read_columns
from unlearn_bench.core.errors import DataError, RefusedError
from unlearn_bench.data.parquet import ParquetColumn

sound, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
for place in range(footer, len(sound) - 8):
    for byte in (0, 20, 73, 100, 255):
        path.write_bytes(sound[:place] + bytes([byte]) + sound[place + 1 :])
        try:
            read_columns(path, {"name": str, "n": int, "x": float}, 10)
        except RefusedError:
            pass
        try:
            ParquetColumn(path.parent, [path], "name")
        except DataError:
            pass
"""


def test_no_changed_byte_of_a_footer_ends_the_process(tmp_path: Path) -> None:
    changed = tmp_path / "changed.parquet"
    command = [sys.executable, "-c", EVERY_BYTE, str(written(tmp_path, table_of())), str(changed)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
