"""Text that anybody may have written, as pages, tables and drawings can hold it."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

# Not legal in XML, not encodable, or turning the direction of all that follows.
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
# What a spreadsheet takes for a formula; quotes before it are there to say that it is none.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_QUOTED_FORMULA = re.compile(r"'+[=+\-@\t\r]")


def readable(text: str) -> str:
    """Return ``text`` with every character that no file or drawing can hold as U+FFFD.

    These are control characters but tab and line end, lone surrogates (bytes of a file's name
    that are not text), and marks that turn the direction of writing.
    """
    return text if text.isascii() and text.isprintable() else _UNREADABLE.sub("\ufffd", text)


def shortened(text: str, most: int) -> str:
    """Return ``text`` with its middle left out where it is longer than ``most`` characters."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[-end:]}"


def as_cell(text: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula: a quote stands before it."""
    return f"'{text}" if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """Return the text that :func:`as_cell` made a cell of."""
    return cell[1:] if _QUOTED_FORMULA.match(cell) else cell


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV; numbers are written as they are, texts by :func:`as_cell`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([as_cell(c) if isinstance(c, str) else c for c in row] for row in rows)
    return text.getvalue()
