"""Boundary Expand: move the forgotten examples into a shadow class, then cut that class off.

The head gets a row for one more class, which all forgotten classes share. Minimises
``CE(f(x), shadow)`` on F over all weights, then removes the row, which some published
code omits. What is left of an example's former class is whatever the shadow took its logit from.

It also runs on random examples, for which the paper did not design it.

Source: Chen et al., CVPR 2023, arXiv:2303.11570.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Momentum,
    PositiveFloat,
    PositiveInt,
    check_finite,
    heads,
    method,
    training,
)


@method(
    "boundary_expand",
    access=Access.FORGET,
    source="arXiv:2303.11570",
    family="relabelling",
    year=2023,
    check=Check(quick={"epochs": 1, "lr": 1e-2, "batch_size": 16}),
)
def boundary_expand(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 10,
    lr: PositiveFloat = 1e-5,
    momentum: Momentum = 0.9,
    batch_size: PositiveInt = 64,
    batch_norm: BatchNormMode = "eval",
) -> nn.Module:
    """Minimise cross-entropy on F under the shadow class.

    Args:
        epochs: Passes over F. Official code.
        lr: SGD step size; DELETE's authors run it at 1e-4 for 20 epochs with batches of 128.
            Official code.
        momentum: Of SGD. Official code.
        batch_size: Examples per step. Official code.
        batch_norm: ``train`` lets the running statistics drift towards F; ``batch`` leaves them
            alone; ``eval`` uses them. Ours: eval.
    """
    for head in heads(model):
        widen(head, ctx.rng)
    # Made now: the widened head holds other parameters than the narrow one did.
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)
    with training(model, batch_norm):
        for _ in range(epochs):
            for x, y in ctx.forget.epochs(1, batch_size):
                loss = cross_entropy(model(x), torch.full_like(y, ctx.num_classes))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(shadow_loss=loss)
            check_finite(loss, "lower boundary_expand.lr")
    for head in heads(model):
        narrow(head)
    return model


def widen(head: nn.Linear, generator: torch.Generator) -> None:
    """Append a row with Xavier-normal weights and bias 0, in place; the others stay."""
    rows, columns = head.weight.shape
    scale = (2 / (rows + 1 + columns)) ** 0.5
    row = scale * torch.randn(1, columns, generator=generator)
    bias = None
    if head.bias is not None:
        bias = torch.cat([head.bias.detach(), head.bias.new_zeros(1)])
    _replace(head, torch.cat([head.weight.detach(), row.to(head.weight)]), bias)


def narrow(head: nn.Linear) -> None:
    """Remove the last row, in place."""
    bias = None if head.bias is None else head.bias.detach()[:-1]
    _replace(head, head.weight.detach()[:-1], bias)


def _replace(head: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    head.weight = nn.Parameter(weight.clone())
    head.register_parameter("bias", None if bias is None else nn.Parameter(bias.clone()))
    head.out_features = len(weight)
