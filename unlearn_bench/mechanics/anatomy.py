"""Where a model's stem, blocks, norms and head are, found by structure and never by class name.

timm's interface names the head (``get_classifier``) and the first layer (``default_cfg``); what
lies between is a list of blocks, stages or layers.
"""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from unlearn_bench.errors import MethodError

Targets = Literal["conv", "matrix"]
_CONTAINERS = ("blocks", "stages", "layers", "features")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def heads(model: nn.Module) -> list[nn.Linear]:
    """Return the final linear layers, as a list: distilled transformers have two.

    Raises:
        MethodError: If the model has none that timm's ``get_classifier`` names.
    """
    named = model.get_classifier()  # type: ignore[operator]
    given = named if isinstance(named, tuple | list) else [named]
    found = [m for part in given for m in part.modules() if isinstance(m, nn.Linear)]
    if not found:
        raise MethodError(
            f"{type(model).__name__} ends in {type(named).__name__}, not in a linear layer; "
            "this method needs one"
        )
    return found


def stem(model: nn.Module) -> nn.Module:
    """Return the first layer that looks at pixels."""
    first = getattr(model, "default_cfg", {}).get("first_conv")
    name = first[0] if isinstance(first, tuple | list) else first
    if name:
        return model.get_submodule(name)
    return next(m for m in model.modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear)))


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks between stem and head in forward order, at least one.

    The children of ``blocks``, ``stages``, ``layers`` or ``features``; a ResNet's ``layer1`` to
    ``layer4``; else the children that have parameters, without the head.
    """
    numbered = [child for name, child in model.named_children() if _is_numbered_layer(name)]
    if numbered:
        return numbered
    for name in _CONTAINERS:
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Sequential | nn.ModuleList):
            # In a flat stack of layers a norm belongs to the layer before it.
            found = [c for c in inner if _has_parameters(c) and not isinstance(c, _NORMS)]
            if found:
                return found
    last = heads(model)
    return [c for c in model.children() if _has_parameters(c) and c not in last]


def tail(model: nn.Module, count: int) -> list[nn.Module]:
    """Return the last ``count`` blocks and all that comes after them: final norm, head.

    Args:
        model: A timm model.
        count: Blocks; as many as there are or more means everything, the stem included.

    Returns:
        The layers that own parameters, each on its own.
    """
    inner = blocks(model)
    if count >= len(inner):
        return [model]
    # What is registered behind a block runs after it: timm writes models in that order.
    order = list(model.modules())
    start = next(position for position, m in enumerate(order) if m is inner[-count])
    after = [m for m in order[start:] if any(True for _ in m.parameters(recurse=False))]
    return after + [head for head in heads(model) if head not in after]


def norms(model: nn.Module) -> list[nn.Module]:
    """Return all normalisation layers, by type."""
    return [m for m in model.modules() if isinstance(m, _NORMS)]


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


def fan_in(weight: Tensor) -> int:
    """Return how many inputs feed one output of a linear or convolutional weight."""
    return math.prod(weight.shape[1:])


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _is_numbered_layer(name: str) -> bool:
    return name.startswith("layer") and name[5:].isdigit()
