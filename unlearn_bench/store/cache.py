"""What lies in the artifact store, what of it may go, and whether it is whole.

Everything removed here is made again when it is needed: at worst a removal costs time. What a
living process holds locked is never touched, nothing is followed through a link, and what bears
no name that the store gives is not the store's to remove.
"""

import contextlib
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import readable_os_errors
from unlearn_bench.store import layout
from unlearn_bench.store.layout import SCHEMA, SHARD, STAGES, DamagedError
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.spec import ModelSpec

_DAMAGED = re.compile(r"[a-z_]+-[0-9a-f]{32}-\d+|store\.json-\d+")
_LOCK = re.compile(r"[0-9a-f]{32}\.lock")


@dataclass(frozen=True)
class Entry:
    """One artifact.

    Attributes:
        folder: Where it lies; named by its key.
        kind: Such as ``original``.
        what: What it is of, in words.
        size: Bytes of its files.
        made: When, in seconds since 1970.
        used: When last; a time in the future, after the clock was set back, counts as now.
        schema: Of the version that wrote it; None where that cannot be read.
        damage: Why its specification cannot be read; empty for a sound one.
    """

    folder: Path
    kind: str
    what: str
    size: int
    made: float
    used: float
    schema: int | None
    damage: str = ""


@dataclass(frozen=True)
class Removal:
    """Something that was removed, or would be."""

    path: Path
    what: str
    why: str
    size: int


@dataclass(frozen=True)
class Damage:
    """A damaged artifact, and where it was put; None where it could not be moved."""

    folder: Path
    reason: str
    place: Path | None


def entries(home: Path) -> list[Entry]:
    """Return every artifact of a store, by kind, the least recently used first.

    Raises:
        OutputError: If a later version wrote the store, or it cannot be read.
    """
    layout.check_layout(home)
    now = time.time()
    found = []
    with readable_os_errors("read the store", home):
        for folder in layout.folders(home):
            if not folder.name.startswith("."):
                try:
                    found.append((folder, layout.read_spec(folder), ""))
                except (DamagedError, OSError) as error:
                    found.append((folder, {}, str(error)))
    models: dict[str, str] = {}
    for folder, spec, _ in found:
        if spec and folder.parent.name in ("original", "unlearned"):
            # Methods that leave the weights alone share the original's.
            models.setdefault(spec["sha256"], _of_model(spec["identity"]))
    listed = []
    for folder, spec, damage in found:
        identity = spec.get("identity", {})
        used = _changed(folder / layout.SPEC)
        listed.append(
            Entry(
                folder,
                folder.parent.name,
                _what(identity, models) if spec else "?",
                _size(folder),
                made=min(_changed(folder / layout.TENSORS), now),
                used=min(used, now),
                schema=identity.get("schema"),
                damage=damage,
            )
        )
    return sorted(listed, key=lambda entry: (entry.kind, entry.used, entry.folder.name))


def rubbish(home: Path) -> list[Removal]:
    """Return what is left of killed writers and of damage; some of it may still be in use."""
    found = []
    for folder in layout.folders(home):
        if folder.name.startswith("."):
            found.append(Removal(folder, "", "left by a killed process", _size(folder)))
    for path in _named(home / "damaged", _DAMAGED):
        found.append(Removal(path, "", "damaged", _size(path)))
    return found


def collect(
    home: Path,
    *,
    max_size: int | None = None,
    older_than: float | None = None,
    dry_run: bool = False,
) -> tuple[list[Removal], list[Entry]]:
    """Remove rubbish, what an older schema left, and what is over the limits.

    Args:
        home: The store.
        max_size: Bytes that artifacts may take; the least recently used go first.
        older_than: Seconds after which an artifact that nobody used goes.
        dry_run: Only list what would be removed.

    Returns:
        What was removed, and the artifacts that stay: used by a living process or within limits.

    Raises:
        OutputError: If the store cannot be read or written, or a later version wrote it.
    """
    now, removed = time.time(), []
    listed = entries(home)
    for left in rubbish(home):
        if left.why == "damaged":
            if not dry_run:
                _delete(left.path)
            removed.append(left)
        elif _remove(home, left.path, left.path.name.split(".")[1], dry_run, unfinished=True):
            removed.append(left)
    kept = []
    total = sum(entry.size for entry in listed)
    for entry in sorted(listed, key=lambda entry: (entry.used, entry.folder.name)):
        why = ""
        if entry.damage:
            why = "damaged"
        elif entry.schema is not None and entry.schema < SCHEMA:
            why = f"of the older schema {entry.schema}"
        elif older_than is not None and now - entry.used > older_than:
            why = "not used for long"
        elif max_size is not None and total > max_size:
            why = "over the size limit"
        if why and _remove(home, entry.folder, entry.folder.name, dry_run):
            total -= entry.size
            removed.append(Removal(entry.folder, f"{entry.kind}: {entry.what}", why, entry.size))
        else:
            kept.append(entry)
    if not dry_run:
        _remove_idle_locks(home, {entry.folder.name for entry in kept})
    return removed, kept


