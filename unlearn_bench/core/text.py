"""Text that anybody may have written, as pages, tables and drawings can hold it."""

import re

# Not legal in XML, not encodable, or turning the direction of all that follows.
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


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
