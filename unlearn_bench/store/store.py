"""Content-addressed artifacts on disk: trained and unlearned models, and their logits.

An artifact is a folder named by the hash of everything that determines it. It is written under
another name and renamed when complete, so it is either there in full or not at all. A lock per
key keeps two processes from building the same thing; where a file system has no locks, they may
both build it and one of the equal results is kept. Every file's SHA-256 is checked on reading;
a damaged artifact is put aside and built again. Nothing is ever unpickled.
:mod:`unlearn_bench.store.layout` says where the files lie.
"""

import contextlib
import errno
import hashlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from unlearn_bench.core.blindness import check_artifact
from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import readable_os_errors, sync_folder, write_synced
from unlearn_bench.store import layout
from unlearn_bench.store.layout import SCHEMA, DamagedError

__all__ = ["SCHEMA", "Artifact", "Built", "Keeps", "Store", "packed"]


@dataclass(frozen=True)
class Artifact:
    """Tensors with the notes stored beside them.

    Attributes:
        key: Hash of what determines the artifact.
        sha256: Checksum of the tensors' file: the identity of a model's weights.
        tensors: By name, on the CPU.
        notes: Whatever the builder wanted to keep: costs, logs.
        reused: Whether it was on disk already.
    """

    key: str
    sha256: str
    tensors: dict[str, Tensor]
    notes: Mapping[str, Any] = field(default_factory=dict)
    reused: bool = False


Built = tuple[Mapping[str, Tensor], Mapping[str, Any]]


class Keeps(Protocol):
    """Whatever keeps artifacts: a :class:`Store`, or this process's memory."""

    def get_or_build(
        self, kind: str, identity: Mapping[str, Any], build: Callable[[], Built]
    ) -> Artifact:
        """Return the artifact that ``identity`` determines, building it if need be."""


def packed(tensors: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """Return tensors as the bytes of their file, and its SHA-256."""
    # Cloned: tied weights share storage, which safetensors refuses.
    data = save({k: t.detach().cpu().clone().contiguous() for k, t in tensors.items()})
    return data, hashlib.sha256(data).hexdigest()


class Store:
    """The artifacts below one folder.

    Args:
        home: The folder; created when first written to.
        notify: Receives one line about damage found and about waiting for another process.

    Attributes:
        notify: The same, for what else there is to say about what goes into the store.
    """

    def __init__(self, home: Path, notify: Callable[[str], None] = lambda _: None) -> None:
        self.home = home
        self.notify = notify
        self._layout_checked = False
        self._said_no_locks = False

    def get_or_build(
        self, kind: str, identity: Mapping[str, Any], build: Callable[[], Built]
    ) -> Artifact:
        """Return the artifact that ``identity`` determines, building it if need be.

        Args:
            kind: Folder it is kept in, such as ``original``.
            identity: Everything that determines the content; JSON values.
            build: Makes the tensors and the notes; called under the key's lock.

        Raises:
            OutputError: If the store cannot be read or written, or a later version wrote it.
        """
        found = self.find(kind, identity)
        if found is not None:
            return found
        identity, key = layout.key_of(kind, identity)
        folder = layout.folder_of(self.home, kind, key)
        with self._lock(key) as alone:
            # Another process may have built it while this one waited.
            found = self._read(folder, key, mend=True)
            if found is not None:
                return found
            start = time.perf_counter()
            tensors, notes = build()
            seconds = time.perf_counter() - start
            return self._write(folder, key, identity, tensors, notes, seconds, alone=alone)

    def find(self, kind: str, identity: Mapping[str, Any]) -> Artifact | None:
        """Return the artifact that ``identity`` determines if it is there; waits for no lock.

        Raises:
            OutputError: If the store cannot be read, or a later version wrote it.
            BlindnessError: If something is being tuned, and this is part of a report.
        """
        check_artifact(kind, identity)
        if not self._layout_checked:
            layout.check_layout(self.home)
            self._layout_checked = True
        key = layout.key_of(kind, identity)[1]
        return self._read(layout.folder_of(self.home, kind, key), key, mend=False)

    def reject(self, kind: str, identity: Mapping[str, Any], reason: str) -> None:
        """Put an artifact aside that cannot be what it says, to be built again."""
        key = layout.key_of(kind, identity)[1]
        folder = layout.folder_of(self.home, kind, key)
        with self._lock(key):
            if folder.exists():
                self._put_aside(folder, reason)

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[bool]:
        """Hold the key's lock; gives whether it keeps others out."""
        held = layout.lock(self.home, key, wait=False)
        if held is None:
            self.notify("another process is building the same artifact: waiting for it")
            held = layout.lock(self.home, key, wait=True)
        assert held is not None
        if not held.sure and not self._said_no_locks:
            self._said_no_locks = True
            self.notify(
                f"the file system of {self.home} has no locks: processes may repeat each other's "
                "work"
            )
        with held:
            yield held.sure

    def _read(self, folder: Path, key: str, *, mend: bool) -> Artifact | None:
        """Return the artifact if it is whole; with ``mend``, put a damaged one out of the way.

        Only who holds the lock may mend: another process may just have done so, and what lies
        here now be whole.
        """
        try:
            stored = layout.read_whole(folder)
            tensors = load(stored.data)
        except FileNotFoundError:
            if folder.exists() and mend:
                self._put_aside(folder, "a file is missing")
            return None
        except (DamagedError, SafetensorError) as error:
            if mend:
                self._put_aside(folder, str(error))
            return None
        except OSError as error:
            raise OutputError(
                f"cannot read {folder}: {error.strerror}; delete it or choose another "
                "UNLEARN_BENCH_HOME"
            ) from error
        layout.mark_used(folder)
        return Artifact(key, stored.sha256, tensors, stored.notes, reused=True)

    def _put_aside(self, folder: Path, reason: str) -> None:
        place = layout.put_aside(self.home, folder)
        self.notify(f"damaged artifact {folder.name} ({reason}): moved to {place} and built again")

    def _write(
        self,
        folder: Path,
        key: str,
        identity: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        notes: Mapping[str, Any],
        seconds: float,
        *,
        alone: bool,
    ) -> Artifact:
        with readable_os_errors("store an artifact in", folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
            layout.note_layout(self.home)
            if alone:
                for left in folder.parent.glob(f".{key}.*"):
                    # What a killed process left: the lock says that nobody writes it any more.
                    shutil.rmtree(left, ignore_errors=True)
            temporary = folder.with_name(f".{key}.{uuid.uuid4().hex}")
            temporary.mkdir()
            try:
                data, sha256 = packed(tensors)
                write_synced(temporary / layout.TENSORS, data)
                spec = layout.describe(identity, sha256, notes, seconds)
                write_synced(temporary / layout.SPEC, spec)
                sync_folder(temporary)
                there = self._rename(temporary, folder, key)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            sync_folder(folder.parent)
        return there or Artifact(key, sha256, load(data), notes)

    def _rename(self, temporary: Path, folder: Path, key: str) -> Artifact | None:
        """Put a finished artifact into its place; without locks, give what another put there."""
        while True:
            try:
                temporary.rename(folder)
                return None
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            there = self._read(folder, key, mend=True)
            if there is not None:
                shutil.rmtree(temporary)
                return there
