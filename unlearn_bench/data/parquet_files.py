"""Parquet files of a dataset: which they are, and how they are opened within bounds.

The Hugging Face hub has ``train-00000-of-00001.parquet`` beside ``test-...`` in a folder, or a
folder ``train`` and a folder ``test`` with files ``0000.parquet``, either of them below a folder
for each configuration.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from unlearn_bench.core.errors import DataError, one_line
from unlearn_bench.core.quantities import in_order, size_text
from unlearn_bench.core.reading import MIB, is_regular

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

TRAIN_NAMES = ("train",)
TEST_NAMES = ("test", "validation", "valid", "val")
# A file of a few bytes may declare any number of rows.
MAX_ROWS = 20_000_000
MAX_GROUP_ROWS = 2_000_000
GROUP_BYTES = 4096 * MIB
Found = TypeVar("Found")


class Files(NamedTuple):
    """The files of a dataset.

    Attributes:
        train: Of the training part.
        test: Of the test part; empty where it has none.
    """

    train: list[Path]
    test: list[Path]


def find_files(folder: Path, *, search_below: bool = True) -> Files:
    """Return the training and the test files of a folder, none where it has none.

    Where ``folder`` itself has none, the folders in it are looked into with ``search_below``: the
    hub has one for each configuration, or one called ``data``.

    Raises:
        DataError: If several folders in it have files, or a numbered file is missing.
    """
    if not folder.is_dir():
        return Files([], [])
    found = _parts_in(folder, search_below)
    if any(found) or not search_below:
        return found
    inner = [(place, _parts_in(place, search_below)) for place in _folders(folder)]
    return _only([(place, parts) for place, parts in inner if any(parts)], folder) or found


def every_file(path: Path) -> list[Path]:
    """Return all Parquet files of a folder, or of the one folder in it that has any.

    Args:
        path: The folder, or a single file.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    if files := sorted(path.glob("*.parquet")):
        return files
    inner = [(place, sorted(place.glob("*.parquet"))) for place in _folders(path)]
    return _only([(place, files) for place, files in inner if files], path) or []


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _only(there: Sequence[tuple[Path, Found]], folder: Path) -> Found | None:
    """Return what the one folder has that has anything, None where none has."""
    if len(there) > 1:
        raise DataError(
            f"{folder} has several configurations: {in_order([p.name for p, _ in there])}; give "
            f"the path of one of them, such as parquet:{there[0][0]}"
        )
    return there[0][1] if there else None


def _parts_in(place: Path, search_below: bool) -> Files:
    found = Files(_files_of(place, TRAIN_NAMES), _files_of(place, TEST_NAMES))
    if not any(found) and search_below:
        found = Files(_files_in(place, TRAIN_NAMES), _files_in(place, TEST_NAMES))
    return found


def _files_in(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the files of the first folder of ``names`` that has any."""
    parts = (sorted((folder / name).glob("*.parquet")) for name in names)
    return next((files for files in parts if files), [])


def _files_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the files of the first of ``names`` that has any, checking that none is missing."""
    for name in names:
        files = sorted([*folder.glob(f"{name}-*.parquet"), *folder.glob(f"{name}.parquet")])
        for path in files:
            numbered = re.search(r"-of-(\d+)\.parquet$", path.name)
            if numbered and int(numbered[1]) != len(files):
                raise DataError(
                    f"{folder} has {len(files)} of the {int(numbered[1])} files like {path.name}; "
                    "get the missing ones"
                )
        if files:
            return files
    return []


def open_parquet(path: Path) -> "pq.ParquetFile":
    """Open a Parquet file.

    Raises:
        DataError: If it is damaged or no Parquet file.
    """
    import pyarrow.parquet as pq

    if not is_regular(path) and path.exists():
        raise DataError(f"{path} is not a regular file; only those are read")
    with damage_named(path):
        file = pq.ParquetFile(path)
        rows = file.metadata.num_rows
        if rows > MAX_ROWS:
            raise DataError(f"{path} declares {rows:,} rows; at most {MAX_ROWS:,} are read")
        file.schema_arrow.names  # noqa: B018 - names that are not text show here
        return file


def check_groups(path: Path, file: "pq.ParquetFile") -> None:
    """Refuse row groups that would take all memory, before one is read.

    The sizes of single columns are not asked for: pyarrow ends the process where they are damaged.
    """
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if group.num_rows > MAX_GROUP_ROWS or group.total_byte_size > GROUP_BYTES:
            raise DataError(
                f"row group {number} of {path} declares {group.num_rows:,} rows and "
                f"{size_text(group.total_byte_size)}; at most {MAX_GROUP_ROWS:,} and "
                f"{size_text(GROUP_BYTES)} are read at once: write smaller row groups"
            )


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what is raised for damaged content into one line that names the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names not in UTF-8
        raise DataError(
            f"cannot read {path}: truncated or damaged; delete it and download it again"
        ) from error


def find_column(names: Sequence[str], wanted: Sequence[str], kind: str, path: Path) -> str:
    """Return the first of the ``wanted`` columns that a file has.

    Args:
        names: Of its columns.
        wanted: The usual ones, or the one that was asked for.
        kind: What is in it, for the error.
        path: The file.

    Raises:
        DataError: If it has none, or several of that name.
    """
    for name in wanted:
        if names.count(name) > 1:
            raise DataError(f"{path} has several columns named {name!r}; keep one")
        if name in names:
            return name
    raise DataError(
        f"no {kind} column in {path}: it has {in_order([one_line(n)[:40] for n in names])}; "
        f"expected one of {', '.join(wanted)}: name it by --{kind}-column"
    )


def is_bytes(kind: "pa.DataType") -> bool:
    """Whether a column holds bytes."""
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def is_plain(kind: "pa.DataType") -> bool:
    """Whether a column holds plain values: texts, numbers, truth values, dates."""
    import pyarrow as pa

    plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
    more = (pa.types.is_boolean, pa.types.is_floating, pa.types.is_dictionary, pa.types.is_date)
    return any(is_kind(kind) for is_kind in (*plain, *more))


def fields_of(kind: "pa.DataType") -> list["pa.Field"]:
    """Return the fields of a structure, none of anything else."""
    import pyarrow as pa

    return [kind.field(i) for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
