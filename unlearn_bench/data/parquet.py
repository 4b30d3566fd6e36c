"""Images in Parquet files, in the layout that the Hugging Face hub uses.

A folder holds ``train-*.parquet`` and ``test-*.parquet`` (or ``validation-*``), or a folder
``train`` and a folder ``test`` with files ``0000.parquet``, as the hub converts. A row is one
image, encoded as JPEG or PNG, in a column of bytes or of ``{bytes, path}``, and one label.
Columns of texts, numbers and truth values are attributes, read when a scenario asks for one.
Rows are read by row group on demand, so a set may be larger than memory.
"""

import bisect
import contextlib
import functools
import itertools
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, RefusedError, one_line
from unlearn_bench.core.memory import available_memory
from unlearn_bench.core.quantities import in_order, size_text
from unlearn_bench.core.reading import MIB, is_regular, parse_json
from unlearn_bench.data.attributes import Attributes, Values
from unlearn_bench.data.sources import USUAL_COLUMNS, Columns, Raw, RawPart

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

TRAIN_NAMES = ("train",)
TEST_NAMES = ("test", "validation", "valid", "val")
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
FINER_COLUMN = "fine_label"
# Row groups of image sets hold about 100 rows; more than one per decoding thread.
ROW_GROUPS_KEPT = 16
# A file of a few bytes may declare any number of rows.
MAX_ROWS = 20_000_000
MAX_GROUP_ROWS = 2_000_000
GROUP_BYTES = 4096 * MIB
MAX_CLASSES = 100_000


class ParquetColumn:
    """The image column of some Parquet files, read by row group and partly remembered."""

    def __init__(self, base: Path, files: Sequence[Path], column: str) -> None:
        """Read the footers of ``files``, nothing else.

        Raises:
            DataError: If a file is damaged.
        """
        self.base, self.files, self._column = base, files, column
        self._open = [open_parquet(path) for path in files]
        self._groups = [
            (number, group)
            for number, file in enumerate(self._open)
            for group in range(file.num_row_groups)
        ]
        for path, file in zip(files, self._open, strict=True):
            _check_groups(path, file, column)
        rows = (self._open[n].metadata.row_group(g).num_rows for n, g in self._groups)
        self._ends = list(itertools.accumulate(rows))
        self._lock = threading.Lock()
        small = sum(path.stat().st_size for path in files) <= available_memory() // 4
        keep = None if small else ROW_GROUPS_KEPT
        self._group = functools.lru_cache(maxsize=keep)(self._read_group)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> bytes:
        """Return the encoded image of one row, counted through all files.

        Raises:
            DataError: If the file is damaged or the row holds no image.
        """
        group = bisect.bisect_right(self._ends, index)
        start = self._ends[group - 1] if group else 0
        with self._lock:  # A ParquetFile must not be read from two threads at once.
            content = self._group(group)[index - start].as_py()
        if not content:
            raise DataError(f"no image bytes in {self.where(index)}; only embedded images are read")
        return bytes(content)

    def where(self, index: int) -> str:
        """Return the file and the row in it."""
        number = self._groups[bisect.bisect_right(self._ends, index)][0]
        before = sum(file.metadata.num_rows for file in self._open[:number])
        return f"{self.files[number]}, row {index - before}"

    def names(self) -> list[str]:
        """Return the path that every image had when the files were made; "" where none is kept."""
        kind = self._open[0].schema_arrow.field(self._column).type
        if not any(field.name == "path" for field in _fields(kind)):
            return [""] * len(self)
        found: list[str] = []
        for path, file in zip(self.files, self._open, strict=True):
            with _damage_named(path), self._lock:
                table = file.read(columns=[f"{self._column}.path"])
            cells = table.column(0).combine_chunks().field("path").to_pylist()
            found += [str(cell or "") for cell in cells]
        return found

    def _read_group(self, group: int) -> "pa.Array":
        number, inner = self._groups[group]
        with _damage_named(self.files[number]):
            table = self._open[number].read_row_group(inner, columns=[self._column])
        column = table.column(0).combine_chunks()
        return column if _is_bytes(column.type) else column.field("bytes")


