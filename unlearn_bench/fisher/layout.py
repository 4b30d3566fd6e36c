"""Find out which rows of an operation's gradient belong to which example.

Squares of per-example gradients need every number of a batch attributed to its example.
Usually examples are the slowest axis, but attention may run as [tokens, N, features], and
windows are folded into the batch. Guessing from shapes would be silently wrong when two sizes
agree. So either every operation of the graph keeps examples slowest by construction, or a
backward pass for one example of three shows where its gradient arrives.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlearn_bench.fisher.graph import EXPANSIONS, Recording, unmoved


def _nodes(*names: str) -> set[str]:
    return {f"{name}Backward{n}" for name in names for n in range(3)}


# Operations that work element by element, so that every axis stays where it is.
_ELEMENTWISE = _nodes(
    "Relu",
    "Hardtanh",
    "Hardswish",
    "Hardsigmoid",
    "Sigmoid",
    "Tanh",
    "Gelu",
    "Silu",
    "Elu",
    "LeakyRelu",
    "Clone",
    "Alias",
    "ToCopy",
    "Div",
)
# These do too, when all that depends on the data has the same rank and as many examples.
_BROADCAST = {f"{name}Backward0" for name in ("Add", "Sub", "Mul")}
# Operations that keep the slowest axis where it is, whatever their arguments.
_SLOWEST = _nodes(
    "Convolution",
    "NativeGroupNorm",
    "MaxPool2DWithIndices",
    "AvgPool2D",
    "AdaptiveAvgPool2D",
    "AdaptiveMaxPool2D",
    "MkldnnMaxPool2D",
    "View",
    "UnsafeView",
    "ReshapeAlias",
    "Mm",
    "Addmm",
)
_ATTENTIONS = _nodes(
    "ScaledDotProductFlashAttentionForCpu",
    "ScaledDotProductFlashAttention",
    "ScaledDotProductEfficientAttention",
    "ScaledDotProductCudnnAttention",
)
_BATCH_NORMS = {"NativeBatchNormBackward0", "CudnnBatchNormBackward0"}
_REDUCE = {"MeanBackward1", "SumBackward1"}
# These act along one axis, and keep or drop it.
_ALONG = _nodes("Softmax", "Cat", "Slice", "Split")
_DROP = _nodes("Select", "Unbind")


@dataclass(frozen=True)
class Layout:
    """A contiguous tensor seen flat as [outer, N, inner], N the axis of examples."""

    outer: int
    inner: int


def by_construction(recording: Recording) -> bool:
    """Whether examples are the slowest axis, unmixed, wherever parameters are used.

    Follows the axis of examples from the input through the graph; False when any operation is
    not known, or may move or mix examples, which is for a backward pass to find out.
    """
    if not recording.x.requires_grad:
        return False
    axes: dict[Any, int] = {}
    for node in recording.children_first:
        axis = _axis(node, axes, recording.x)
        if axis is None:
            return False
        size = node._input_metadata[0].shape[axis]
        if size % len(recording.x):
            return False
        axes[node] = axis
        # What reads an expansion must have the examples where the expansion has them.
        others = [c for c, _ in node.next_functions if c is not None and c not in axes]
        expands = any(c.name() in EXPANSIONS or unmoved(c).name() in EXPANSIONS for c in others)
        if expands and (axis != 0 or not all(c.name() in EXPANSIONS for c in others)):
            return False
    return all(axes.get(use.node, 0) == 0 for use in recording.uses)


def _axis(node: Any, axes: dict[Any, int], x: Tensor) -> int | None:
    """The axis of examples in one operation's output, None if that is not known."""
    name, shape = node.name(), tuple(node._input_metadata[0].shape)
    below = [(child, nr) for child, nr in node.next_functions if child in axes]
    if not below:
        return 0 if not node.next_functions and node.variable is x else None
    axis, *others = {axes[child] for child, _ in below}
    if others:
        return None
    shapes = [tuple(child._input_metadata[nr].shape) for child, nr in below]
    rank = len(shapes[0])

    def dims(saved: list[int]) -> list[int]:
        # torch saves negative axes as unsigned numbers.
        return [d if d < rank else d - 2**64 + rank for d in saved]

    if name in _ELEMENTWISE and shapes == [shape]:
        return axis
    if name in _BROADCAST and all(len(s) == len(shape) and s[axis] == shape[axis] for s in shapes):
        return axis
    if name == "PermuteBackward0":
        return dims(node._saved_dims).index(axis)
    if name == "TransposeBackward0":
        swapped = dims([node._saved_dim0, node._saved_dim1])
        return swapped[1 - swapped.index(axis)] if axis in swapped else axis
    if name in _ALONG and dims([node._saved_dim]) != [axis]:
        return axis
    if name in _DROP and dims([node._saved_dim]) != [axis]:
        return axis - (dims([node._saved_dim])[0] < axis)
    if name == "ConstantPadNdBackward0" and shapes[0][axis] == shape[axis]:
        return axis
    if axis != 0 or (name not in _ATTENTIONS and not _reads_as_input(node, axes)):
        return None
    if (
        name in _SLOWEST
        or name in _ATTENTIONS
        or (name in _BATCH_NORMS and not node._saved_training)
        or (name == "NativeLayerNormBackward0" and len(node._saved_normalized_shape) < rank)
        # No axes named means all of them.
        or (name in _REDUCE and node._saved_dim and 0 not in dims(node._saved_dim))
    ):
        return 0
    return None


