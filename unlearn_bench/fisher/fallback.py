"""Per-example gradients by one small backward pass each: slow, and right for any model."""

import torch
from torch import Tensor, nn

from unlearn_bench.fisher.columns import Columns
from unlearn_bench.fisher.rule import widened


def squares_by_example(
    model: nn.Module, x: Tensor, columns: Columns, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Sum (J_i^T v)^2 over a batch's examples and columns, by parameter name.

    Args:
        model: Classifier in eval mode.
        x: Inputs, [N, ...].
        columns: Of this batch.
        parameters: Those to differentiate by.
    """
    totals = {name: widened(torch.zeros_like(p.detach())) for name, p in parameters.items()}
    for i in range(columns.examples):
        # The example twice, the second weighted zero: see the note on BatchNorm in reference.py.
        logits = model(x[[i, i]])
        for v in columns.of(logits.detach(), i, i + 1):
            gradients = torch.autograd.grad(
                logits, list(parameters.values()), v, retain_graph=True, allow_unused=True
            )
            for total, gradient in zip(totals.values(), gradients, strict=True):
                if gradient is not None:
                    total += widened(gradient).square()
    return totals
