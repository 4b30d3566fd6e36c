"""One pass of descent: the loop that many methods end with."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def descend(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    log: Callable[..., None],
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Tensor:
    """Take one optimiser step per batch down ``loss(model(x), y)``.

    Args:
        model: In the mode that the caller set.
        batches: (x, y); at least one.
        optimizer: Holds the parameters to train.
        log: Receives the ``loss`` of each step, such as ``ctx.log``.
        loss: ``(logits, targets) -> scalar``.

    Returns:
        The last step's loss, for `check_finite`.
    """
    last = torch.zeros(())
    for x, y in batches:
        last = loss(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        last.backward()
        optimizer.step()
        log(loss=last)
    return last.detach()
