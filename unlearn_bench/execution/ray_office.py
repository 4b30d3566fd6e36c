"""The office of a suite on a Ray cluster: what workers make there reaches each other and home.

A worker that does not see the driver's store asks the *office*, an actor on the driver's node, for
what others have made: originals, references, what was seen of them. Tensors travel through Ray's
object store, as safetensors. With ``ray://`` the office runs on the cluster's head, and the driver
takes home what it collects.

A module of its own: the office's process begins sooner than one that executes runs, of which it
needs nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
import safetensors.torch

from unlearn_bench.store import layout
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Artifact, Built, Store

Packed = tuple[bytes, Mapping[str, Any]]


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
        home: The driver's store.
        token: Name of a file in it, by which the office knows it.
        shared: As of :class:`~unlearn_bench.execution.ray_worker.Job`; if given, the office is
            where the driver is.
    """

    def __init__(self, home: Path, token: str, shared: bool | None) -> None:
        self._at_home = shared is not None or (home / token).is_file()
        self._store = Store(home if self._at_home else default_home())
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
