"""Per-example gradients by one small backward pass each: slow, and right for any model."""

import torch
from torch import Tensor, nn

from unlearn_bench.fisher.columns import Columns


def add_squares_by_example(
    model: nn.Module,
    x: Tensor,
    columns: Columns,
    parameters: dict[str, nn.Parameter],
    totals: dict[str, Tensor],
) -> None:
    """Add sum_i (J_i^T v)^2 over a batch's examples and columns to ``totals``.

    Args:
        model: Classifier in eval mode.
        x: Inputs, [N, ...].
        columns: Of this batch.
        parameters: Those to differentiate by.
        totals: Sums so far, by the same names.
    """
    for i in range(columns.examples):
        # The example twice, the second weighted zero: see the note on BatchNorm in reference.py.
        logits = model(x[[i, i]])
        for v in columns.of(logits.detach(), i, i + 1):
            gradients = torch.autograd.grad(
                logits, list(parameters.values()), v, retain_graph=True, allow_unused=True
            )
            for total, gradient in zip((totals[n] for n in parameters), gradients, strict=True):
                if gradient is not None:
                    total += gradient.square()
