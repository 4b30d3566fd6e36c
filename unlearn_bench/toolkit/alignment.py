"""Keep BatchNorm sound while training on one class, without data of the other classes.

In eval mode the cheapest way to change what BatchNorm puts out for the forget class is to shift
the layer's input for all images alike. It costs the retained classes, and is undone as soon as the
running statistics are estimated again. Normalised by its own batch, as in train mode, a batch of
one class cannot be shifted, but it is then not what the model sees in use.
"""

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearn_bench.toolkit.modes import evaluating

Noted = dict[nn.Module, list[Tensor]]


@contextlib.contextmanager
def aligned(model: nn.Module, original: nn.Module, x: Tensor) -> Iterator[Noted]:
    """Within the block, give BatchNorm's inputs the mean and variance that the original's have.

    With m, v a channel's mean and variance over the batch in ``model`` and m0, v0 those over the
    same batch in ``original``, BatchNorm gets ``(z - m) sqrt((v0 + eps) / (v + eps)) + m0`` for z
    and normalises it by its running statistics. Equal models give equal outputs, and no gradient
    leads to shifting or scaling a channel for the whole batch.

    Args:
        model: Of the original's architecture, its BatchNorm layers in eval mode and with the
            original's running statistics; they get hooks for the block. Without such layers the
            block changes nothing.
        original: Stays as it is; makes one forward pass.
        x: The batch that the model sees within the block, [N, ...].

    Yields:
        For each layer of ``model`` that has run, m, v, m0 and v0, [4, C], of every pass.
    """
    noted: dict[nn.Module, Tensor] = {}
    seen: Noted = {}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        noted[norm] = _moments(inputs[0])

    def move(norm: _BatchNorm, inputs: tuple[Tensor, ...], of: nn.Module) -> tuple[Tensor]:
        z, now, then = inputs[0], _moments(inputs[0]), noted[of]
        seen.setdefault(norm, []).append(torch.cat([now, then]).detach())
        shape = (1, -1, *[1] * (z.dim() - 2))
        mean, variance, mean0, variance0 = (row.view(shape) for row in (*now, *then))
        return ((z - mean) * ((variance0 + norm.eps) / (variance + norm.eps)).sqrt() + mean0,)

    pairs = _pairs(model, original)
    with contextlib.ExitStack() as hooks:
        for ours, theirs in pairs:
            hooks.callback(theirs.register_forward_pre_hook(note).remove)
            hooks.callback(ours.register_forward_pre_hook(partial(move, of=theirs)).remove)
        if pairs:
            with evaluating(original):
                original(x)
        yield seen


def realign(
    model: nn.Module, original: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Move the running statistics so that the model alone gives what it gives when aligned.

    A shift or scale of a channel for these images is assumed to hold for all other images, whose
    statistics are not available. In place, from the original's statistics.

    Args:
        model: As in :func:`aligned`.
        original: Likewise.
        batches: (x, y); the moments are means over batches.
    """
    rows: Noted = {}
    with evaluating(model):
        for x, _ in batches:
            with aligned(model, original, x) as seen:
                model(x)
            for norm, found in seen.items():
                rows.setdefault(norm, []).extend(found)
    for ours, theirs in _pairs(model, original):
        if ours in rows:
            mean, variance, mean0, variance0 = torch.stack(rows[ours]).mean(0)
            scale = (variance + ours.eps) / (variance0 + ours.eps)
            ours.running_mean.copy_(mean + (theirs.running_mean - mean0) * scale.sqrt())
            renewed = (theirs.running_var + ours.eps) * scale - ours.eps
            ours.running_var.copy_(renewed.clamp_min(0))


def restore_statistics(model: nn.Module, original: nn.Module) -> None:
    """Restore BatchNorm's running statistics from the original."""
    for ours, theirs in _pairs(model, original):
        ours.running_mean.copy_(theirs.running_mean)
        ours.running_var.copy_(theirs.running_var)


def _pairs(model: nn.Module, original: nn.Module) -> list[tuple[Any, Any]]:
    """Return the BatchNorm layers that have running statistics, with the original's."""
    return [
        (ours, theirs)
        for ours, theirs in zip(model.modules(), original.modules(), strict=True)
        if isinstance(ours, _BatchNorm) and ours.running_mean is not None
    ]


def _moments(x: Tensor) -> Tensor:
    """Return mean and variance of each channel of [N, C, ...], as [2, C]."""
    others = [dim for dim in range(x.dim()) if dim != 1]
    variance, mean = torch.var_mean(x, others, correction=0)
    return torch.stack([mean, variance])