def load_folder(folder: Path, columns: Columns = USUAL_COLUMNS) -> Raw:
    """Load the training and test files of ``folder``, or of the one folder in it that has them.

    Args:
        folder: Of the dataset.
        columns: Which of several labels are the classes, and which the fine classes in them.

    Raises:
        DataError: If files are missing or damaged, have no image or label column, or disagree.
    """
    train_files, test_files = find_files(folder)
    if not train_files or not test_files:
        missing = "train-*.parquet" if not train_files else "test-*.parquet or validation-*.parquet"
        raise DataError(
            f"no {missing} in {folder}, nor a folder of that name with Parquet files; "
            "put both parts of the dataset there"
        )
    wanted = (columns.label,) if columns.label else LABEL_COLUMNS
    names = open_parquet(train_files[0]).schema_arrow.names
    label = _column(names, wanted, "label", train_files[0])
    classes = class_names(train_files[0], label)
    train, test = _part(train_files, label), _part(test_files, label)
    for files, part in ((train_files, train), (test_files, test)):
        if not len(part.labels):
            raise DataError(f"{files[0]} has no rows; download it again")
    if classes is None:
        highest = max(int(part.labels.max()) for part in (train, test))
        if highest >= len(train.labels) + len(test.labels):
            raise DataError(
                f"label {highest} in {folder} is higher than there are images; "
                "number the classes from 0 up"
            )
        classes = tuple(str(label) for label in range(highest + 1))
    finer = columns.group or (FINER_COLUMN if label != FINER_COLUMN else "")
    attributes = Attributes(_attributes(train_files), _attributes(test_files), finer)
    if columns.group:
        _column(list(attributes.train), (columns.group,), "group", train_files[0])
    elif finer not in attributes.train:
        attributes = replace(attributes, finer="")
    return Raw(train, test, classes, attributes=attributes)


def _attributes(files: Sequence[Path]) -> dict[str, Values]:
    """Return the columns of plain values, each read when it is asked for."""
    schema = open_parquet(files[0]).schema_arrow
    return {
        name: functools.partial(_values, files, name)
        for name in schema.names
        if schema.names.count(name) == 1 and _is_plain(schema.field(name).type)
    }


def _values(files: Sequence[Path], column: str) -> list[str]:
    """Return a column as texts, numbers of classes by their names where the files give them."""
    names = class_names(files[0], column)
    found: list[str] = []
    for path in files:
        with _damage_named(path):
            file = open_parquet(path)
            _column(file.schema_arrow.names, (column,), "group", path)
            values = file.read(columns=[column]).column(0).to_pylist()
        for value in values:
            named = names is not None and isinstance(value, int) and 0 <= value < len(names)
            found.append(names[value] if names and named else str("" if value is None else value))
    return found


def find_files(folder: Path, *, search_below: bool = True) -> tuple[list[Path], list[Path]]:
    """Return the training and the test files of a folder, [] and [] where it has none.

    The hub keeps files in a folder below the dataset's own (``data``, ``plain_text``), so where
    ``folder`` itself has none, the folders in it are looked into with ``search_below``.
    """
    if not folder.is_dir():
        return [], []
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if search_below else []
    for place in (folder, *inner):
        found = _files_of(place, TRAIN_NAMES), _files_of(place, TEST_NAMES)
        if not any(found) and search_below:
            found = _files_in(place, TRAIN_NAMES), _files_in(place, TEST_NAMES)
        if any(found):
            return found
    return [], []


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


def class_names(path: Path, label: str) -> tuple[str, ...] | None:
    """Return the names that the ``huggingface`` metadata of a file gives to a column's labels."""
    schema = open_parquet(path).schema_arrow
    try:
        metadata = parse_json((schema.metadata or {})[b"huggingface"], f"the metadata of {path}")
        names = metadata["info"]["features"][label]["names"]
    except (KeyError, TypeError, RefusedError):
        return None  # The metadata is optional, and labels are usable without names.
    if not isinstance(names, list) or not 0 < len(names) <= MAX_CLASSES:
        return None
    return tuple(str(name) for name in names)


