"""Convolutions of tiny maps as matrix products: the same sums in a fraction of the time.

The last stages of a network that was made for larger images see maps of one to four positions.
There a convolution library spends its time on padding and on reordering weights. Written out, the
convolution is the product with a matrix::

    W[(o, i), (c, j)] = sum over taps a of w[o, c, a] T[a, i, j]

with T[a, i, j] = 1 where tap a of the kernel reads input position j for output position i. Logits
and gradients are the convolution's, up to the rounding of float32.

Probes always multiply, on copies of their own. Models do where a suite says so, by ``small_maps:
multiply``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

# Positions of an input map, at most.
MOST_POSITIONS = 4

# Per axis: input size, kernel, stride, padding, dilation.
_Axis = tuple[int, int, int, int, int]


def multiply(model: nn.Module) -> nn.Module:
    """Let a model's plain convolutions multiply where their input is tiny; in place.

    Layers keep their type, weights and hooks; copies multiply as well.

    Args:
        model: Convolutions of other types than ``nn.Conv2d`` itself, with groups or with padding
            other than a number of zeros, stay as they are.

    Returns:
        The same module.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros":
            if not isinstance(module.padding, str):
                module.forward = MethodType(_multiplied, module)  # type: ignore[method-assign]
    return model


@contextmanager
def convolving(model: nn.Module) -> Iterator[None]:
    """Let a model convolve inside the block: for code that reads its graph of operations."""
    own = {
        module: module.__dict__.pop("forward") for module in model.modules() if _multiplies(module)
    }
    try:
        yield
    finally:
        for module, forward in own.items():
            module.forward = forward


def _multiplies(module: nn.Module) -> bool:
    return getattr(module.__dict__.get("forward"), "__func__", None) is _multiplied


def _multiplied(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Map [N, C, H, W] as the convolution does."""
    if x.dim() != 4 or not 0 < x.shape[2] * x.shape[3] <= MOST_POSITIONS:
        return nn.Conv2d.forward(layer, x)
    weight, bias = layer.weight, layer.bias
    if weight.shape[2:] == (1, 1) == x.shape[2:] and layer.padding == (0, 0):
        return linear(x.flatten(1), weight.flatten(1), bias)[..., None, None]
    assert not isinstance(layer.padding, str)
    rows, columns = zip(
        x.shape[2:], layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True
    )
    taps, height, width = _taps(rows, columns, weight.dtype, weight.device)
    wide, given = weight.shape[:2]
    matrix = weight.reshape(wide * given, -1) @ taps
    matrix = matrix.view(wide, given, height * width, -1).transpose(1, 2)
    if bias is not None:
        bias = bias.repeat_interleave(height * width)
    found = linear(x.flatten(1), matrix.reshape(wide * height * width, -1), bias)
    return found.view(len(x), wide, height, width)


@lru_cache(maxsize=64)
def _taps(
    rows: _Axis, columns: _Axis, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, int, int]:
    """Return T as [taps, outputs * inputs], and the output's height and width."""
    down, across = _along(rows), _along(columns)
    both = torch.einsum("aij,bkl->abikjl", down, across)
    taps = down.shape[0] * across.shape[0]
    return both.reshape(taps, -1).to(device, dtype), down.shape[1], across.shape[1]


def _along(axis: _Axis) -> Tensor:
    """Return T of one axis, [taps, outputs, inputs]."""
    size, kernel, stride, padding, dilation = axis
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    tap, out = torch.meshgrid(torch.arange(kernel), torch.arange(outputs), indexing="ij")
    read = stride * out - padding + dilation * tap
    return (read[..., None] == torch.arange(size)).float()
