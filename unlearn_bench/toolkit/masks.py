"""Masked training: weights outside the mask stay bit-identical, whatever the optimiser does."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


class MaskedOptimizer:
    """Steps an optimiser, holding the masked-out weights and their optimiser state.

    Masking gradients alone lets weight decay and old momentum move the rest; here the rest is
    put back after each step and its state zeroed.

    Args:
        optimizer: Holds the parameters.
        masks: Per parameter, a bool or 0/1 tensor of its shape: 1 where it may move. Parameters
            without a mask move freely.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, masks: Mapping[nn.Parameter, Tensor]
    ) -> None:
        self.optimizer = optimizer
        self._held = {p: ~mask.bool() for p, mask in masks.items()}
        self._start = {p: p.detach().clone() for p in masks}

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def step(self) -> None:
        """Step, then put back what may not move."""
        # Filled and chosen as a whole: indexing by masks costs a small network's step over again.
        for parameter, held in self._held.items():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(held, 0)
        self.optimizer.step()
        for parameter, held in self._held.items():
            parameter.copy_(torch.where(held, self._start[parameter], parameter))
            for value in self.optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(held, 0)


def largest(scores: Mapping[nn.Parameter, Tensor], share: float) -> dict[nn.Parameter, Tensor]:
    """Return masks of the globally largest scores, exactly ``round(share * total)`` of them.

    Args:
        scores: By parameter, of its shape; not NaN.
        share: In [0, 1].

    Returns:
        Bool masks by parameter; of equal scores the earlier ones are taken.
    """
    flat = torch.cat([score.flatten().double().cpu() for score in scores.values()])
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[flat.argsort(descending=True, stable=True)[: round(share * len(flat))]] = True
    parts: Iterable[Tensor] = kept.split([score.numel() for score in scores.values()])
    return {
        parameter: part.view(parameter.shape).to(parameter.device)
        for parameter, part in zip(scores, parts, strict=True)
    }
