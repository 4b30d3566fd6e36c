"""A file of training examples' indices, one per line."""

from pathlib import Path

from unlearn_bench.core.errors import ConfigError, RefusedError, visible
from unlearn_bench.core.reading import MIB, expand_user, read_text

INDEX_BYTES = 16 * MIB


def read_indices(path: Path) -> list[int]:
    """Return the indices that a file holds.

    Raises:
        ValueError: If it cannot be read or holds something else; one line.
    """
    try:
        path = expand_user(path, "indices")
        words = read_text(path, INDEX_BYTES).split()
    except (RefusedError, ConfigError) as error:
        raise ValueError(f"cannot read the indices: {error}") from error
    except OSError as error:
        raise ValueError(f"cannot read the indices in {path}: {error.strerror}") from error
    wrong = next((word for word in words if not (word.isascii() and word.isdecimal())), None)
    if wrong is not None or not words:
        what = f"{visible(wrong[:40])!r} where" if wrong else "nothing where"
        raise ValueError(f"{path} holds {what} an index was expected, one whole number per line")
    if len(words) > 2 and {*words} <= {"0", "1"}:
        raise ValueError(
            f"{path} holds a mask of {len(words)} zeros and ones, where indices were expected; "
            "write where the ones stand, counted from 0, one whole number per line"
        )
    return [int(word[:20]) for word in words]
