"""Columns of a Parquet file that a stranger may have made, read within bounds.

A file of a few bytes may declare any number of rows, and a page any size once unpacked. What is
declared is looked at first, and what is read is counted.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn_bench.core.errors import RefusedError, one_line
from unlearn_bench.core.quantities import size_text
from unlearn_bench.core.reading import MIB, opened

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_BYTES = 256 * MIB
UNPACKED_BYTES = 1024 * MIB
MAX_COLUMNS, MAX_GROUPS = 100, 10_000
_BATCH = 1 << 16
_WORDS = {str: "text", int: "a whole number", float: "a number"}


def read_columns(
    path: Path,
    types: Mapping[str, type],
    most: int,
    *,
    empty: bool = False,
    optional: Collection[str] = (),
    shared: bool = False,
) -> "pa.Table":
    """Return columns of a Parquet file.

    Args:
        path: A regular file, not a link.
        types: Of each column: ``str``, ``int`` or ``float``. Others are not read.
        most: Rows that may be read.
        empty: Whether cells may be empty.
        optional: Columns that may be absent, from the file and then from what is returned.
        shared: Whether texts are returned as dictionaries, each once: of millions of rows that
            have few, they take a tenth of the memory.

    Raises:
        RefusedError: If it is no such file, lacks a column, or is larger than is read.
        OSError: If it cannot be opened.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with opened(path, links=False) as stream:
            if (size := path.lstat().st_size) > TABLE_BYTES:
                raise RefusedError(f"it has {size_text(size)}, more than {size_text(TABLE_BYTES)}")
            file = pq.ParquetFile(stream)
            _check_size(file.metadata, most)
            there = file.schema_arrow.names
            types = {n: kind for n, kind in types.items() if n in there or n not in optional}
            _check_types(file.schema_arrow, types)
            texts = [name for name, kind in types.items() if kind is str]
            stream.seek(0)
            # As they are stored: one long text may stand for every row of a small file.
            file = pq.ParquetFile(stream, metadata=file.metadata, read_dictionary=texts)
            batches, rows, size = [], 0, 0
            for batch in file.iter_batches(_BATCH, columns=[*types], use_threads=False):
                rows += batch.num_rows
                size += _text_bytes(batch)
                if rows > most:
                    raise RefusedError(f"it has more than {most:,} rows")
                if size > UNPACKED_BYTES:
                    raise RefusedError(f"its texts have more than {size_text(UNPACKED_BYTES)}")
                batches.append(batch)
            table = pa.Table.from_batches(batches, file.schema_arrow if not batches else None)
            table = table.select([*types])
            holes = [name for name in types if table.column(name).null_count]
            if holes and not empty:
                raise RefusedError(f"column {holes[0]} has empty cells")
            wanted = {name: _arrow(kind) for name, kind in types.items()}
            if shared:
                wanted |= {name: pa.dictionary(pa.int32(), wanted[name]) for name in texts}
                table = table.unify_dictionaries()
            return table.cast(pa.schema(wanted))
    except RefusedError as error:
        raise RefusedError(f"{path} is not read: {error}") from None
    except (pa.ArrowException, ValueError, MemoryError, OSError) as error:
        # Of the system's errors only; Arrow's own for damage have no number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RefusedError(f"{path} is not a readable table: {one_line(str(error))}") from None


def _check_size(metadata: "pa.parquet.FileMetaData", most: int) -> None:
    if metadata.num_rows > most:
        raise RefusedError(f"it declares {metadata.num_rows:,} rows; at most {most:,} are read")
    if metadata.num_columns > MAX_COLUMNS or metadata.num_row_groups > MAX_GROUPS:
        raise RefusedError(
            f"it has {metadata.num_columns:,} columns in {metadata.num_row_groups:,} row groups; "
            f"at most {MAX_COLUMNS} and {MAX_GROUPS:,} are read"
        )
    # Not the columns' own sizes: where these are damaged, pyarrow ends the process.
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    unpacked = sum(group.total_byte_size for group in groups)
    if not 0 <= unpacked <= UNPACKED_BYTES:
        raise RefusedError(
            f"it declares {size_text(unpacked)} unpacked; at most {size_text(UNPACKED_BYTES)} "
            "are read"
        )


def _text_bytes(batch: "pa.RecordBatch") -> int:
    """Return what the texts of a batch take once each row has its own."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = (column for column in batch.columns if pa.types.is_dictionary(column.type))
    sizes = (pc.take(pc.binary_length(c.dictionary), c.indices) for c in columns)
    return sum(pc.sum(size.cast(pa.int64())).as_py() or 0 for size in sizes)


def _check_types(schema: "pa.Schema", types: Mapping[str, type]) -> None:
    import pyarrow as pa

    for name, kind in types.items():
        if schema.names.count(name) != 1:
            raise RefusedError(f"it lacks the column {name}, or has it more than once")
        found = schema.field(name).type
        if pa.types.is_dictionary(found):
            found = found.value_type
        fits = {
            str: pa.types.is_string(found) or pa.types.is_large_string(found),
            int: pa.types.is_integer(found),
            float: pa.types.is_floating(found) or pa.types.is_integer(found),
        }
        # A column without any value has no type: pandas 2 writes an empty table so.
        if not (fits[kind] or pa.types.is_null(found)):
            shown = one_line(str(found))[:60]
            raise RefusedError(f"column {name} is of type {shown}, and has to be {_WORDS[kind]}")


def _arrow(kind: type) -> "pa.DataType":
    import pyarrow as pa

    return {str: pa.large_string(), int: pa.int64(), float: pa.float64()}[kind]
