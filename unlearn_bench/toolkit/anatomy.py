"""Where a model's stem, blocks, norms and head are, found by structure.

timm's interface names the head (``get_classifier``) and the first layer (``default_cfg``); what
lies between is a list of blocks, stages or layers.
"""

import math
import re
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from unlearn_bench.core import classifiers
from unlearn_bench.core.errors import MethodError

Targets = Literal["conv", "matrix"]
TailUnit = Literal["layers", "blocks"]
_CONTAINERS = ("blocks", "stages", "layers", "features")
_SEQUENCES = (nn.Sequential, nn.ModuleList)
# torchvision's and timm's ways to number what is no child of one container.
_NUMBERED = re.compile(r"(layer|stage|block|s)\d+")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def heads(model: nn.Module) -> list[nn.Linear]:
    """Return the final linear layers, as a list: distilled transformers and VOLO have two.

    Of a classifier with hidden layers these are the layers that give the logits. A model that does
    not speak timm's interface is taken to end in the last linear layer that it registers.

    Raises:
        MethodError: If there is none, or timm names none.
    """
    parts = classifiers.parts_of(model) or [_last_linear(model)]
    found = []
    for part in parts:
        linear = [m for m in part.modules() if isinstance(m, nn.Linear)]
        # Each part ends in logits; as wide as its last layer are all that give some.
        found += [m for m in linear if m.out_features == linear[-1].out_features]
    if not found:
        raise MethodError(
            f"{type(model).__name__} ends in {type(parts[0]).__name__}, not in a linear layer; "
            "this method needs one"
        )
    return found


def _last_linear(model: nn.Module) -> nn.Module:
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else model


def stem(model: nn.Module) -> nn.Module:
    """Return the first layer that looks at pixels."""
    first = getattr(model, "default_cfg", {}).get("first_conv")
    # Several where branches are added up, and perhaps none.
    names = [first] if isinstance(first, str) else list(first or ())
    if names:
        return model.get_submodule(names[0])
    return next(m for m in model.modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear)))


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks between stem and head in forward order, at least one.

    Children that are numbered as layers, stages or blocks, such as a ResNet's ``layer1`` to
    ``layer4``; the children of ``blocks``, ``stages``, ``layers`` or ``features``; else the
    children that consist of layers, without the head, or those of the only sequence among them
    behind the stem.
    """
    numbered = [c for name, c in model.named_children() if _NUMBERED.fullmatch(name)]
    if len(numbered) > 1:
        return numbered
    for name in _CONTAINERS:
        inner = getattr(model, name, None)
        if isinstance(inner, _SEQUENCES) and (found := _parts(inner)):
            return found
    first, last = stem(model), set(heads(model))
    found = [c for c in _parts(model) if last.isdisjoint(c.modules())]
    found = [c for c in found if _parts(c)] or found
    inner = [c for c in found if first not in c.modules()] or found
    sequences = [c for c in inner if isinstance(c, _SEQUENCES)]
    return _parts(sequences[0]) if len(sequences) == 1 else found


def _parts(module: nn.Module) -> list[nn.Module]:
    """Return the children with parameters but norms: those belong to the layer before them."""
    return [c for c in module.children() if _has_parameters(c) and not _is_norm(c)]


def tail(model: nn.Module, count: int) -> list[nn.Module]:
    """Return the last ``count`` blocks and all that comes after them: final norm, head.

    Args:
        model: A timm model.
        count: Blocks; as many as there are or more means everything, the stem included.

    Returns:
        All modules from the first of these blocks on, dropout and the like included, and none
        that holds a part of what comes before.
    """
    inner = blocks(model)
    if count >= len(inner):
        return [model]
    return _from(model, inner[-count])


def last_layers(model: nn.Module, count: int) -> list[nn.Module]:
    """Return the last ``count`` convolutions and linear layers and all that comes after the first.

    Args:
        model: A timm model.
        count: Layers, the head and convolutions of shortcuts included; as many as there are or
            more means everything.

    Returns:
        All modules from the first of these layers on, norms in between included, and none that
        holds a part of what comes before.
    """
    layers = [m for m in model.modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear))]
    return [model] if count >= len(layers) else _from(model, layers[-count])


def _from(model: nn.Module, first: nn.Module) -> list[nn.Module]:
    """Return the module and what is registered behind it, with the heads."""
    # What is registered behind a block runs after it: timm writes models in that order. What
    # holds the block is registered before it.
    order = list(model.modules())
    start = next(position for position, m in enumerate(order) if m is first)
    before = {id(p) for m in order[:start] for p in m.parameters(recurse=False)}
    # A later module may hold a layer that an earlier one shares with it.
    after = [m for m in order[start:] if not any(id(p) in before for p in m.parameters())]
    return after + [head for head in heads(model) if head not in after]


def norms(model: nn.Module) -> list[nn.Module]:
    """Return all normalisation layers: torch's by type, others by name and make.

    Those are modules named a norm whose parameters, their own alone, are one number per channel:
    RMS, simple, Evo, filter and global response norms among others.
    """
    return [m for m in model.modules() if _is_norm(m)]


def _is_norm(module: nn.Module) -> bool:
    if isinstance(module, _NORMS):
        return True
    own = list(module.parameters(recurse=False))
    return (
        "norm" in type(module).__name__.lower()
        and not any(_has_parameters(child) for child in module.children())
        and all(p.numel() == max(p.shape, default=1) for p in own)
    )


def matrices(model: nn.Module, targets: Targets) -> dict[str, nn.Parameter]:
    """Return the weights that layer-wise surgery works on, by name.

    Args:
        model: A timm model.
        targets: ``conv``: kernels of convolutions, on a transformer the patch embedding alone;
            ``matrix``: every weight of at least two dimensions but the head's, and without
            positional embeddings and class tokens.
    """
    if targets == "conv":
        owners: Iterable[tuple[str, nn.Module]] = (
            (name, m) for name, m in model.named_modules() if isinstance(m, _CONVOLUTIONS)
        )
    else:
        last = heads(model)
        owners = ((n, m) for n, m in model.named_modules() if m not in last and n)
    return {
        f"{name}.{leaf}" if name else leaf: parameter
        for name, module in owners
        for leaf, parameter in module.named_parameters(recurse=False)
        if leaf.endswith("weight") and parameter.dim() >= 2
    }


def renew(model: nn.Module, fresh: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Give parts of a model the parameters and buffers of a newly initialised one, in place.

    Args:
        model: The model.
        fresh: Of the same architecture, as `ctx.new_model()` returns it: its initialisation is
            the architecture's own.
        parts: Modules of ``model``.
    """
    renewed = {id(module) for part in parts for module in part.modules()}
    with torch.no_grad():
        for name, module in model.named_modules():
            if id(module) in renewed:
                source = fresh.get_submodule(name)
                for mine, theirs in zip(_own(module), _own(source), strict=True):
                    mine.copy_(theirs)


def _own(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def features_and_logits(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the head reads of each example, [N, D], and the logits, [N, C].

    Both belong to one forward pass, so that gradients flow through either. Of two heads, as
    distilled transformers have them, the first one's features are returned.

    Args:
        model: A timm model, in the mode that the caller put it in.
        x: Inputs, [N, ...].
    """
    read: list[Tensor] = []
    head = heads(model)[0]
    handle = head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    try:
        logits: Tensor = model(x)
    finally:
        handle.remove()
    return read[-1].flatten(1), logits


def fan_in(weight: Tensor) -> int:
    """Return how many inputs feed one output of a linear or convolutional weight."""
    return math.prod(weight.shape[1:])


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