def verify(
    home: Path, built_in: Callable[[], Mapping[str, str]] = dict
) -> Iterator[tuple[Path, Damage | None]]:
    """Check every byte of every artifact; put damaged ones aside, to be built again.

    Args:
        home: The store.
        built_in: Gives the code keys of the reference and the controls, by name: what bears such
            a name and was made by other code is put aside as well. Asked only if there are such.

    Yields:
        Each artifact's folder, and what is wrong with it.

    Raises:
        OutputError: If a later version wrote the store.
    """
    layout.check_layout(home)
    for folder in layout.folders(home):
        if folder.name.startswith("."):
            continue
        reason = _fault(folder, built_in)
        if not reason:
            yield folder, None
            continue
        place = None
        try:
            held = layout.lock(home, folder.name, wait=False)
            if held is None:
                continue  # whoever holds it is mending it
            with held:
                # Another process may have mended or removed it just now.
                reason = _fault(folder, built_in) if folder.exists() else ""
                place = layout.put_aside(home, folder) if reason else None
        except OutputError:
            pass  # a read-only store: the damage is told all the same
        yield folder, Damage(folder, reason, place) if reason else None


def _fault(folder: Path, built_in: Callable[[], Mapping[str, str]]) -> str:
    try:
        stored = layout.read_whole(folder)
    except DamagedError as error:
        return str(error)
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if folder.parent.name != "unlearned":
        return ""
    method, code = stored.identity.get("method"), stored.identity.get("code")
    if layout.is_made_by_other_code(stored.identity, stored.notes):
        return f"{method} was made by code other than its own"
    if code != built_in().get(str(method), code):
        return (
            f"{method} was made by code other than the built-in, from a plug-in or another version"
        )
    return ""


def _remove(home: Path, folder: Path, key: str, dry_run: bool, unfinished: bool = False) -> bool:
    """Remove an artifact's folder unless a process has its key locked; say whether it goes."""
    if dry_run:
        return not layout.is_locked(home, key)
    held = layout.lock(home, key, wait=False)
    if held is None or unfinished and not held.sure:
        return False
    with held, readable_os_errors("remove", folder):
        # First out of sight, in one step: a reader finds all of it or nothing.
        gone = folder.with_name(f".{key}.{uuid.uuid4().hex}")
        try:
            folder.rename(gone)
        except FileNotFoundError:
            return False  # another process was quicker
        _delete(gone)
    return True


def _named(folder: Path, name: re.Pattern[str]) -> list[Path]:
    """Return what the store itself put into one of its folders: links it makes none."""
    if folder.is_symlink():
        return []
    paths = sorted(folder.glob("*"))
    return [path for path in paths if name.fullmatch(path.name) and not path.is_symlink()]


def _delete(folder: Path) -> None:
    with readable_os_errors("remove", folder):
        if folder.is_file():
            folder.unlink(missing_ok=True)
        while folder.exists():
            with contextlib.suppress(FileNotFoundError):  # another process is at the same
                shutil.rmtree(folder)


def _remove_idle_locks(home: Path, kept: set[str]) -> None:
    for path in _named(home / "locks", _LOCK):
        if path.stem in kept:
            continue
        held = layout.lock(home, path.stem, wait=False)
        if held is not None and held.sure:
            with held, readable_os_errors("remove", path):
                path.unlink(missing_ok=True)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    """Return the bytes of all files below; what another process removes meanwhile counts 0."""
    if not path.is_symlink() and path.is_dir():
        return sum(_size(inside) for inside in _inside(path))
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _what(identity: Mapping[str, Any], models: Mapping[str, str]) -> str:
    """Say what an artifact is of, from what its key hashes."""
    if "weights" in identity:
        return models.get(
            str(identity["weights"]), f"weights {str(identity['weights'])[:8]}, removed"
        )
    return _of_model(identity)


def _of_model(identity: Mapping[str, Any]) -> str:
    try:
        parts = [identity.get("dataset"), ModelSpec.model_validate(identity["model"]).label]
        if "forget" in identity:
            parts.append(Forget.model_validate(identity["forget"]).name)
        if "seed" in identity:
            parts.append(f"seed {identity['seed']}")
        if SHARD in identity:
            parts.append(f"shard {identity[SHARD] + 1} after slice {identity[STAGES]}")
        parts.append(identity.get("method"))
        return " · ".join(part for part in parts if part)
    except (ValueError, KeyError, TypeError):
        return ", ".join(sorted(map(str, identity)))
