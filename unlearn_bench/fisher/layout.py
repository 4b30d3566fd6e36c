"""Find out which rows of an operation's gradient belong to which example.

Squares of per-example gradients need every number of a batch attributed to its example.
Usually examples are the slowest axis, but attention may run as [tokens, N, features], and
windows are folded into the batch. Guessing from shapes would be silently wrong when two sizes
agree. So either every operation of the graph keeps examples slowest by construction, or a
backward pass for one example of three shows where its gradient arrives.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlearn_bench.fisher.graph import Recording

# Operations that keep the slowest axis where it is, whatever their arguments.
_KEEP = {
    f"{name}Backward{n}"
    for name in ("Convolution", "NativeGroupNorm",
                 "Relu", "Hardtanh", "Hardswish", "Hardsigmoid", "Sigmoid", "Tanh", "Gelu",
                 "Silu", "Elu", "LeakyRelu", "MaxPool2DWithIndices", "AvgPool2D",
                 "AdaptiveAvgPool2D", "AdaptiveMaxPool2D", "MkldnnMaxPool2D", "View",
                 "UnsafeView", "ReshapeAlias", "Clone", "Alias", "ToCopy", "Addmm",
                 "ConstantPadNd")
    for n in range(3)
}  # fmt: skip
# These do so when all that depends on the data has the same shape but for sizes of one.
_BROADCAST = {f"{name}Backward0" for name in ("Add", "Sub", "Mul")}
_BATCH_NORMS = {"NativeBatchNormBackward0", "CudnnBatchNormBackward0"}
_REDUCE = {"MeanBackward1", "SumBackward1"}


@dataclass(frozen=True)
class Layout:
    """A contiguous tensor seen flat as [outer, N, inner], N the axis of examples."""

    outer: int
    inner: int


def by_construction(recording: Recording) -> bool:
    """Whether examples stay the slowest axis, unmixed, in every operation of the graph."""
    if not recording.x.requires_grad:
        return False
    inside = set(recording.children_first)
    return all(_keeps(node, inside, recording.x) for node in recording.children_first)


def _keeps(node: Any, inside: set[Any], x: Tensor) -> bool:
    """Whether one operation keeps the slowest axis where it is."""
    name, shape = node.name(), tuple(node._input_metadata[0].shape)
    if name in _KEEP:
        return True
    if name in _BATCH_NORMS:
        return not node._saved_training
    if name == "NativeLayerNormBackward0":
        return len(node._saved_normalized_shape) < len(shape)
    if name in _REDUCE:
        rank = len(node._saved_self_sym_sizes)
        # torch saves negative axes as unsigned; an empty list means every axis.
        dims = [d if d < rank else d - 2**64 + rank for d in node._saved_dim]
        return bool(dims) and 0 not in dims
    if name in _BROADCAST:
        shapes = [
            tuple(child._input_metadata[nr].shape)
            for child, nr in node.next_functions
            if child in inside
        ]
        return all(len(s) == len(shape) and s[0] == shape[0] for s in shapes)
    return not node.next_functions and node.variable is x


def find(gradient: Tensor, examples: int) -> Layout | None:
    """Locate one example in a gradient that is zero for all others.

    Args:
        gradient: Of an operation's output, from a backward pass for example 1 (counted from
            0) of ``examples`` alone.
        examples: How many went through the model; 3, unless there are fewer.

    Returns:
        The layout, or None when the gradient is zero everywhere or follows no layout, which
        includes operations that mix examples.
    """
    share, left = divmod(gradient.numel(), examples)
    if left:
        return None
    flat = gradient.reshape(examples, share)
    if not flat[torch.arange(examples, device=flat.device) != 1].any():
        return Layout(1, share) if flat[1].any() else None
    there = flat.reshape(-1).nonzero()[:, 0]
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
    others = torch.arange(len(gradient), device=gradient.device) != 1
    return bool(gradient[others].ne(0).any())
