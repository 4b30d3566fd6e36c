"""The one door for files that a stranger may have made: bounded before and while they are read.

Results folders, bundles, suites, weights, images and Parquet files come from anywhere. Through
here only regular files are opened (no device, no pipe that never ends), no more is read than is
allowed, whatever size is declared, and what is parsed has a bounded depth. What does not pass
raises :class:`RefusedError`, one line that names the file, the fault and the limit.
"""

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from unlearn_bench.core.errors import ConfigError, RefusedError
from unlearn_bench.core.quantities import size_text

MIB = 1 << 20
JSON_BYTES = 64 * MIB
JSON_DEPTH = 64
WHOLE = (1 << 63) - 1  # the largest whole number of a JSON file
HEADER_BYTES = 16 * MIB  # of a safetensors file: names and shapes of its tensors
CHUNK = MIB

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a symbolic link"),
)
# A string, or a bracket outside of strings; an unclosed string runs to the end of the text.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# Every digit becomes 0, so that long numbers and long exponents are found at once.
_DIGITS = bytes.maketrans(b"0123456789E", b"0000000000e")


@contextmanager
def opened(path: Path, *, links: bool = True) -> Iterator[BufferedReader]:
    """Open a regular file for reading.

    Args:
        path: The file.
        links: Whether ``path`` itself may be a symbolic link. Files named by the user may; what
            is found inside somebody's folder may not.

    Raises:
        RefusedError: If it is something else than a regular file.
        OSError: If it cannot be opened.
    """
    _check_kind(path, (path.stat() if links else path.lstat()).st_mode)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if links else os.O_NOFOLLOW)
    with os.fdopen(os.open(path, flags), "rb") as stream:
        # Looked at again: another file may have come into its place meanwhile.
        _check_kind(path, os.fstat(stream.fileno()).st_mode)
        yield stream


def _check_kind(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise RefusedError(f"{path} is {kind}; only regular files are read")


def is_regular(path: Path, *, links: bool = True) -> bool:
    """Say whether a path leads to a regular file; broken links and what is absent do not."""
    try:
        return stat.S_ISREG((path.stat() if links else path.lstat()).st_mode)
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, limit: int, *, links: bool = True) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        RefusedError: If it is something else or larger, by its size or while it is read.
        OSError: If it cannot be read.
    """
    with opened(path, links=links) as stream:
        if os.fstat(stream.fileno()).st_size > limit:
            raise _too_large(path, limit)
        # A file may grow, and some say that they are empty.
        pieces, left = [], limit + 1
        while left and (piece := stream.read(min(CHUNK, left))):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise _too_large(path, limit)
    return b"".join(pieces)


def _too_large(path: Path, limit: int) -> RefusedError:
    return RefusedError(f"{path} is larger than {size_text(limit)}, the limit")


def read_text(path: Path, limit: int, *, links: bool = True) -> str:
    """Return the text of a regular file, which must be UTF-8; a byte order mark is dropped.

    Raises:
        RefusedError: As :func:`read_bytes`, and if it is not text.
        OSError: If it cannot be read.
    """
    return decoded(read_bytes(path, limit, links=links), str(path))


def decoded(data: bytes, name: str) -> str:
    """Return ``data`` as text.

    Raises:
        RefusedError: If it is not UTF-8; names the first wrong byte.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError(
            f"{name} is not a text file in UTF-8: byte {error.start} is {data[error.start]:#04x}"
        ) from None


def read_json(path: Path, limit: int = JSON_BYTES, *, links: bool = True) -> Any:
    """Return the value of a JSON file; :func:`parse_json` says what is refused.

    Raises:
        RefusedError: As :func:`read_text`, and if it is not such JSON.
        OSError: If it cannot be read.
    """
    return parse_json(read_bytes(path, limit, links=links), str(path))


