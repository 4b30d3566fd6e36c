"""Borrow a model: evaluate it in eval mode and give it back exactly as it was found."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# timm's LeViT-like attentions keep a dictionary of bias tensors when evaluated. Such a cache
# would tie our graph to an older one, and outlive the call.
_CACHE = "attention_bias_cache"


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into eval mode, on a forked RNG, and restore everything on exit.

    Restored are each module's train/eval flag, each parameter's ``requires_grad``, caches of
    attention biases and the random state of the CPU and of the model's own CUDA devices.
    """
    training = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    caches = [(m, m.__dict__[_CACHE]) for m in model.modules() if _CACHE in m.__dict__]
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    # The flag is written directly: some models override train() and eval().
    for module, _ in training:
        module.training = False
    for module, cache in caches:
        setattr(module, _CACHE, type(cache)())
    # Casts that an older torch's autocast keeps from a pass without gradients would hide the
    # parameters (pytorch issue 112583).
    torch.clear_autocast_cache()
    try:
        with torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
        for module, cache in caches:
            setattr(module, _CACHE, cache)
