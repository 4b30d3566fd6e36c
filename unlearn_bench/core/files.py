"""Write files so that a reader sees the old content or the new one, never a part of it.

A temporary file in the same folder is written, flushed to disk and renamed over the target;
rename within one file system is atomic, and the folder is flushed after it, so that what was
reported as written is there after a power cut too. Operating-system failures (disk full, no
permission) become one-line errors that name the path.
"""

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from unlearn_bench.core.errors import OutputError, RefusedError
from unlearn_bench.core.reading import read_bytes

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp", re.DOTALL)


@contextlib.contextmanager
def readable_os_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` raised inside into an :class:`OutputError` that names ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        # Space is no remedy where there is nothing, or a file in the place of a folder.
        advice = (
            "check the path"
            if isinstance(error, FileNotFoundError | NotADirectoryError)
            else "free space or choose another place"
        )
        raise OutputError(
            f"cannot {action} {path}: {reason}; {advice}, then run the same command again"
        ) from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace the content of ``path`` in one step, creating its folder if needed.

    Raises:
        OutputError: If the file system refuses; ``path`` is then as it was, or, where only the
            last flush of its folder failed, already has the new content.
    """
    with replacing(path) as stream:
        stream.write(_encoded(content))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write and read, which takes the place of ``path`` if all goes well.

    Raises:
        OutputError: As :func:`write_atomically`.
    """
    with readable_os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        # Not tempfile, whose files only their owner may read: what others may is the umask's.
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(handle, "w+b") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """Return a new name for what is being written and then takes the place of ``path``."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file's name is one of :func:`temporary_beside`, as killed processes leave them."""
    return _TEMPORARY.fullmatch(name) is not None


def write_if_changed(path: Path, content: bytes | str) -> None:
    """Write ``content`` as :func:`write_atomically` does, unless the file has it already.

    Raises:
        OutputError: If the file system refuses.
    """
    data = _encoded(content)
    try:
        if read_bytes(path, len(data), links=False) == data:
            return
    except (OSError, RefusedError):
        pass  # it is not there, or writing will say what is wrong
    write_atomically(path, data)


def _encoded(content: bytes | str) -> bytes:
    # Bytes of a file's name that are not text come as surrogates, which UTF-8 has no form of.
    return content.encode(errors="backslashreplace") if isinstance(content, str) else content


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and flush it to disk; not atomic: for files of a folder not yet in its place."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Flush a folder to disk: only then does a rename inside it survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems flush folders by themselves and know no such request.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Make sure that nothing of a folder is read or written through a symbolic link.

    Args:
        folder: It may itself be reached through a link, which the user named.
        names: Of files and folders in it.

    Raises:
        OutputError: If one of them is a link.
    """
    for name in names:
        if (folder / name).is_symlink():
            raise OutputError(
                f"{folder / name} is a symbolic link, and nothing is read or written through one "
                "in a results folder; put the real file or folder in its place"
            )
