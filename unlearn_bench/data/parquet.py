"""Images in Parquet files, in the layout that the Hugging Face hub uses.

A row is one image, encoded as JPEG or PNG, in a column of bytes or of ``{bytes, path}``, and one
label. Which part a row is in follows from the name of its file, or from a column. Columns of
texts, numbers and truth values are attributes, read when a scenario asks for one. Rows are read by
row group on demand, so a set may be larger than memory.
"""

import bisect
import functools
import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, one_line, visible
from unlearn_bench.core.memory import available_memory
from unlearn_bench.core.quantities import in_order
from unlearn_bench.data.attributes import Attributes, Values
from unlearn_bench.data.parquet_files import (
    TEST_NAMES,
    TRAIN_NAMES,
    check_groups,
    damage_named,
    every_file,
    fields_of,
    find_column,
    find_files,
    is_bytes,
    is_plain,
    open_parquet,
)
from unlearn_bench.data.parquet_labels import LABEL_COLUMNS, class_names, in_common, read_labels
from unlearn_bench.data.sources import USUAL_COLUMNS, Columns, Raw, RawPart, Rows, held_out

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_COLUMNS = ("image", "img")
FINER_COLUMN = "fine_label"
# Row groups of image sets hold about 100 rows; more than one per decoding thread.
ROW_GROUPS_KEPT = 16
TRAIN_SPLITS = (*TRAIN_NAMES, "training", "trn")
TEST_SPLITS = (*TEST_NAMES[:1], "testing", "tst", *TEST_NAMES[1:], "eval", "evaluation", "dev")
SHOWN = 8


class ParquetColumn:
    """The image column of some Parquet files, read by row group and partly remembered."""

    def __init__(self, base: Path, files: Sequence[Path], column: str) -> None:
        """Read the footers of ``files``, nothing else.

        Raises:
            DataError: If a file is damaged.
        """
        self.base, self.files, self._column = base, files, column
        self.digest = b""
        self._open = [open_parquet(path) for path in files]
        self._groups = [
            (number, group)
            for number, file in enumerate(self._open)
            for group in range(file.num_row_groups)
        ]
        for path, file in zip(files, self._open, strict=True):
            check_groups(path, file)
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
        if not any(field.name == "path" for field in fields_of(kind)):
            return [""] * len(self)
        found: list[str] = []
        for path, file in zip(self.files, self._open, strict=True):
            with damage_named(path), self._lock:
                table = file.read(columns=[f"{self._column}.path"])
            cells = table.column(0).combine_chunks().field("path").to_pylist()
            found += [str(cell or "") for cell in cells]
        return found

    def _read_group(self, group: int) -> "pa.Array":
        number, inner = self._groups[group]
        with damage_named(self.files[number]):
            table = self._open[number].read_row_group(inner, columns=[self._column])
        column = table.column(0).combine_chunks()
        return column if is_bytes(column.type) else column.field("bytes")


class _Table:
    """Rows of some files, of one part or of both: images, labels and attributes."""

    def __init__(self, files: Sequence[Path], columns: Columns) -> None:
        self.files = files
        self.where = files[0] if len(files) == 1 else files[0].parent
        names = open_parquet(files[0]).schema_arrow.names
        images = (columns.image,) if columns.image else IMAGE_COLUMNS
        image = find_column(names, images, "image", files[0])
        for path in files:
            _check_image_column(path, image)
        self.images = ParquetColumn(files[0].parent, files, image)
        if columns.image and image != next((n for n in IMAGE_COLUMNS if n in names), ""):
            self.images.digest = f"column {image}".encode()
        labels = (columns.label,) if columns.label else LABEL_COLUMNS
        self.label = find_column(names, labels, "label", files[0])
        self.labels = read_labels(files, self.label)
        if not len(self.labels.codes):
            raise DataError(f"{files[0]} has no rows; download it again")

    def attributes(self, rows: Tensor | None = None) -> dict[str, Values]:
        """Return the columns of plain values, each read when it is asked for."""
        schema = open_parquet(self.files[0]).schema_arrow
        return {
            name: functools.partial(_values, self.files, name, rows)
            for name in schema.names
            if schema.names.count(name) == 1 and is_plain(schema.field(name).type)
        }


