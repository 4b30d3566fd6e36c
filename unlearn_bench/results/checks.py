"""What files of results must hold to be read: types, sizes of numbers and lengths of names.

A results folder may be anybody's. Whatever passes here can be averaged, squared, drawn and
written without a further look; what does not is refused with its place.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.text import as_cell, from_cell, readable, shortened

# The fourth power of a number, and sums of many, are finite.
LARGEST = 1e60
MAX_SEED_DIGITS = 18
MAX_NAME_LENGTH, MAX_TEXT_LENGTH = 1_000, 100_000
KINDS = ("reference", "control", "method")
STATUSES = ("ok", "failed", "unresolved", "not_applicable")

_SEED = re.compile(rf"-?[0-9]{{1,{MAX_SEED_DIGITS}}}")
_KEY = re.compile(r"[A-Za-z0-9][\w:.-]{0,249}")
# Columns that hold numbers.
NUMBERS = ("value", "low", "high", "gap_error")
_WHOLE = ("seed", "draw", "request")
_LONG = ("error", "params")
_WORDS = ((Mapping, "a mapping"), (list, "a list"), (str, "text"), (bool, "true or false"))


def is_number(value: object) -> bool:
    """Whether a value of JSON is a number that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and _fits(value)


def is_key(value: object) -> bool:
    """Whether a value can be the key of a run, which names a file: none leads out of its folder."""
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def _fits(value: float) -> bool:
    return abs(value) <= LARGEST  # False for NaN


def checked(
    stored: Mapping[str, Any], shapes: Mapping[str, type], where: str = "", *, null: bool = False
) -> None:
    """Make sure that entries of a mapping are of the types given; what is absent passes.

    Args:
        stored: Of a JSON file.
        shapes: Types by name.
        where: Whose entries they are, for the message.
        null: Whether null passes as well.

    Raises:
        ValueError: With the entry and what it is.
    """
    for name, shape in shapes.items():
        value = stored.get(name)
        passes = name not in stored or (null and value is None)
        if not passes and not isinstance(value, shape):
            raise ValueError(f"{where}{name} is {_word(value)}, and has to be {_name(shape)}")


def _name(shape: type) -> str:
    return next((word for known, word in _WORDS if known is shape), "a number")


def _word(value: object) -> str:
    if value is None:
        return "null"
    return next((word for known, word in _WORDS if isinstance(value, known)), "a number")


def number(value: object, what: str) -> float | None:
    """Return a number of a run's file, or None where there is none to give.

    Raises:
        ValueError: If it is something else, or too large.
    """
    if value is None:
        return None
    if not is_number(value):
        raise ValueError(f"{what} is not a number of at most {LARGEST:g} in size")
    assert isinstance(value, int | float)
    return value


def as_name(text: str) -> str:
    """Return a name or a reason as tables hold it: readable, and no longer than is read again."""
    return shortened(readable(text), MAX_NAME_LENGTH)


def as_cells(records: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts no spreadsheet takes for formulas, to be written as CSV."""
    texts = (name for name in records.columns if records[name].dtype.kind not in "biuf")
    changed = {}
    for name in texts:
        values = records[name].to_numpy(dtype=object)
        cells = {value: as_cell(value) for value in set(values) if isinstance(value, str)}
        if any(cell != text for text, cell in cells.items()):
            changed[name] = [cells.get(value, value) for value in values]
    return records.assign(**changed)


def checked_records(records: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a table of texts, as read from CSV, as records: numbers, names and known words.

    Args:
        records: With all columns of records, each cell a text.
        name: Of the file, for messages; its first row is line 2.

    Raises:
        OutputError: With the line, the column and the text of the first cell that is wrong.
    """
    columns: dict[str, Any] = {}
    for column in records.columns:
        texts = records[column].to_numpy(dtype=object)
        if column in NUMBERS:
            columns[column] = _numbers(texts, column, name)
        elif column in _WHOLE:
            columns[column] = _whole(texts, column, name)
        else:
            columns[column] = _texts(texts, column, name)
    return pd.DataFrame(columns, columns=records.columns)


def _numbers(texts: "np.ndarray[Any, Any]", column: str, name: str) -> "np.ndarray[Any, Any]":
    found = np.empty(len(texts))
    for place, text in enumerate(texts):
        try:
            found[place] = float(text) if text else math.nan
        except ValueError:
            found[place] = math.inf
    wrong = np.flatnonzero(~(np.abs(found) <= LARGEST) & (texts != ""))
    if len(wrong):
        raise _wrong(name, wrong[0], column, texts, f"a number of at most {LARGEST:g} in size")
    return found


def _whole(texts: "np.ndarray[Any, Any]", column: str, name: str) -> "np.ndarray[Any, Any]":
    right = {text: _SEED.fullmatch(text) is not None for text in set(texts)}
    for place, text in enumerate(texts):
        if not right[text]:
            raise _wrong(name, place, column, texts, "a whole number")
    return np.array([int(text) for text in texts], dtype=np.int64)


def _texts(texts: "np.ndarray[Any, Any]", column: str, name: str) -> "pd.Series[str]":
    allowed = {"kind": KINDS, "status": STATUSES}.get(column)
    most = MAX_TEXT_LENGTH if column in _LONG else MAX_NAME_LENGTH
    shown: dict[str, str] = {}
    for place, text in enumerate(texts):
        if text in shown:
            continue
        if allowed is not None and text not in allowed:
            raise _wrong(name, place, column, texts, f"one of {', '.join(allowed)}")
        if column == "run_key" and text and not is_key(text):
            raise _wrong(name, place, column, texts, "the key of a run")
        if len(text) > most:
            raise OutputError(
                f"{name}:{place + 2}: the {column} has {len(text):,} characters, and may have "
                f"{most:,}"
            )
        shown[text] = readable(from_cell(text))
    return pd.Series([shown[text] for text in texts], dtype=object)


def _wrong(
    name: str, place: int, column: str, texts: "np.ndarray[Any, Any]", wanted: str
) -> OutputError:
    return OutputError(
        f"{name}:{place + 2}: the {column} is {texts[place][:60]!r}, and has to be {wanted}"
    )
