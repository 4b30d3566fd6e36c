"""Artifacts as files: where they lie, whether they are whole, and who may touch them.

Layout, below ``$UNLEARN_BENCH_HOME`` or the user's cache folder::

    store.json                      the number of this layout
    artifacts/KIND/KEY/tensors.safetensors
    artifacts/KIND/KEY/spec.json    what the key hashes, checksums, and notes such as costs
    damaged/KIND-KEY-NUMBER/        artifacts whose checksum failed
    locks/KEY.lock

An artifact's folder is written under a hidden name and renamed when complete. The last change
of ``spec.json`` is when it was last used, that of the tensors when it was made. Free of torch,
so that looking into the store is instant; :mod:`unlearn_bench.store.store` builds and loads.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from unlearn_bench.core import locks
from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import readable_os_errors, sync_folder, write_atomically
from unlearn_bench.core.keys import content_key

# Raise when what is stored, or what a key means, changes: artifacts of before are then built
# anew, and `cache gc` removes them.
SCHEMA = 2
# Raise when files lie elsewhere or are written otherwise, and say in `check_layout` what becomes
# of stores of before. A store of a later version is refused, never guessed at.
LAYOUT = 1

_OURS = re.compile(r"[0-9a-f]{32}|\.[0-9a-f]{32}\..+")
TENSORS, SPEC = "tensors.safetensors", "spec.json"


class DamagedError(Exception):
    """An artifact that is not what was written; the text says why."""


@dataclass(frozen=True)
class Stored:
    """A whole artifact, its tensors still as bytes.

    Attributes:
        identity: What the key hashes.
        sha256: Checksum of the tensors' file.
        notes: What the builder kept.
        data: The tensors' file.
    """

    identity: Mapping[str, Any]
    sha256: str
    notes: Mapping[str, Any]
    data: bytes


def default_home() -> Path:
    """Return ``$UNLEARN_BENCH_HOME``, or the user's cache folder."""
    given = os.environ.get("UNLEARN_BENCH_HOME")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("unlearn-bench")


def folder_of(home: Path, kind: str, key: str) -> Path:
    """Return where the artifact ``key`` of a kind lies, if it does."""
    return home / "artifacts" / kind / key


def key_of(kind: str, identity: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the full identity of an artifact, and its key."""
    full = {"schema": SCHEMA, "kind": kind, **identity}
    return full, content_key(full)


def check_layout(home: Path) -> None:
    """Refuse a store that a later version wrote.

    A store without a number is one from before there were numbers; its layout is number 1.

    Raises:
        OutputError: If the store is not ours to read.
    """
    path = home / "store.json"
    try:
        layout = json.loads(path.read_text())["layout"]
        if not isinstance(layout, int):
            raise TypeError(f"{layout!r} is no number")
    except (FileNotFoundError, NotADirectoryError):
        return
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path} does not say which layout the store has ({error}); if the store is yours, "
            "delete that file, otherwise set another UNLEARN_BENCH_HOME"
        ) from None
    except OSError as error:
        raise OutputError(
            f"cannot read {path}: {error.strerror}; set another UNLEARN_BENCH_HOME"
        ) from error
    if layout != LAYOUT:
        raise OutputError(
            f"the store {home} has layout {layout}, this version knows {LAYOUT}: upgrade "
            "unlearn-bench, or set another UNLEARN_BENCH_HOME"
        )


def note_layout(home: Path) -> None:
    """Write which layout the store has, unless that is written already."""
    if not (home / "store.json").exists():
        write_atomically(home / "store.json", json.dumps({"layout": LAYOUT}) + "\n")


def describe(
    identity: Mapping[str, Any], sha256: str, notes: Mapping[str, Any], build_seconds: float
) -> bytes:
    """Return the content of ``spec.json``; how long building took helps to plan."""
    stored = {
        "identity": identity,
        "sha256": sha256,
        "notes": notes,
        "build_seconds": build_seconds,
    }
    # Through JSON first: the checksum is of what a reader will find.
    stored = json.loads(json.dumps(stored, allow_nan=False))
    stored["check"] = content_key(stored)
    # In the order given: what a method logs first is what it is about, and drawn first.
    return json.dumps(stored, indent=1, allow_nan=False).encode()


def read_spec(folder: Path) -> dict[str, Any]:
    """Read what an artifact is, without its tensors.

    Raises:
        FileNotFoundError: If it is not there.
        DamagedError: If the file is not as it was written.
        OSError: If it cannot be read.
    """
    try:
        stored: dict[str, Any] = json.loads((folder / SPEC).read_bytes())
        check = stored.pop("check")
        whole = check == content_key(stored) and {"identity", "sha256", "notes"} <= stored.keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{SPEC} is not what was written: {error}") from None
    if not whole:
        raise DamagedError(f"checksum of {SPEC} differs")
    if content_key(stored["identity"]) != folder.name:
        raise DamagedError(f"{SPEC} is of another artifact")
    return stored


def read_whole(folder: Path) -> Stored:
    """Read an artifact and check every byte of it.

    Raises:
        FileNotFoundError: If it, or one of its files, is not there.
        DamagedError: If it is not as it was written.
        OSError: If it cannot be read.
    """
    stored = read_spec(folder)
    data = (folder / TENSORS).read_bytes()
    if stored["sha256"] != hashlib.sha256(data).hexdigest():
        raise DamagedError(f"checksum of {TENSORS} differs")
    return Stored(stored["identity"], stored["sha256"], stored["notes"], data)


def holds(home: Path, kind: str, identity: Mapping[str, Any]) -> bool:
    """Say whether an artifact is there, its tensors unread."""
    folder = folder_of(home, kind, key_of(kind, identity)[1])
    try:
        read_spec(folder)
        return (folder / TENSORS).is_file()
    except (DamagedError, OSError):
        return False


def mark_used(folder: Path) -> None:
    """Note that the artifact was used now; where nothing can be written, do without."""
    with contextlib.suppress(OSError):
        os.utime(folder / SPEC)


def put_aside(home: Path, folder: Path) -> Path:
    """Move a damaged artifact out of the way and return where to; only for who holds its lock.

    Raises:
        OutputError: If the file system refuses.
    """
    named = home / "damaged" / f"{folder.parent.name}-{folder.name}"
    with readable_os_errors("put aside the damaged", folder):
        named.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while (place := named.with_name(f"{named.name}-{number}")).exists():
            number += 1
        # Without locks another process may just have moved it.
        with contextlib.suppress(FileNotFoundError):
            folder.rename(place)
            sync_folder(folder.parent)
    return place


def lock(home: Path, key: str, *, wait: bool) -> locks.Lock | None:
    """Lock an artifact's key; None if another process holds it and ``wait`` is not set.

    Raises:
        OutputError: If the file system refuses.
    """
    path = home / "locks" / f"{key}.lock"
    with readable_os_errors("create the lock", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return locks.take(path, wait=wait)


def is_locked(home: Path, key: str) -> bool:
    """Say whether a living process holds the key's lock; nothing is written."""
    return bool(locks.is_held(home / "locks" / f"{key}.lock"))


def folders(home: Path) -> Iterator[Path]:
    """Yield the folder of every artifact, by kind and key; those of hidden names are unfinished.

    Links and what else somebody put there are left out: not for us to count or remove.
    """
    for kind in sorted((home / "artifacts").glob("*")):
        if kind.is_dir() and not kind.is_symlink():
            for folder in sorted(kind.iterdir()):
                if _OURS.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                    yield folder
