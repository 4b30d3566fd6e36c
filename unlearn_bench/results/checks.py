"""What files of results must hold to be read: types, sizes of numbers and lengths of names.

A results folder may be anybody's. Whatever passes here can be averaged, squared, drawn and
written without a further look; what does not is refused with its place.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.text import as_cell, from_cell, readable, shortened

if TYPE_CHECKING:
    import pandas as pd

# The fourth power of a number, and sums of many, are finite.
LARGEST = 1e60
MAX_SEED_DIGITS = 18
MAX_NAME_LENGTH, MAX_TEXT_LENGTH = 1_000, 100_000
KINDS = ("reference", "control", "method")
STATUSES = ("ok", "failed", "unresolved", "not_applicable")

_SEED = re.compile(rf"-?[0-9]{{1,{MAX_SEED_DIGITS}}}")
_KEY = re.compile(r"[A-Za-z0-9][\w:.-]{0,249}")
_Cells: TypeAlias = "np.ndarray[Any, Any]"
_Wrong: TypeAlias = Callable[[int, str, str], OutputError]
# Columns that hold numbers.
NUMBERS = ("value", "low", "high", "gap_error")
# And whole numbers.
WHOLE = ("seed", "draw", "request")
_LONG = ("error", "params")
_WORDS = ((Mapping, "a mapping"), (list, "a list"), (str, "text"), (bool, "true or false"))


def is_number(value: object) -> bool:
    """Whether a value of JSON is a number that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and _fits(value)


def are_numbers(values: list[Any]) -> bool:
    """Whether all values of a list from JSON are such numbers; curves have thousands."""
    return set(map(type, values)) <= {int, float} and all(map(LARGEST.__ge__, map(abs, values)))


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


def as_cells(records: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table whose texts no spreadsheet takes for formulas, to be written as CSV."""
    texts = (name for name in records.columns if records[name].dtype.kind not in "biuf")
    changed = {}
    for name in texts:
        values = records[name].to_numpy(dtype=object)
        cells = {value: as_cell(value) for value in set(values) if isinstance(value, str)}
        if any(cell != text for text, cell in cells.items()):
            changed[name] = [cells.get(value, value) for value in values]
    return records.assign(**changed)


def checked_records(records: "pd.DataFrame", name: str, *, typed: bool = False) -> "pd.DataFrame":
    """Return a table as it was read as records: numbers, names and known words.

    Args:
        records: With all columns of records.
        name: Of the file, for messages.
        typed: Whether numbers are numbers, as Parquet has them. From CSV every cell is a text, one
            that a spreadsheet would take for a formula with a quote before it, and the first row
            is line 2.

    Raises:
        OutputError: With the line, the column and the text of the first cell that is wrong.
    """
    import pandas as pd

    def wrong(place: int, column: str, wanted: str) -> OutputError:
        line = f"{name}, row {place + 1}" if typed else f"{name}:{place + 2}"
        shown = repr(str(records[column].iloc[place])[:60])
        return OutputError(f"{line}: the {column} {wanted.format(shown)}")

    columns: dict[str, Any] = {}
    for column in records.columns:
        cells = records[column].to_numpy(dtype=object)
        if column in NUMBERS:
            columns[column] = _numbers(cells, column, wrong)
        elif column in WHOLE:
            columns[column] = _whole(cells, column, wrong)
        else:
            text_of = readable if typed else _text_of_cell
            columns[column] = _texts(cells, column, wrong, text_of)
    return pd.DataFrame(columns, columns=records.columns)


def _text_of_cell(cell: str) -> str:
    return readable(from_cell(cell))


def _numbers(cells: _Cells, column: str, wrong: _Wrong) -> "np.ndarray[Any, Any]":
    found = np.full(len(cells), math.nan)
    empty = np.array([cell is None or cell == "" or cell != cell for cell in cells], dtype=bool)
    for place in np.flatnonzero(~empty):
        try:
            found[place] = float(cells[place])
        except ValueError:
            found[place] = math.inf
    faults = np.flatnonzero(~(np.abs(found) <= LARGEST) & ~empty)
    if len(faults):
        raise wrong(
            faults[0], column, f"is {{}}, and has to be a number of at most {LARGEST:g} in size"
        )
    return found


def _whole(cells: _Cells, column: str, wrong: _Wrong) -> "np.ndarray[Any, Any]":
    right = {cell: _SEED.fullmatch(str(cell)) is not None for cell in set(cells)}
    for place, cell in enumerate(cells):
        if not right[cell]:
            raise wrong(place, column, "is {}, and has to be a whole number")
    return np.array([int(cell) for cell in cells], dtype=np.int64)


def _texts(
    cells: _Cells, column: str, wrong: _Wrong, text_of: Callable[[str], str]
) -> "pd.Series[str]":
    import pandas as pd

    shown: dict[str, str] = {}
    # Each text once, as they come: a table of a million rows has few.
    for text in pd.unique(cells):
        if fault := _fault(text, column):
            raise wrong(int(np.argmax(cells == text)), column, fault)
        shown[text] = text_of(text)
    return pd.Series([shown[text] for text in cells], dtype=object)


def _fault(text: str, column: str) -> str:
    """Say what is wrong with a text, as a message about its cell goes on; empty if nothing is."""
    allowed = {"kind": KINDS, "status": STATUSES}.get(column)
    most = MAX_TEXT_LENGTH if column in _LONG else MAX_NAME_LENGTH
    if allowed is not None and text not in allowed:
        return f"is {{}}, and has to be one of {', '.join(allowed)}"
    if column == "run_key" and text and not is_key(text):
        return "is {}, and has to be the key of a run"
    if len(text) > most:
        return f"has {len(text):,} characters, and may have {most:,}"
    return ""
