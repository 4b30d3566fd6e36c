"""What a suite puts on the nodes of a Ray cluster: the task of a run, stores, and the office.

Each worker looks whether it sees the store's folder. If so it works in it, as a local process
does. If not it keeps a store of its own, and asks the *office*, an actor on the driver's node,
for what others have made: originals, references, what was seen of them. Tensors travel through
Ray's object store, as safetensors. With ``ray://`` the office runs on the cluster's head, and the
driver takes home what it collects.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import safetensors.torch

from unlearn_bench.core.errors import ConfigError, UserError
from unlearn_bench.core.files import write_atomically
from unlearn_bench.execution.backend import Setup, build_runner, perform
from unlearn_bench.execution.plugin_files import load_plugin
from unlearn_bench.execution.run import Runner
from unlearn_bench.store import layout
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Artifact, Built, Store
from unlearn_bench.suite.spec import OriginalFile, RunSpec

Packed = tuple[bytes, Mapping[str, Any]]


@dataclass(frozen=True)
class Job:
    """What every task of a suite is told.

    Attributes:
        setup: As for local workers; paths are the driver's.
        token: Name and content of a file in the driver's store, by which a worker knows it.
        plugins: Path and text of the files that register methods.
        original: The user's own weights, if the suite starts from some.
        unlearned: The user's unlearned models by their SHA-256.
        folder: The driver's working folder, for datasets named by relative paths.
        shared: Whether workers see the store's folder; None where each looks for itself.
    """

    setup: Setup
    token: str
    plugins: tuple[tuple[Path, str], ...]
    original: bytes | None
    folder: Path
    shared: bool | None
    unlearned: Mapping[str, bytes] = field(default_factory=dict)

    def sees_the_store(self) -> bool:
        """Whether the store's folder here is the driver's."""
        if self.shared is not None:
            return self.shared
        return (self.setup.home / self.token).is_file()


class RemoteStore(Store):
    """The store of a worker that does not see the driver's: what it lacks, it asks the office for.

    Args:
        home: On this node.
        notify: As for :class:`Store`.
        office: Of the suite.
    """

    def __init__(self, home: Path, notify: Callable[[str], None], office: Any) -> None:
        super().__init__(home, notify)
        self._office = office
        self._handed_in: set[str] = set()

    def get_or_build(
        self, kind: str, identity: Mapping[str, Any], build: Callable[[], Built]
    ) -> Artifact:
        """Return the artifact from here, from the office, or built; the office gets it as well."""
        named = kind, dict(identity)

        def fetch_or_build() -> Built:
            packed: Packed | None = ray.get(self._office.fetch.remote(*named))
            if packed is None:
                return build()
            self._handed_in.add(layout.key_of(*named)[1])
            return safetensors.torch.load(packed[0]), packed[1]

        artifact = super().get_or_build(kind, identity, fetch_or_build)
        # What an earlier suite left on this node, the other nodes would have to make again.
        if artifact.key not in self._handed_in:
            # Only now, when the key is unlocked: the office's store may be this very folder.
            if not artifact.reused or ray.get(self._office.lacks.remote(*named)):
                ray.get(self._office.keep.remote(*named, pack(artifact)))
            self._handed_in.add(artifact.key)
        return artifact


def pack(artifact: Artifact) -> Packed:
    """Return an artifact as it travels."""
    # Cloned: tied weights share storage, which safetensors refuses.
    tensors = {name: tensor.clone() for name, tensor in artifact.tensors.items()}
    return safetensors.torch.save(tensors), dict(artifact.notes)


class Office:
    """An actor that hands artifacts from one node to another and tells the driver what goes on.

    It serves all workers from one thread: what may take long is done in others.

    Args:
        job: Of the suite.
    """

    def __init__(self, job: Job) -> None:
        self._at_home = job.sees_the_store() or job.shared is False
        self._store = Store(job.setup.home if self._at_home else default_home())
        self._told: list[dict[str, Any]] = []
        self._collected: set[str] = set()
        self._news = asyncio.Event()

    async def fetch(self, kind: str, identity: Mapping[str, Any]) -> Packed | None:
        """Return an artifact if it is there.

        Who asks has it locked, perhaps in this very store: waiting for that lock would never end.
        """

        def packed() -> Packed | None:
            found = self._store.find(kind, identity)
            return None if found is None else pack(found)

        return await asyncio.to_thread(packed)

    async def lacks(self, kind: str, identity: Mapping[str, Any]) -> bool:
        """Say whether an artifact is yet to be handed in."""
        if not layout.holds(self._store.home, kind, identity):
            return True
        self._collect(kind, identity)
        return False

    async def keep(self, kind: str, identity: Mapping[str, Any], packed: Packed) -> None:
        """Store an artifact."""
        await asyncio.to_thread(unpack_into, self._store, kind, identity, packed)
        self._collect(kind, identity)

    def _collect(self, kind: str, identity: Mapping[str, Any]) -> None:
        """Tell a driver that does not see this store to take an artifact home, once."""
        key = layout.key_of(kind, identity)[1]
        if not self._at_home and key not in self._collected:
            self._collected.add(key)
            self._tell({"artifact": (kind, dict(identity))})

    async def tell(self, what: dict[str, Any]) -> None:
        """Take a message for the driver."""
        self._tell(what)

    def _tell(self, what: dict[str, Any]) -> None:
        self._told.append(what)
        self._news.set()

    async def news(self) -> list[dict[str, Any]]:
        """Return what was told since the last call, waiting until there is something."""
        await self._news.wait()
        self._news.clear()
        told, self._told = self._told, []
        return told

    async def end_news(self) -> None:
        """Let :meth:`news` return at once, with nothing if nothing was told."""
        self._news.set()


def unpack_into(store: Store, kind: str, identity: Mapping[str, Any], packed: Packed) -> None:
    """Store what travelled, unless it is there."""
    store.get_or_build(kind, identity, lambda: (safetensors.torch.load(packed[0]), packed[1]))


def execute_run(
    job: Job, office: Any, attempt: str, spec: RunSpec, key: str, failed: Mapping[str, str]
) -> dict[str, Any]:
    """Execute one run on a worker and return what ends it; the body of a task.

    Raises:
        UserError: If the suite cannot be run here; it names the node.
    """

    def tell(**what: Any) -> None:
        office.tell.remote({"attempt": attempt, **what})

    end: dict[str, Any] = {}

    def note(**what: Any) -> None:
        if what.keys() & {"result", "error"}:
            end.update(what)
        else:
            tell(**what)

    try:
        runner = _runner(job, office, lambda text: tell(notice=text))
        spec = _with_weights(job, spec)
        if runner.key(spec) != key:
            raise ConfigError(
                f"data or code of {spec.label} are others than the driver's; install the same "
                "unlearn-bench, plug-in packages and datasets on every node"
            )
        tell(started=True)
        perform(runner, spec, failed, note)
        if "error" in end:
            raise end["error"]
    except UserError as error:
        raise UserError(f"on node {ray.util.get_node_ip_address()}: {error}") from None
    return end


@dataclass
class _Notifier:
    """Passes on to whoever listens now: a store outlives the run that it was opened for."""

    listener: Callable[[str], None]

    def __call__(self, text: str) -> None:
        self.listener(text)


# Of this process, by the suite's token: workers are used again, and a dataset is read once.
_runners: dict[str, tuple[Runner, _Notifier]] = {}


def _runner(job: Job, office: Any, notify: Callable[[str], None]) -> Runner:
    """Return this worker's runner for the suite, made at its first run here."""
    if job.token not in _runners:
        if job.folder.is_dir():
            os.chdir(job.folder)  # datasets may be named by relative paths
        for path, text in job.plugins:
            load_plugin(file_here(path, text.encode()))
        notifier = _Notifier(notify)
        store = (
            Store(job.setup.home, notifier)
            if job.sees_the_store()
            else RemoteStore(default_home(), notifier, office)
        )
        _runners.clear()
        _runners[job.token] = build_runner(job.setup, store), notifier
    runner, notifier = _runners[job.token]
    notifier.listener = notify
    return runner


def _with_weights(job: Job, spec: RunSpec) -> RunSpec:
    """Let the specification name files of this node that hold the user's weights."""
    there = {"original": job.original}
    if spec.unlearned is not None:
        there["unlearned"] = job.unlearned.get(spec.unlearned.sha256)
    found = {}
    for name, content in there.items():
        file: OriginalFile | None = getattr(spec, name)
        if file is not None and content is not None:
            path = file_here(file.path, content)
            found[name] = OriginalFile(path=path, sha256=file.sha256)
    return spec.model_copy(update=found)


def file_here(path: Path, content: bytes) -> Path:
    """Return the file itself where this node sees it as it is, or else a copy of it."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return path
    copy = default_home() / "received" / hashlib.sha256(content).hexdigest()[:16] / path.name
    if not copy.is_file():
        write_atomically(copy, content)
    return copy
