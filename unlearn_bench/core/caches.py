"""Models that keep what they computed from weights for the next pass, made to forget it.

LeViT, EfficientViT and EfficientFormer keep attention biases in eval mode. A second gradient then
runs into the graph of the first, one taken after a pass without gradients lacks the biases without
a word, and weights that change in eval mode change no output.
"""

import copy
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def forgetful(model: nn.Module, x: Tensor) -> Tensor:
    """Let each module drop after a pass what it keeps of it, and return the model's outputs.

    Args:
        model: In eval mode; changed in place.
        x: A batch of inputs, by which it is found out what is kept.

    Returns:
        What the model makes of ``x``, without a graph.
    """
    before = {
        # Copied: a container is filled in place.
        module: {name: copy.copy(value) for name, value in _unregistered(module)}
        for module in model.modules()
    }
    with torch.enable_grad():
        outputs = model(x)
    for module, was in before.items():
        kept = {
            name: was.get(name)
            for name, value in _unregistered(module)
            if _has_graph(value) and not _has_graph(was.get(name))
        }
        if kept:
            _drop(module, kept=kept)
            module.register_forward_hook(partial(_drop, kept=kept))
    return outputs.detach() if isinstance(outputs, Tensor) else outputs


def _drop(module: nn.Module, *_: object, kept: Mapping[str, Any]) -> None:
    for name, value in kept.items():
        setattr(module, name, copy.copy(value))


def _unregistered(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield what a module holds beside its parameters, buffers and modules."""
    for name, value in vars(module).items():
        if isinstance(value, Tensor | dict | list | tuple) and not name.startswith("_"):
            yield name, value


def _has_graph(value: object) -> bool:
    """Whether a tensor, or one in a container, was computed from weights."""
    if isinstance(value, Tensor):
        return value.grad_fn is not None
    if isinstance(value, Mapping):
        return any(map(_has_graph, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_graph, value))
