"""Write files so that a reader sees the old content or the new one, never a part of it.

A temporary file in the same folder is written, flushed to disk and renamed over the target;
rename within one file system is atomic. Operating-system failures (disk full, no permission)
become one-line errors that name the path.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unlearn_bench.errors import OutputError


@contextlib.contextmanager
def readable_os_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` raised inside into an :class:`OutputError` that names ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot {action} {path}: {reason}; free space or choose another place, "
            "then run the same command again"
        ) from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace the content of ``path`` in one step, creating its folder if needed.

    Raises:
        OutputError: If the file system refuses; ``path`` is then as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    with readable_os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
