"""How training is computed: precision, memory format and compilation, as the recipe says.

All three change sums by their rounding, and training amplifies that: they are part of every key.
Weights, optimiser states and losses are float32 in each case. Only the training loop follows the
recipe; methods' own steps and evaluation are computed in fp32, so that records of models that were
trained in different ways compare. What a recipe leaves out is the device's default.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.suite.recipe import Recipe


@contextmanager
def computing(
    model: nn.Module, recipe: Recipe, device: torch.device
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Compute as the recipe says inside the block, and leave everything as it was.

    Args:
        model: On the device; its weights are laid out in the recipe's memory format.
        recipe: The recipe.
        device: Where the model is.

    Yields:
        The model's forward pass; its outputs are float32.

    Raises:
        ParameterError: If the device cannot compute so.
    """
    recipe = recipe.on(device.type)
    if recipe.precision == "tf32" and device.type != "cuda":
        raise ParameterError(
            f"recipe.precision is tf32, which a {device.type} device does not have; set fp32 or "
            "bf16, or use --device cuda"
        )
    channels_last = recipe.memory_format == "channels_last"
    if channels_last:
        _lay_out(model, torch.channels_last)
    run = torch.compile(model) if recipe.compile else model
    bf16 = recipe.precision == "bf16"

    def forward(x: Tensor) -> Tensor:
        if channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
            logits: Tensor = run(x)
        return logits.float() if bf16 else logits

    try:
        with products(recipe.precision == "tf32") if device.type == "cuda" else nullcontext():
            yield forward
    finally:
        if channels_last:
            _lay_out(model, torch.contiguous_format)


def _lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """Lay out what has four dimensions; the weights of a 3-D convolution have no such format."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=layout)


@contextmanager
def products(tf32: bool) -> Iterator[None]:
    """Compute a GPU's float32 products in TF32, or as they are; by default torch mixes both.

    Args:
        tf32: Whether matrix products and convolutions may round their factors to ten bits.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    places = matmul, cudnn.conv, cudnn.rnn
    before = [place.fp32_precision for place in places]
    with _older_settings():
        switches = {place: _switch(place) for place in (matmul, cudnn)}
        for place in switches:
            place.allow_tf32 = tf32
    try:
        yield
    finally:
        # Switches first: they set the precisions too, to values that may not be those of before.
        with _older_settings():
            for place, switch in switches.items():
                if switch is not None:
                    place.allow_tf32 = switch
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


def repeat_itself() -> None:
    """Let a GPU pick its algorithms by name instead of by speed, and round no product's factors.

    By default torch times cuDNN's algorithms and computes convolutions in TF32, which only recipes
    may ask for.
    """
    cudnn: Any = torch.backends.cudnn
    cudnn.deterministic, cudnn.benchmark = True, False
    with _older_settings():
        cudnn.allow_tf32 = False


def _switch(place: Any) -> bool | None:
    """Return the older of torch's two settings; None where torch refuses to read it."""
    try:
        return bool(place.allow_tf32)
    except RuntimeError:
        return None


@contextmanager
def _older_settings() -> Iterator[None]:
    """Silence torch 2.9's advice to use the newer settings.

    They cannot stand alone: where they contradict the older ones torch refuses to read these,
    which ``torch.compile``, ``torch.backends.cudnn.flags`` and users' own code do.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use the new API settings", UserWarning)
        yield
