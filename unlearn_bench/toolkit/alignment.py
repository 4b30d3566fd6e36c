"""BatchNorm that a training on one class cannot fool, without a look at the other classes.

In eval mode the cheapest way to change what BatchNorm puts out for the forget class is to shift
the layer's input for all images alike. It costs the retained classes, and is undone as soon as the
running statistics are estimated anew. Normalised by its own batch, as in train mode, a batch of one
class cannot be shifted, but it is then not what the model sees in use.
"""

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearn_bench.toolkit.modes import evaluating


@contextlib.contextmanager
def aligned(model: nn.Module, original: nn.Module, x: Tensor) -> Iterator[None]:
    """Within the block, give BatchNorm's inputs the mean and variance that the original's have.

    With m, v a channel's mean and variance over the batch in ``model`` and m0, v0 those over the
    same batch in ``original``, BatchNorm gets ``(z - m) sqrt((v0 + eps) / (v + eps)) + m0`` for z
    and normalises it by its running statistics. Equal models give equal outputs, and no gradient
    leads to shifting or scaling a channel for the whole batch.

    Args:
        model: Of the original's architecture, its BatchNorm layers in eval mode; they get hooks
            for the block. Without such layers the block changes nothing.
        original: Stays as it is; makes one forward pass.
        x: The batch that the model sees within the block, [N, ...].
    """
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(model.modules(), original.modules(), strict=True)
        if isinstance(ours, _BatchNorm)
    ]
    noted: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        noted[norm] = _moments(inputs[0])

    def move(norm: _BatchNorm, inputs: tuple[Tensor, ...], of: nn.Module) -> tuple[Tensor]:
        (mean, variance), (mean0, variance0) = _moments(inputs[0]), noted[of]
        scale = ((variance0 + norm.eps) / (variance + norm.eps)).sqrt()
        return ((inputs[0] - mean) * scale + mean0,)

    with contextlib.ExitStack() as hooks:
        for ours, theirs in pairs:
            hooks.callback(theirs.register_forward_pre_hook(note).remove)
            hooks.callback(ours.register_forward_pre_hook(partial(move, of=theirs)).remove)
        if pairs:
            with evaluating(original):
                original(x)
        yield


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel of [N, C, ...], shaped [1, C, ...]."""
    others = [dim for dim in range(x.dim()) if dim != 1]
    variance, mean = torch.var_mean(x, others, correction=0, keepdim=True)
    return mean, variance