def load_folder(folder: Path, columns: Columns = USUAL_COLUMNS) -> Raw:
    """Load the Parquet files of ``folder``, or of the one folder in it that has any.

    Where there is no test part, a fixed fifth of every class is held out.

    Args:
        folder: Of the dataset, or a single file.
        columns: Which are meant, where there are several or their names are not the usual ones.

    Raises:
        DataError: If files are missing or damaged, have no image or label column, or disagree.
    """
    if columns.split:
        return _divided(_Table(_some(every_file(folder), folder), columns), columns)
    files = find_files(folder)
    if not files.train and not files.test:  # of other names: one part
        files = files._replace(train=every_file(folder))
    train = _Table(_some(files.train, folder), columns)
    if not files.test:
        return _without_test(train, columns)
    # The test part has its labels where the training part has them.
    test = _Table(files.test, columns._replace(label=train.label))
    common = in_common(train.labels, test.labels)
    return Raw(
        RawPart(train.images, common.train),
        RawPart(test.images, common.test),
        common.classes,
        common.notes,
        _with_finer(Attributes(train.attributes(), test.attributes()), train, columns),
    )


def _some(files: list[Path], folder: Path) -> list[Path]:
    if not files:
        raise DataError(
            f"no train-*.parquet in {folder}, nor a folder of that name with Parquet files; "
            "put the training part of the dataset there"
        )
    return files


def _without_test(table: _Table, columns: Columns) -> Raw:
    """Hold out a fifth of every class."""
    out = held_out(table.labels.codes)
    note = (
        f"{table.where} has no test part: a fifth of each class is held out as one; "
        "indices count all rows, before that"
    )
    return _parts(table, ~out, out, columns, note)


def _divided(table: _Table, columns: Columns) -> Raw:
    """Divide rows by what a column says of them."""
    name = str(columns.split)
    find_column(open_parquet(table.files[0]).schema_arrow.names, (name,), "split", table.files[0])
    words = [value.strip().lower() for value in _values(table.files, name)]
    there = dict.fromkeys(words)
    train = next((word for word in TRAIN_SPLITS if word in there), None)
    if train is None:
        said = in_order([visible(word) for word in there], SHOWN)
        raise DataError(
            f"column {name!r} of {table.files[0]} says {said}; "
            f"expected {TRAIN_SPLITS[0]} for training rows and {TEST_SPLITS[0]} for test rows"
        )
    test = next((word for word in TEST_SPLITS if word in there), None)
    is_train, is_test = (torch.tensor([w == part for w in words]) for part in (train, test))
    left = Counter(word for word in words if word not in (train, test))
    unused = [f"{count} of {word!r} not used" for word, count in left.most_common(SHOWN)]
    by = f"{table.where} is divided by column {name!r}"
    if test is None:
        by += f", which names no test rows: a fifth of each class of {train!r} is held out"
        rows = is_train.nonzero().squeeze(1)
        is_test[rows[held_out(table.labels.codes[rows])]] = True
        is_train &= ~is_test
    note = f"{'; '.join([by, *unused])}; indices count all rows"
    return _parts(table, is_train, is_test, columns, note)


def _parts(table: _Table, is_train: Tensor, is_test: Tensor, columns: Columns, note: str) -> Raw:
    """Return two parts of the same files, bool [N] each."""
    train, test = (chosen.nonzero().squeeze(1) for chosen in (is_train, is_test))
    if not len(test):
        raise DataError(f"every class in {table.files[0]} has one row; expected at least two")
    common = in_common(table.labels.rows(train), table.labels.rows(test))
    return Raw(
        RawPart(Rows(table.images, train), common.train, numbers=train),
        RawPart(Rows(table.images, test), common.test),
        common.classes,
        (note, *common.notes),
        _with_finer(Attributes(table.attributes(train), table.attributes(test)), table, columns),
    )


def _with_finer(attributes: Attributes, table: _Table, columns: Columns) -> Attributes:
    """Say which column holds the fine classes, if any does."""
    finer = columns.group or (FINER_COLUMN if table.label != FINER_COLUMN else "")
    if columns.group:
        find_column(list(attributes.train), (columns.group,), "group", table.files[0])
    return replace(attributes, finer=finer if finer in attributes.train else "")


def _check_image_column(path: Path, column: str) -> None:
    schema = open_parquet(path).schema_arrow
    find_column(schema.names, [column], "image", path)
    kind = schema.field(column).type
    if not is_bytes(kind) and not any(
        field.name == "bytes" and is_bytes(field.type) for field in fields_of(kind)
    ):
        raise DataError(
            f"column {column!r} of {path} has type {one_line(str(kind))[:120]}; "
            "expected bytes or {bytes, path}"
        )


def _values(files: Sequence[Path], column: str, rows: Tensor | None = None) -> list[str]:
    """Return a column as texts, numbers of classes by their names where the files give them."""
    names = class_names(files[0], column)
    found: list[str] = []
    for path in files:
        with damage_named(path):
            file = open_parquet(path)
            find_column(file.schema_arrow.names, (column,), "group", path)
            values = file.read(columns=[column]).column(0).to_pylist()
        for value in values:
            named = names is not None and isinstance(value, int) and 0 <= value < len(names)
            found.append(names[value] if names and named else str("" if value is None else value))
    return found if rows is None else [found[row] for row in rows.tolist()]
