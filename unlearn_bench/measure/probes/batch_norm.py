"""BatchNorm re-estimation: what comes back when the running statistics are put right?

Methods that run forget-only batches in train mode fill BatchNorm's running statistics with the
forget class. The model then seems to have forgotten it, while no weight has. On a copy the
statistics are estimated again, on images of R, and nothing else is changed.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearn_bench.data.batches import iterate
from unlearn_bench.data.datasets import Dataset

BATCH_SIZE = 128


def has_running_statistics(model: nn.Module) -> bool:
    """Whether any layer normalises by statistics that it collected in training."""
    return any(isinstance(m, _BatchNorm) and m.running_mean is not None for m in model.modules())


@torch.no_grad()
def reestimated(
    model: nn.Module, dataset: Dataset, retained: Tensor, device: torch.device
) -> nn.Module:
    """Return a copy, in eval mode, whose running statistics are those of ``retained``.

    Every batch weighs the same. All else stays in eval mode, dropout included.

    Args:
        model: Left as it is.
        dataset: Where examples come from.
        retained: Examples of R, into the training part; what does not fill a batch is left out.
        device: Where the model is.
    """
    renewed = copy.deepcopy(model).eval()
    for module in renewed.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.reset_running_stats()
            module.momentum = None  # the cumulative average over batches
            module.train()
    count = len(retained) // BATCH_SIZE * BATCH_SIZE or len(retained)
    for x, _ in iterate(
        dataset.train,
        retained[:count],
        batch_size=BATCH_SIZE,
        device=device,
        mean=dataset.mean,
        std=dataset.std,
    ):
        renewed(x)
    return renewed.eval()
