"""Content-addressed artifacts on disk: trained and unlearned models, and their logits.

An artifact is a folder named by the hash of everything that determines it. It is written under
another name and renamed when complete, so it is either there in full or not at all. A lock per
key keeps two processes from building the same thing. Every file's SHA-256 is checked on
reading; a damaged artifact is put aside and built again. Nothing is ever unpickled.

Layout, below ``$UNLEARN_BENCH_HOME`` or the user's cache folder::

    artifacts/KIND/KEY/tensors.safetensors
    artifacts/KIND/KEY/spec.json    what the key hashes, checksum, and notes such as costs
    damaged/KIND-KEY-TIME/          artifacts whose checksum failed
    locks/KEY.lock
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from unlearn_bench.errors import OutputError
from unlearn_bench.files import readable_os_errors
from unlearn_bench.keys import content_key

# Raise when what is stored, or what a key means, changes: old artifacts are then left alone.
SCHEMA = 1

_TENSORS, _SPEC = "tensors.safetensors", "spec.json"


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


def default_home() -> Path:
    """Return ``$UNLEARN_BENCH_HOME``, or the user's cache folder."""
    given = os.environ.get("UNLEARN_BENCH_HOME")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("unlearn-bench")


class Store:
    """The artifacts below one folder.

    Args:
        home: The folder; created when first written to.
        notify: Told in one line about damage found and about waiting for another process.
    """

    def __init__(self, home: Path, notify: Callable[[str], None] = lambda _: None) -> None:
        self.home = home
        self._notify = notify

    def get_or_build(
        self, kind: str, identity: Mapping[str, Any], build: Callable[[], Built]
    ) -> Artifact:
        """Return the artifact that ``identity`` determines, building it if need be.

        Args:
            kind: Folder it is kept in, such as ``original``.
            identity: Everything that determines the content; JSON values.
            build: Makes the tensors and the notes; called under the key's lock.

        Raises:
            OutputError: If the store cannot be read or written.
        """
        identity = {"schema": SCHEMA, "kind": kind, **identity}
        key = content_key(identity)
        folder = self.home / "artifacts" / kind / key
        found = self._read(folder, key, mend=False)
        if found is not None:
            return found
        with self._lock(key):
            # Another process may have built it while this one waited.
            found = self._read(folder, key, mend=True)
            if found is not None:
                return found
            tensors, notes = build()
            return self._write(folder, key, identity, tensors, notes)

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        path = self.home / "locks" / f"{key}.lock"
        lock = FileLock(path)
        with readable_os_errors("create the lock", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self._notify("another process is building the same artifact: waiting for it")
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _read(self, folder: Path, key: str, *, mend: bool) -> Artifact | None:
        """Return the artifact if it is whole; with ``mend``, put a damaged one out of the way.

        Only who holds the lock may mend: another process may just have done so, and what lies
        here now be whole.
        """
        try:
            stored = json.loads((folder / _SPEC).read_text())
            data = (folder / _TENSORS).read_bytes()
            if stored.pop("check") != content_key(stored):
                raise ValueError(f"checksum of {_SPEC} differs")
            if stored["sha256"] != hashlib.sha256(data).hexdigest():
                raise ValueError(f"checksum of {_TENSORS} differs")
            return Artifact(key, stored["sha256"], load(data), stored["notes"], reused=True)
        except FileNotFoundError:
            if folder.exists() and mend:
                self._put_aside(folder, "a file is missing")
        except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            if mend:
                self._put_aside(folder, str(error))
        except OSError as error:
            raise OutputError(
                f"cannot read {folder}: {error.strerror}; delete it or choose another "
                "UNLEARN_BENCH_HOME"
            ) from error
        return None

    def _put_aside(self, folder: Path, reason: str) -> None:
        place = self.home / "damaged" / f"{folder.parent.name}-{folder.name}-{time.time_ns()}"
        with readable_os_errors("put aside the damaged", folder):
            place.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(place)
        self._notify(f"damaged artifact {folder.name} ({reason}): kept as {place}, built again")

    def _write(
        self,
        folder: Path,
        key: str,
        identity: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        notes: Mapping[str, Any],
    ) -> Artifact:
        with readable_os_errors("store an artifact in", folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
            for left in folder.parent.glob(f".{key}.*"):
                # What a killed process left: the lock says that nobody writes it any more.
                shutil.rmtree(left, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{key}."))
            try:
                # Cloned: tied weights share storage, which safetensors refuses.
                data = save({k: t.detach().cpu().clone().contiguous() for k, t in tensors.items()})
                _write_synced(temporary / _TENSORS, data)
                sha256 = hashlib.sha256(data).hexdigest()
                stored = {"identity": identity, "sha256": sha256, "notes": notes}
                stored["check"] = content_key(stored)
                text = json.dumps(stored, indent=1, sort_keys=True, allow_nan=False)
                _write_synced(temporary / _SPEC, text.encode())
                temporary.rename(folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return Artifact(key, sha256, load(data), notes)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
