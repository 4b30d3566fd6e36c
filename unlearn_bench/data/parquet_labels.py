"""Labels of Parquet files: numbers, named or not, or texts, brought to the same in both parts.

Texts name their classes themselves; numbers may have names in the files' metadata. Both parts go
by the classes of the training part and, where both have names, by these: whether the test part
lists them in the same order does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, RefusedError, visible
from unlearn_bench.core.quantities import in_order
from unlearn_bench.core.reading import parse_json
from unlearn_bench.data.parquet_files import damage_named, find_column, open_parquet

LABEL_COLUMNS = ("label", "labels", "fine_label")
MAX_CLASSES = 100_000
SHOWN = 5


@dataclass(frozen=True)
class Labels:
    """The labels of some rows.

    Attributes:
        codes: int64 [N]: the numbers in the files; of texts, their places in ``names``.
        names: Of the classes, by code; None where the files give plain numbers.
        texts: Whether the files hold texts.
        where: The column and its first file, for error messages.
    """

    codes: Tensor
    names: tuple[str, ...] | None
    texts: bool
    where: str

    def rows(self, chosen: Tensor) -> "Labels":
        """Return the labels of some of the rows, int64 [M]."""
        codes = self.codes[chosen]
        if not self.texts or self.names is None:
            return replace(self, codes=codes)
        there = codes.unique()  # a text that no row has is no class
        names = tuple(self.names[code] for code in there.tolist())
        return replace(self, codes=torch.searchsorted(there, codes), names=names)


class Common(NamedTuple):
    """Labels of both parts that go by the same classes.

    Attributes:
        train: int64 [N], counted from 0.
        test: int64 [M].
        classes: Their names.
        notes: What was done, one line each.
    """

    train: Tensor
    test: Tensor
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_labels(files: Sequence[Path], column: str) -> Labels:
    """Read one column of labels.

    Raises:
        DataError: If it is missing, has empty cells, or holds neither texts nor whole numbers, or
            if its files do not all hold the same.
    """
    parts = [_of_file(path, column) for path in files]
    first = parts[0]
    other = next((part for part in parts if part.texts != first.texts), None)
    if other is not None:
        raise DataError(f"{first.where} and {other.where} differ in type; write all files alike")
    names = first.names
    if names is not None:  # a file without names goes by those of the first
        parts = [replace(part, names=part.names or names) for part in parts]
        every = {name for part in parts for name in part.names or ()}
        if any(part.names != names for part in parts):
            known = () if first.texts else names
            names = (*known, *sorted(every.difference(known)))
            parts = [_by_name(part, names) for part in parts]
    return Labels(torch.cat([part.codes for part in parts]), names, first.texts, first.where)


def in_common(train: Labels, test: Labels) -> Common:
    """Bring the labels of both parts to the classes of the training part.

    Raises:
        DataError: If the test part has a class that the training part lacks, or only one of them
            names its classes.
    """
    if train.names is None and test.names is None:
        return _numbered(train, test)
    if train.names is None or test.names is None:
        named, plain = (test, train) if train.names is None else (train, test)
        if named.texts:
            raise DataError(
                f"{named.where} holds texts, {plain.where} numbers without names; write both alike"
            )
        return Common(train.codes, test.codes, named.names or ())
    if train.names == test.names and not train.texts:
        return Common(train.codes, test.codes, train.names)
    notes = (f"{test.where} lists the classes differently from the training part: mapped by name",)
    mapped = _by_name(test, train.names)
    return Common(
        train.codes, mapped.codes, train.names, () if train.texts and test.texts else notes
    )


def _numbered(train: Labels, test: Labels) -> Common:
    """Count plain numbers from 0, leaving out those that no training example has."""
    there = train.codes.unique()
    for part in (train, test):
        if len(part.codes) and int(part.codes.min()) < 0:
            raise DataError(
                f"{part.where} has a label of {int(part.codes.min())}, which usually marks images "
                "without one; label them, or leave them out"
            )
    absent = test.codes[~torch.isin(test.codes, there)]
    if len(absent):
        raise DataError(
            f"{test.where} has a label of {int(absent[0])}, which the training part lacks; add "
            "training images of that class, or leave it out"
        )
    if len(there) > MAX_CLASSES:
        raise DataError(
            f"{train.where} has {len(there):,} different labels, at most {MAX_CLASSES:,} are "
            "read; is it the column of classes?"
        )
    classes = tuple(map(str, there.tolist()))
    shown = in_order(classes, SHOWN)
    note = f"{train.where} has labels {shown}: counted from 0, by these names"
    usual = not len(there) or int(there[-1]) == len(there) - 1
    one, other = (torch.searchsorted(there, part.codes) for part in (train, test))
    return Common(one, other, classes, () if usual else (note,))


def _by_name(part: Labels, names: tuple[str, ...]) -> Labels:
    """Return labels as places in ``names``.

    Raises:
        DataError: If there is one that is not among them, or that more than one has.
    """
    own = part.names or ()
    used = part.codes.unique().tolist()
    for code in used:
        if not 0 <= code < len(own):
            raise DataError(f"{part.where} has a label of {code}, but names {len(own)} classes")
        if names.count(own[code]) != 1 or own.count(own[code]) != 1:
            how = "has no" if own[code] not in names else "has more than one"
            raise DataError(
                f"{part.where} has a class {own[code][:40]!r}, of which the training part "
                f"{how} name; its classes are {in_order([visible(n[:40]) for n in names], SHOWN)}"
            )
    places = torch.full((max(used, default=0) + 1,), -1)
    for code in used:
        places[code] = names.index(own[code])
    return Labels(places[part.codes], names, part.texts, part.where)


def _of_file(path: Path, column: str) -> Labels:
    import pyarrow as pa

    file = open_parquet(path)
    name = find_column(file.schema_arrow.names, (column,), "label", path)
    where = f"column {name!r} of {path}"
    with damage_named(path):
        cells = file.read(columns=[name]).column(0).combine_chunks()
    kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
    is_text = (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)
    )
    if cells.null_count or not (is_text or pa.types.is_integer(kind)):
        raise DataError(
            f"{where} has type {cells.type} and {cells.null_count} empty values; expected a "
            "text or a whole number in every row"
        )
    if is_text:
        words = [str(value) for value in cells.to_pylist()]
        names = tuple(sorted({*words}))
        if len(names) > MAX_CLASSES:
            raise DataError(
                f"{where} has {len(names):,} different texts, at most {MAX_CLASSES:,} classes are "
                "read; is it the column of classes?"
            )
        places = {text: place for place, text in enumerate(names)}
        return Labels(torch.tensor([places[word] for word in words]).long(), names, True, where)
    labels = cells.to_numpy(zero_copy_only=False)
    if len(labels) and labels.max() >= 2**62:
        raise DataError(f"{where} has a label of {labels.max()}; count from 0")
    codes = torch.from_numpy(labels.astype("int64"))
    return Labels(codes, class_names(path, name), False, where)


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
