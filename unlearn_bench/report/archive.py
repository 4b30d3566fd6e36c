"""Files of a bundle, packed or unpacked: looked at without unpacking, read piece by piece.

A bundle may be anybody's. What it holds is bounded by what it declares before anything is read,
and by what is read; names lead nowhere else, and nothing but plain files is opened.
"""

import hashlib
import os
import re
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from unlearn_bench.core.quantities import size_text
from unlearn_bench.core.reading import CHUNK, opened
from unlearn_bench.core.text import shortened

# More than any suite gives; a bundle that claims more is not read.
MAX_FILES, MAX_BYTES = 50_000, 1 << 30
# Of a zip's list of its files, for each of them.
ENTRY_BYTES = 512
MAX_NAME = 200
DIGEST = 64
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = 20


class NotABundleError(ValueError):
    """A file that is no zip, or not one that is read."""


@dataclass(frozen=True)
class Contents:
    """The files of a bundle by name, and what is wrong with the rest.

    Attributes:
        sizes: Bytes of each file, as declared.
        open: Opens one of them.
        problems: One line each.
    """

    sizes: Mapping[str, int]
    open: Callable[[str], AbstractContextManager[IO[bytes]]]
    problems: tuple[str, ...] = ()

    def read(self, name: str, limit: int) -> bytes:
        """Return a file of at most ``limit`` bytes.

        Raises:
            ValueError: If it is larger.
        """
        with self.open(name) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise ValueError(f"larger than {size_text(limit)}")
        return content

    def digest(self, name: str, copy: Path | None = None) -> str:
        """Return the SHA-256 of a file, which is copied to ``copy`` on the way.

        Raises:
            ValueError: If it is larger than it said.
        """
        total, left = hashlib.sha256(), self.sizes[name]
        with self.open(name) as stream, (copy or Path(os.devnull)).open("wb") as target:
            while piece := stream.read(CHUNK):
                left -= len(piece)
                if left < 0:
                    raise ValueError("larger than it says")
                total.update(piece)
                target.write(piece)
        return total.hexdigest()


@contextmanager
def in_zip(path: Path) -> Iterator[Contents]:
    """Look into a zip without unpacking it; a problem is named if its seal differs.

    Raises:
        NotABundleError: If it is none, or larger than is read.
        zipfile.BadZipFile: If it is damaged.
    """
    with opened(path) as stream:
        seal = _seal(stream)
        _check_end(stream)
        with zipfile.ZipFile(stream) as archive:
            yield listed(archive, seal)


def _seal(stream: IO[bytes]) -> tuple[str, ...]:
    size = os.fstat(stream.fileno()).st_size
    if size > MAX_BYTES:
        raise NotABundleError(f"larger than {MAX_BYTES >> 30} GiB: not read")
    return (
        () if sealed(stream)[0] else ("the zip file's bytes are not as written: its seal differs",)
    )


def sealed(stream: IO[bytes]) -> tuple[bool, str]:
    """Say whether a zip's last bytes are the SHA-256 of all before them, and what that is."""
    left = max(0, os.fstat(stream.fileno()).st_size - DIGEST)
    total = hashlib.sha256()
    stream.seek(0)
    while left and (piece := stream.read(min(CHUNK, left))):
        total.update(piece)
        left -= len(piece)
    return stream.read(DIGEST) == total.hexdigest().encode(), total.hexdigest()


def _check_end(stream: IO[bytes]) -> None:
    """Bound what the list of files takes: Python reads it as a whole, whatever it declares."""
    place = os.fstat(stream.fileno()).st_size - DIGEST - _END.size
    if place < 0:
        raise NotABundleError("not a readable zip file: it is too short")
    stream.seek(max(0, place - _END64_LOCATOR))
    before = stream.read(min(place, _END64_LOCATOR))
    mark, _, _, _, files, size, _, comment = _END.unpack(stream.read(_END.size))
    if mark != b"PK\5\6" or comment != DIGEST or b"PK" in stream.read(DIGEST):
        raise NotABundleError("not a readable zip file: it does not end as bundles do")
    if files > MAX_FILES or size > MAX_FILES * ENTRY_BYTES or before.startswith(b"PK\6\7"):
        raise NotABundleError(f"holds more than {MAX_FILES:,} files: not read")


def listed(archive: zipfile.ZipFile, problems: tuple[str, ...] = ()) -> Contents:
    """Return what a zip holds, and what of it is not read.

    Raises:
        NotABundleError: If it is more than is read.
    """
    entries = archive.infolist()
    found = list(problems)
    if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise NotABundleError(
            f"holds more than {MAX_FILES:,} files or {MAX_BYTES >> 30} GiB: not read"
        )
    times = Counter(entry.filename for entry in entries)
    sizes = {}
    for entry in entries:
        name, shown = entry.filename, repr(shortened(entry.filename, 100))
        if times[name] > 1:
            found.append(f"{shown} is there {times[name]} times")
        elif not is_safe(name) or stat.S_ISLNK(entry.external_attr >> 16) or entry.is_dir():
            found.append(f"{shown} is not a plain file below the bundle")
        # Others unpack as much at a time as they like.
        elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            found.append(f"{shown} is compressed in a way that is not read")
        elif entry.flag_bits & 1:
            found.append(f"{shown} is encrypted")
        else:
            sizes[name] = entry.file_size
    return Contents(sizes, archive.open, tuple(dict.fromkeys(found)))


def in_folder(folder: Path) -> Contents:
    """Look into the folder that a bundle was unpacked into; links are not followed.

    Raises:
        NotABundleError: If it is larger than is read.
    """
    problems: list[str] = []
    sizes: dict[str, int] = {}
    total = 0
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]  # noqa: PTH114, PTH118
        for base in sorted([*files, *links]):
            path = Path(place, base)
            name, mode = path.relative_to(folder).as_posix(), path.lstat()
            if not stat.S_ISREG(mode.st_mode) or not is_safe(name):
                problems.append(f"{shortened(name, 100)!r} is not a plain file below the bundle")
            else:
                sizes[name] = mode.st_size
                total += mode.st_size
        if len(sizes) + len(problems) > MAX_FILES or total > MAX_BYTES:
            raise NotABundleError(
                f"holds more than {MAX_FILES:,} files or {MAX_BYTES >> 30} GiB: not read"
            )
    return Contents(sizes, lambda name: opened(folder / name, links=False), tuple(problems))


def is_safe(name: str) -> bool:
    """Whether a name stays below the folder that it is unpacked into, on any system."""
    parts = PurePosixPath(name).parts
    return (
        name == "/".join(parts)
        and not name.startswith("/")
        and not {"..", "."} & set(parts)
        and not re.search(r"[\\\x00-\x1f\x7f\ud800-\udfff]|^[A-Za-z]:", name)
        and all(len(part.encode()) <= MAX_NAME for part in parts)
        and len(name) <= 4 * MAX_NAME
    )