def parse_json(data: bytes | str, name: str, *, depth: int = JSON_DEPTH) -> Any:
    """Return a JSON value whose numbers are finite and whose depth is bounded.

    Args:
        data: The JSON text.
        name: What it is, for the message.
        depth: The most lists and objects that may lie in each other.

    Raises:
        RefusedError: If it is not JSON, too deep, or holds NaN, infinity or a number that is
            too large to be one.
    """
    text = decoded(data, name) if isinstance(data, bytes) else data
    outside = _outside_strings(text.encode(errors="replace"))
    if not _is_flat(outside, depth):
        _refuse_depth(text, name, depth)
    # A function that is called for every number takes longer than all the rest.
    digits = outside.translate(_DIGITS, delete=b"+")
    large = b"e000" in digits or b"0" * 300 in digits
    try:
        return json.loads(
            text,
            parse_float=_finite if large else None,
            parse_constant=_finite,
            parse_int=_whole,
        )
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{name} is not valid JSON: {error}") from None


def _outside_strings(data: bytes) -> bytes:
    """Return a JSON text without its strings; an unclosed one runs to the end."""
    if b"\\" in data:
        return _STRING.sub(b"", data)
    return b"".join(data.split(b'"')[::2])


def _is_flat(outside: bytes, depth: int) -> bool:
    """Say quickly that a text without its strings is not too deep; False if that takes a look."""
    brackets = outside.translate(None, delete=_NO_BRACKETS)
    # Each time takes away one or two levels.
    for _ in range(depth // 2):
        fewer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if fewer == brackets:
            break
        brackets = fewer
    return not brackets


def _refuse_depth(text: str, name: str, depth: int) -> None:
    level = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        first = found[0][0]
        level += (first in "[{") - (first in "]}")
        if level > depth:
            raise RefusedError(f"{name} nests lists and objects more than {depth} deep")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is not a finite number")
    return value


def _whole(number: str) -> int:
    if len(number) > 20 or abs(int(number)) > WHOLE:
        raise ValueError(f"{number[:20]}... is larger than 64 bits hold")
    return int(number)


def expand_user(path: Path, what: str) -> Path:
    """Return ``path`` with a leading ``~`` or ``~NAME`` replaced by that user's home.

    Args:
        path: As the user wrote it.
        what: Where it was written, such as a flag.

    Raises:
        ConfigError: If there is no such user, or the user has no home, or a NUL is in the path.
    """
    if "\0" in str(path):
        raise ConfigError(f"{what}: a path cannot hold a NUL character; write another path")
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{what}: {path} names the home folder of an unknown user; write the full path"
        ) from None


def real_path(path: Path, what: str) -> Path:
    """Return ``path`` absolute, with ``~`` and links followed; a link to itself stays one.

    ``Path.resolve`` raises RuntimeError for such a link before Python 3.13; to open the path
    then raises the OSError that says so.

    Args:
        path: As the user wrote it.
        what: Where it was written, such as a flag.

    Raises:
        ConfigError: As ``expand_user``.
    """
    return Path(os.path.realpath(expand_user(path, what)))


def safetensors_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of each tensor of a safetensors file, none of which is read.

    Raises:
        RefusedError: If it is not such a file, or its header does not fit its size.
        OSError: If it cannot be read.
    """
    with opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise RefusedError(f"{path} is not a safetensors file, or it is truncated")
        if length > HEADER_BYTES:
            raise RefusedError(f"the header of {path} is larger than {size_text(HEADER_BYTES)}")
        header = parse_json(stream.read(length), f"the header of {path}", depth=4)
    try:
        tensors, end = {}, 0
        for name, entry in header.items():
            if name != "__metadata__":
                first, last = (_count(n) for n in entry["data_offsets"])
                tensors[name] = str(entry["dtype"]), tuple(_count(n) for n in entry["shape"])
                if first > last:
                    raise ValueError("a tensor that ends before it begins")
                end = max(end, last)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(f"{path} has a damaged header: {error}") from None
    declared = 8 + length + end
    if size != declared:
        raise RefusedError(
            f"{path} has {size_text(size)}, but its header declares {size_text(declared)}; "
            "it is truncated or damaged, download it again"
        )
    return tensors


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} where a size was expected")
    return value
