"""Shrink: pull the classifier's row of each forgotten class to the mean of the others."""

import torch
from torch import nn

from unlearn_bench.api import Access, Context, Fraction, method


@method("shrink", access=Access.FORGET, forgets=("class", "classes"), source="the documentation")
def shrink(model: nn.Module, ctx: Context, *, keep: Fraction = 0.0) -> nn.Module:
    """Move weights and bias of the forgotten rows; a mean of logits is never the largest.

    Args:
        keep: Share of the row that remains.
    """
    head = model.get_classifier()
    rows = ctx.forget.labels.unique()
    others = [row for row in range(ctx.num_classes) if row not in rows]
    with torch.no_grad():
        for values in (head.weight, head.bias):
            values[rows] = keep * values[rows] + (1 - keep) * values[others].mean(0)
    return model
