"""What a method keeps from one request of a stream to the next: tensors and plain values.

The data of earlier requests are gone, but what was learned from the remaining data may be kept:
shards, masks, importances. A method that declares it finds in ``ctx.state`` what it left there,
and nothing at the first request. The harness stores and hashes it like weights.
"""

import json
import math
from collections.abc import Iterator, Mapping, MutableMapping

import torch
from torch import Tensor

from unlearn_bench.core.errors import MethodError
from unlearn_bench.data.images import Dataset

Plain = bool | int | float | str | list["Plain"] | dict[str, "Plain"] | None

# Of all tensors together, and of all plain values as JSON.
MAX_TENSOR_BYTES, MAX_PLAIN_BYTES = 1 << 30, 1 << 20
MAX_NAME = 200


class State(MutableMapping[str, "Tensor | Plain"]):
    """A mapping of names to tensors and plain values: what JSON can hold.

    Args:
        tensors: To begin with.
        plain: Likewise.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor] | None = None, plain: Mapping[str, Plain] | None = None
    ) -> None:
        self._held: dict[str, Tensor | Plain] = {**(plain or {}), **(tensors or {})}

    def __getitem__(self, name: str) -> "Tensor | Plain":
        """Return what was kept under a name.

        Raises:
            KeyError: If nothing was.
        """
        return self._held[name]

    def __setitem__(self, name: str, value: "Tensor | Plain") -> None:
        """Keep a tensor, without its history, or a plain value.

        Raises:
            MethodError: If the name or the value cannot be stored.
        """
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_NAME:
            raise MethodError(f"ctx.state[{name!r}]: name it by a text of 1 to {MAX_NAME} letters")
        if isinstance(value, Tensor):
            self._held[name] = value.detach()
            return
        if not _is_plain(value):
            raise MethodError(
                f"ctx.state[{name!r}] = {type(value).__name__}: keep tensors, numbers, texts, and "
                "lists and mappings of these"
            )
        self._held[name] = value

    def __delitem__(self, name: str) -> None:
        """Forget what was kept under a name."""
        del self._held[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names in the order in which they were given."""
        return iter(self._held)

    def __len__(self) -> int:
        """Return how many values there are."""
        return len(self._held)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, on the CPU, each with memory of its own."""
        held = self._held.items()
        return {n: v.detach().cpu().clone() for n, v in held if isinstance(v, Tensor)}

    @property
    def plain(self) -> "dict[str, Plain]":
        """All that is no tensor."""
        return {name: v for name, v in self._held.items() if not isinstance(v, Tensor)}

    def checked(self, data: Dataset, members: Tensor) -> "State":
        """Return the state if it can be stored, and holds none of the examples that were read.

        Args:
            data: What the method was handed examples of.
            members: These examples, into its training part.

        Raises:
            MethodError: With what is wrong and what to do.
        """
        tensors, plain = self.tensors, self.plain
        # Once more: lists and mappings may have been changed since.
        if not _is_plain(dict(plain)) or len(json.dumps(plain)) > MAX_PLAIN_BYTES:
            raise MethodError(
                f"ctx.state holds more than {MAX_PLAIN_BYTES >> 20} MiB of plain values, or values "
                "that JSON cannot hold; keep long lists as tensors"
            )
        if sum(tensor.nbytes for tensor in tensors.values()) > MAX_TENSOR_BYTES:
            raise MethodError(
                f"ctx.state holds tensors of more than {MAX_TENSOR_BYTES >> 30} GiB; keep less"
            )
        for name, tensor in tensors.items():
            if holds_examples(tensor, data, members):
                raise MethodError(
                    f"ctx.state[{name!r}] holds training examples, which a later request may take; "
                    "keep what was learned from them"
                )
        return State(tensors, plain)


def holds_examples(tensor: Tensor, data: Dataset, members: Tensor) -> bool:
    """Say whether a tensor holds an image as it is stored, in [0, 1], or as models read it.

    Args:
        tensor: Any; looked at where it can be divided into images.
        data: The dataset.
        members: Into its training part.
    """
    shape = data.train.images.shape
    size = math.prod(shape)
    if tensor.numel() < size or tensor.numel() % size or not len(members):
        return False
    rows = tensor.detach().cpu().reshape(-1, *shape).double()
    mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (data.mean, data.std))
    forms = [rows, rows * 255, (rows * std + mean) * 255]
    known = {row.numpy().tobytes() for row in data.train.images.fetch(members).cpu()}
    for form in forms:
        near = form.round()
        exact = (form - near).abs().flatten(1).amax(1) < 1e-2
        inside = (near >= 0).flatten(1).all(1) & (near <= 255).flatten(1).all(1)
        found = near[exact & inside].to(torch.uint8)
        if any(row.numpy().tobytes() in known for row in found):
            return True
    return False


def _is_plain(value: object) -> bool:
    if value is None or isinstance(value, bool | int | str):
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(held) for key, held in value.items())
    return False