def _reads_as_input(node: Any, axes: dict[Any, int]) -> bool:
    """Whether an operation depends on the data by its input alone, not by its weight."""
    slots = [k for k, (child, _) in enumerate(node.next_functions) if child in axes]
    return slots == [1 if node.name() == "AddmmBackward0" else 0]


def find(gradient: Tensor, examples: int) -> Layout | None:
    """Locate one example in a gradient that is zero for all others.

    Args:
        gradient: Of an operation's output, from a backward pass for example 1 (counted from
            0) of ``examples`` alone.
        examples: How many went through the model; 3, unless there are fewer.

    Returns:
        The layout, or None when the gradient is zero everywhere or follows no layout.
    """
    share, left = divmod(gradient.numel(), examples)
    if left:
        return None
    flat = gradient.detach().reshape(examples, share).abs()
    floor = _floor(flat)
    if floor == 0:
        return None
    if float(flat[_others(flat)].max()) <= floor:
        return Layout(1, share)
    there = (flat.reshape(-1) > floor).nonzero()[:, 0]
    for outer in _outer_sizes(gradient.shape):
        if share % outer == 0 and bool(((there // (share // outer)) % examples == 1).all()):
            return Layout(outer, share // outer)
    return None


def _outer_sizes(shape: torch.Size) -> list[int]:
    """What the axes before the examples may multiply up to, smallest first.

    Leading axes are often flattened into the first one, so any of its divisors may be.
    """
    sizes = [n for n in range(1, shape[0] + 1) if shape[0] % n == 0]
    product = shape[0]
    for size in shape[1:]:
        product *= size
        sizes.append(product)
    return sorted(set(sizes))


def examples_first(t: Tensor, layout: Layout, examples: int, width: int) -> Tensor:
    """View rows of ``width`` numbers as [N, rows per example, width], by ``layout``."""
    t = t.reshape(layout.outer, examples, -1, width)
    if layout.outer == 1:
        return t[0]
    return t.transpose(0, 1).reshape(examples, -1, width)


def mixes(gradient: Tensor) -> bool:
    """Whether example 1's output depends on other examples, by its gradient of the inputs."""
    flat = gradient.detach().flatten(1).abs()
    return bool(flat[_others(flat)].max() > _floor(flat))


def _floor(magnitudes: Tensor) -> float:
    """What counts as zero beside the largest number.

    Not exactly zero: some matrix products let rounding errors of one row into another.
    """
    eps: float = torch.finfo(magnitudes.dtype).eps
    return float(magnitudes.max()) * math.sqrt(eps)


def _others(flat: Tensor) -> Tensor:
    """Mask of all rows but the second."""
    return torch.arange(len(flat), device=flat.device) != 1