def open_parquet(path: Path) -> "pq.ParquetFile":
    """Open a Parquet file.

    Raises:
        DataError: If it is damaged or no Parquet file.
    """
    import pyarrow.parquet as pq

    if not is_regular(path) and path.exists():
        raise DataError(f"{path} is not a regular file; only those are read")
    with _damage_named(path):
        file = pq.ParquetFile(path)
        rows = file.metadata.num_rows
        if rows > MAX_ROWS:
            raise DataError(f"{path} declares {rows:,} rows; at most {MAX_ROWS:,} are read")
        file.schema_arrow.names  # noqa: B018 - names that are not text show here
        return file


def _check_groups(path: Path, file: "pq.ParquetFile", column: str) -> None:
    """Refuse row groups that would take all memory, before one is read."""
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        columns = (group.column(i) for i in range(group.num_columns))
        size = sum(
            part.total_uncompressed_size
            for part in columns
            if part.path_in_schema.partition(".")[0] == column
        )
        if group.num_rows > MAX_GROUP_ROWS or size > GROUP_BYTES:
            raise DataError(
                f"row group {number} of {path} declares {group.num_rows:,} rows and "
                f"{size_text(size)} of images; at most {MAX_GROUP_ROWS:,} and "
                f"{size_text(GROUP_BYTES)} are read at once: write smaller row groups"
            )


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names not in UTF-8
        raise DataError(
            f"cannot read {path}: truncated or damaged; delete it and download it again"
        ) from error


def _part(files: Sequence[Path], label: str) -> RawPart:
    column = _column(open_parquet(files[0]).schema_arrow.names, IMAGE_COLUMNS, "image", files[0])
    for path in files:
        schema = open_parquet(path).schema_arrow
        _column(schema.names, [column], "image", path)
        kind = schema.field(column).type
        if not _is_bytes(kind) and not any(
            field.name == "bytes" and _is_bytes(field.type) for field in _fields(kind)
        ):
            raise DataError(
                f"column {column!r} of {path} has type {one_line(str(kind))[:120]}; "
                "wanted bytes or {bytes, path}"
            )
    labels = [_labels(path, label) for path in files]
    return RawPart(ParquetColumn(files[0].parent, files, column), torch.cat(labels))


def _labels(path: Path, label: str) -> Tensor:
    """Return the labels of one file, int64 [rows]."""
    file = open_parquet(path)
    name = _column(file.schema_arrow.names, (label,), "label", path)
    with _damage_named(path):
        column = file.read(columns=[name]).column(0)
    import pyarrow as pa

    if not pa.types.is_integer(column.type) or column.null_count:
        raise DataError(
            f"column {name!r} of {path} has type {column.type} and {column.null_count} empty "
            "values; wanted an integer label in every row"
        )
    labels = column.to_numpy()
    if len(labels) and labels.max() >= 2**62:
        raise DataError(f"column {name!r} of {path} has a label of {labels.max()}; count from 0")
    return torch.from_numpy(labels.astype("int64"))


def _column(names: Sequence[str], wanted: Sequence[str], kind: str, path: Path) -> str:
    for name in wanted:
        if names.count(name) > 1:
            raise DataError(f"{path} has several columns named {name!r}; keep one")
        if name in names:
            return name
    raise DataError(
        f"no {kind} column in {path}: it has {in_order([one_line(n)[:40] for n in names])}; "
        f"wanted one of {', '.join(wanted)}"
    )


def _is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_plain(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
    more = (pa.types.is_boolean, pa.types.is_floating, pa.types.is_dictionary, pa.types.is_date)
    return any(is_kind(kind) for is_kind in (*plain, *more))


def _fields(kind: "pa.DataType") -> list["pa.Field"]:
    import pyarrow as pa

    return [kind.field(i) for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
