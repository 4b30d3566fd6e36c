"""A file that names training examples: by index, by file name, or by a mask of zeros and ones."""

import re
from pathlib import Path
from typing import Any

from unlearn_bench.core.errors import ConfigError, RefusedError
from unlearn_bench.core.reading import MIB, expand_user, read_text

INDEX_BYTES = 16 * MIB
_HEADINGS = {"index", "indices", "idx"}
# The ending of an image file: a letter first, so that 0.5 is none.
_FILE_NAME = re.compile(r"[^\x00-\x1f\x7f]+\.[A-Za-z][A-Za-z0-9]{1,5}")


def read_indices(path: Path) -> dict[str, Any]:
    """Return the examples that a file names, as keys of a scenario.

    Returns:
        ``indices``, or ``files`` where lines are names of files; of a mask also ``of``, how many
        examples it speaks of.

    Raises:
        ValueError: If it cannot be read or holds something else; one line.
    """
    try:
        path = expand_user(path, "indices")
        text = read_text(path, INDEX_BYTES)
    except (RefusedError, ConfigError) as error:
        raise ValueError(f"cannot read the indices: {error}") from error
    except OSError as error:
        raise ValueError(f"cannot read the indices in {path}: {error.strerror}") from error
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    if lines and all(map(_FILE_NAME.fullmatch, lines)):
        return {"files": lines}
    words = text.split()
    if words and words[0].lower() in _HEADINGS:
        words = words[1:]
    # The line and not the word: a suite that a stranger wrote may name any file of the reader's.
    if not words or not all(word.isascii() and word.isdecimal() for word in words):
        what = f"something else in line {_first_other(text)}" if words else "nothing"
        raise ValueError(
            f"{path} holds {what} where an index was expected; write one whole number or one file "
            "name per line, or a mask of zeros and ones"
        )
    if len(words) > 2 and {*words} <= {"0", "1"}:
        return _of_mask(path, words)
    return {"indices": [int(word[:20]) for word in words]}


def _first_other(text: str) -> int:
    """Return the number of the first line that holds a word which is neither index nor heading."""
    known = re.compile(rf"(\s*\b({'|'.join(_HEADINGS)})\b)?[\s0-9]*", re.IGNORECASE | re.ASCII)
    found = known.match(text)
    return text.count("\n", 0, found.end() if found else 0) + 1


def _of_mask(path: Path, words: list[str]) -> dict[str, Any]:
    """Return where the ones of a mask stand. Two words are indices: no dataset is that small."""
    ones = [place for place, word in enumerate(words) if word == "1"]
    if not ones:
        raise ValueError(
            f"{path} holds a mask of {len(words)} zeros, which forgets nothing; write a 1 for "
            "every example to forget"
        )
    return {"indices": ones, "of": len(words)}
