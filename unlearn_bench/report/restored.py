"""Committed reports, whose ``records.csv`` stayed out of git, are not written over."""

import io
import os
from pathlib import Path

from unlearn_bench.core.errors import OutputError, RefusedError
from unlearn_bench.core.reading import read_bytes
from unlearn_bench.results.records import RECORDS_BYTES


def refuse_without_csv(folder: Path) -> None:
    """Refuse a report whose CSV stayed out of git: writing it again would empty it.

    Raises:
        OutputError: If ``records.parquet`` holds records, or cannot be read.
    """
    path = folder / "records.parquet"
    if not os.path.lexists(path):
        return
    import pyarrow
    from pyarrow.parquet import read_metadata

    try:
        rows = read_metadata(io.BytesIO(read_bytes(path, RECORDS_BYTES, links=False))).num_rows
    except (OSError, RefusedError, pyarrow.ArrowException):
        rows = 1
    if rows:
        raise OutputError(
            f"{folder} holds records.parquet and no records.csv, as reports in git do; run "
            f"`python benchmarks/restore_records.py {folder}` first"
        )
