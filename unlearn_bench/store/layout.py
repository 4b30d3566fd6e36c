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
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from unlearn_bench.core import locks
from unlearn_bench.core.errors import ConfigError, OutputError, RefusedError, one_line
from unlearn_bench.core.files import is_temporary, readable_os_errors, sync_folder, write_atomically
from unlearn_bench.core.keys import content_key
from unlearn_bench.core.reading import MIB, expand_user, read_bytes, read_json

# Raise when what is stored, or what a key means, changes: artifacts of before are then built
# anew, and `cache gc` removes them.
SCHEMA = 2
# Raise when files lie elsewhere or are written otherwise, and say in `check_layout` what becomes
# of stores of before. A store of a later version is refused, never guessed at.
LAYOUT = 1

_OURS = re.compile(r"[0-9a-f]{32}|\.[0-9a-f]{32}\..+")
TENSORS, SPEC, LAYOUT_FILE = "tensors.safetensors", "spec.json", "store.json"
SPEC_BYTES, LAYOUT_BYTES = 256 * MIB, MIB
_KEPT = {"identity": dict, "sha256": str, "notes": dict}


# In the identity of a checkpoint: whose of an ensemble it is, and after how many slices.
SHARD, STAGES = "shard", "stages"
# Among the notes of an unlearned model: the hash of the code that made it.
CODE = "code"


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
    """Return ``$UNLEARN_BENCH_HOME``, or the user's cache folder.

    Raises:
        ConfigError: If that cannot be found out.
    """
    if given := os.environ.get("UNLEARN_BENCH_HOME"):
        return expand_user(Path(given), "UNLEARN_BENCH_HOME")
    home = platformdirs.user_cache_path("unlearn-bench")
    if not home.is_absolute():  # a user without a home: the store would come to lie anywhere
        raise ConfigError("no home folder to keep models in; set UNLEARN_BENCH_HOME")
    return home


def folder_of(home: Path, kind: str, key: str) -> Path:
    """Return where the artifact ``key`` of a kind lies, if it does."""
    return home / "artifacts" / kind / key


def key_of(kind: str, identity: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the full identity of an artifact, and its key."""
    full = {"schema": SCHEMA, "kind": kind, **identity}
    return full, content_key(full)


def check_layout(home: Path) -> None:
    """Refuse a store that a later version wrote.

    A store without a number is one from before there were numbers, or its file is damaged: both
    are read as layout 1, for every artifact proves itself.

    Raises:
        OutputError: If the store is not ours to read.
    """
    layout = _layout(home)
    if layout is not None and layout != LAYOUT:
        raise OutputError(
            f"the store {home} has layout {layout}, this version knows {LAYOUT}: upgrade "
            "unlearn-bench, or set another UNLEARN_BENCH_HOME"
        )


def _layout(home: Path) -> int | None:
    """Return the number of the store's layout; None where no file gives one."""
    path = home / LAYOUT_FILE
    try:
        layout = read_json(path, LAYOUT_BYTES, links=False)["layout"]
    except (FileNotFoundError, NotADirectoryError, RefusedError, KeyError, TypeError):
        return None
    except OSError as error:
        raise OutputError(
            f"cannot read {path}: {error.strerror}; set another UNLEARN_BENCH_HOME"
        ) from error
    return layout if isinstance(layout, int) and not isinstance(layout, bool) else None


def note_layout(home: Path) -> None:
    """Write which layout the store has, unless that is written already; damage is put aside."""
    path = home / LAYOUT_FILE
    if _layout(home) is not None:
        return
    with lock(home, content_key(LAYOUT_FILE), wait=True) or contextlib.nullcontext() as held:
        if _layout(home) is not None:  # another process was quicker
            return
        # What killed processes were writing; the lock says that they are gone.
        for left in home.glob(f".{LAYOUT_FILE}.*") if held is not None and held.sure else ():
            if is_temporary(left.name):
                left.unlink(missing_ok=True)
        if os.path.lexists(path):
            _move_aside(path, home / "damaged" / LAYOUT_FILE)
        write_atomically(path, json.dumps({"layout": LAYOUT}) + "\n")


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
        stored: dict[str, Any] = read_json(folder / SPEC, SPEC_BYTES, links=False)
        check = stored.pop("check")
        whole = check == content_key(stored) and all(
            isinstance(stored[name], kind) for name, kind in _KEPT.items()
        )
        whole = whole and isinstance(stored["identity"].get("schema", 0), int)
    except (RefusedError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{SPEC} is not what was written: {one_line(str(error))}") from None
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
    try:
        data = read_bytes(folder / TENSORS, sys.maxsize - 1, links=False)
    except RefusedError as error:
        raise DamagedError(one_line(str(error))) from None
    if stored["sha256"] != hashlib.sha256(data).hexdigest():
        raise DamagedError(f"checksum of {TENSORS} differs")
    return Stored(stored["identity"], stored["sha256"], stored["notes"], data)


def is_made_by_other_code(identity: Mapping[str, Any], notes: Mapping[str, Any]) -> bool:
    """Whether an artifact was made by other code than its identity claims.

    Those of before this was noted are taken at their word.
    """
    made_by = notes.get(CODE)
    return bool(made_by) and "code" in identity and made_by != identity["code"]


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
    return _move_aside(folder, home / "damaged" / f"{folder.parent.name}-{folder.name}")


def _move_aside(path: Path, named: Path) -> Path:
    """Move ``path`` to ``named`` with a number that is still free, and return where that is."""
    _refuse_link(named.parent)
    with readable_os_errors("put aside the damaged", path):
        named.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while (place := named.with_name(f"{named.name}-{number}")).exists():
            number += 1
        # Without locks another process may just have moved it.
        with contextlib.suppress(FileNotFoundError):
            path.rename(place)
            sync_folder(path.parent)
    return place


def _refuse_link(folder: Path) -> None:
    """Refuse to write where a link leads: whose folder that is nobody knows.

    Raises:
        OutputError: If the folder is a link.
    """
    if folder.is_symlink():
        raise OutputError(
            f"{folder} is a link, and nothing is written through it: remove it, or set "
            "UNLEARN_BENCH_HOME to another folder"
        )


def lock(home: Path, key: str, *, wait: bool) -> locks.Lock | None:
    """Lock an artifact's key; None if another process holds it and ``wait`` is not set.

    Raises:
        OutputError: If the file system refuses.
    """
    path = home / "locks" / f"{key}.lock"
    _refuse_link(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return locks.take(path, wait=wait)
    except OSError as error:
        raise OutputError(
            f"cannot create the lock {path}: {error.strerror}; models are kept in {home}: make "
            "that writable, or set UNLEARN_BENCH_HOME to another folder"
        ) from error


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
