"""Artifacts in this process's memory alone: the Python library writes nothing to disk."""

from collections.abc import Callable, Mapping
from typing import Any

from safetensors.torch import load
from torch import Tensor

from unlearn_bench.store import layout
from unlearn_bench.store.store import Artifact, Built, packed


class Memory:
    """Keeps what was built for as long as this object lives."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Artifact] = {}

    def get_or_build(
        self, kind: str, identity: Mapping[str, Any], build: Callable[[], Built]
    ) -> Artifact:
        """Return the artifact that ``identity`` determines, building it if need be.

        Args:
            kind: What it is, such as ``logits``.
            identity: Everything that determines the content; JSON values.
            build: Makes the tensors and the notes.
        """
        key = layout.key_of(kind, identity)[1]
        if (kind, key) not in self._kept:
            self._kept[kind, key] = artifact(*build(), key=key)
        return self._kept[kind, key]


def artifact(
    tensors: Mapping[str, Tensor], notes: Mapping[str, Any] | None = None, key: str = ""
) -> Artifact:
    """Return tensors as a store would give them back: copies on the CPU, with their SHA-256."""
    data, sha256 = packed(tensors)
    return Artifact(key, sha256, load(data), notes or {})
