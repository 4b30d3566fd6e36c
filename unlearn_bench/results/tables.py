"""The long table of records as a file: ``records.csv``, or ``records.parquet`` alone.

Reports are committed without their CSV. Either file may be anybody's, so that cells are returned as
they were found, for :func:`~unlearn_bench.results.checks.checked_records` to look at.
"""

import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unlearn_bench.core.columns import read_columns
from unlearn_bench.core.errors import OutputError, RefusedError, one_line
from unlearn_bench.results.checks import NUMBERS, WHOLE

if TYPE_CHECKING:
    import pandas as pd

CSV, PARQUET = "records.csv", "records.parquet"


def source_of(folder: Path) -> Path | None:
    """Return the file that holds a folder's records: the CSV, else the Parquet file, if any."""
    files = (folder / name for name in (CSV, PARQUET))
    return next((file for file in files if file.exists() or file.is_symlink()), None)


def csv_cells(path: Path, data: bytes, most: int, longest: int) -> "pd.DataFrame":
    """Return the cells of ``records.csv`` as texts.

    Args:
        path: For messages.
        data: Its content.
        most: Rows that are read.
        longest: Bytes that a line may have.

    Raises:
        OutputError: If it is no such table, or larger.
    """
    import pandas as pd

    lines = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))
    found = max(np.diff(lines, prepend=-1, append=len(data)), default=0)
    if found > longest:
        raise OutputError(
            f"{path} is not a table of records: a line has {found:,} bytes, and may have "
            f"{longest:,}"
        )
    try:
        # As texts: a method may be called "nan", and numbers are to be read exactly.
        records = pd.read_csv(
            io.BytesIO(data), dtype=object, na_filter=False, encoding="utf-8-sig", nrows=most + 1
        )
    except (ValueError, OverflowError) as error:
        raise OutputError(f"{path} is not a table of records: {one_line(str(error))}") from error
    if len(records) > most:
        raise OutputError(f"{path} has more than {most:,} rows, the most that are read")
    return records


def parquet_cells(
    path: Path, columns: Sequence[str], optional: Collection[str], most: int
) -> "pd.DataFrame":
    """Return the cells of ``records.parquet``: numbers as numbers, all others as texts.

    Args:
        path: A regular file, not a link.
        columns: Those that it must have.
        optional: Those that it may have.
        most: Rows that are read.

    Raises:
        OutputError: If it is no such table, lacks a column, or is larger.
    """
    import pandas as pd

    types = {
        name: float if name in NUMBERS else int if name in WHOLE else str
        for name in (*columns, *optional)
    }
    try:
        table = read_columns(path, types, most, empty=True, optional=optional)
        holes = [name for name in WHOLE if name in table.column_names and table[name].null_count]
        if holes:
            raise RefusedError(f"{path} is not read: column {holes[0]} has empty cells")
    except RefusedError as error:
        raise OutputError(f"{error}; give the folder that `unlearn-bench run` wrote") from None
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    cells = {
        name: pd.Series(column.to_numpy(zero_copy_only=False))
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    texts = {name: cells[name].fillna("") for name in cells if types[name] is str}
    return pd.DataFrame(cells | texts)
