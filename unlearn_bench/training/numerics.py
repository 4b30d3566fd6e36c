"""How training is computed: precision, memory format and compilation, as the recipe says.

All three change sums by their rounding, and training amplifies that: they are part of every key.
Weights, optimiser states and losses are float32 in each case. Only the training loop follows the
recipe; methods' own steps and evaluation are computed in fp32, so that records of models that were
trained in different ways compare.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.suite.spec import Recipe


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
    if recipe.precision == "tf32" and device.type != "cuda":
        raise ParameterError(
            f"recipe.precision is tf32, which a {device.type} device does not have; set fp32 or "
            "bf16, or use --device cuda"
        )
    channels_last = recipe.memory_format == "channels_last"
    if channels_last:
        model.to(memory_format=torch.channels_last)
    run = torch.compile(model) if recipe.compile else model
    bf16 = recipe.precision == "bf16"

    def forward(x: Tensor) -> Tensor:
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
            logits: Tensor = run(x)
        return logits.float() if bf16 else logits

    try:
        with _tf32() if recipe.precision == "tf32" else nullcontext():
            yield forward
    finally:
        if channels_last:
            model.to(memory_format=torch.contiguous_format)


@contextmanager
def _tf32() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
