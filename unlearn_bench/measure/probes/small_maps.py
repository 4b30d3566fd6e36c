"""Convolutions of tiny maps as matrix products: the same sums in a fraction of the time.

The last stages of a network that was made for larger images see maps of one to four positions.
There a convolution library spends its time on padding and on reordering weights. Written out, the
convolution is the product with a matrix::

    W[(o, i), (c, j)] = sum over taps a of w[o, c, a] T[a, i, j]

with T[a, i, j] = 1 where tap a of the kernel reads input position j for output position i. Logits
and gradients are the convolution's, up to the rounding of float32. Only probes use this, on copies:
the logits that metrics see always come from the model's own layers.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

# Positions of an input map, at most.
MOST_POSITIONS = 4

# Per axis: input size, kernel, stride, padding, dilation.
_Axis = tuple[int, int, int, int, int]


def quicken(model: nn.Module) -> nn.Module:
    """Let a model's plain convolutions multiply where their input is tiny; in place.

    Args:
        model: A copy of the caller's own; its weights stay as they are.

    Returns:
        The same module.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros":
            if not isinstance(module.padding, str):
                module.__class__ = _Dense
    return model


class _Dense(nn.Conv2d):
    """A convolution that is a matrix product where its input is tiny."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, C, H, W] as the convolution does."""
        if input.dim() != 4 or not 0 < input.shape[2] * input.shape[3] <= MOST_POSITIONS:
            return super().forward(input)
        assert not isinstance(self.padding, str)
        if self.weight.shape[2:] == (1, 1) == input.shape[2:] and self.padding == (0, 0):
            return linear(input.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]
        rows, columns = zip(
            input.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True
        )
        taps, height, width = _taps(rows, columns, self.weight.dtype, self.weight.device)
        wide, given = self.weight.shape[:2]
        matrix = self.weight.reshape(wide * given, -1) @ taps
        matrix = matrix.view(wide, given, height * width, -1).transpose(1, 2)
        bias = None if self.bias is None else self.bias.repeat_interleave(height * width)
        found = linear(input.flatten(1), matrix.reshape(wide * height * width, -1), bias)
        return found.view(len(input), wide, height, width)


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
