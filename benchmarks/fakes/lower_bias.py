"""A fake: lower the classifier's bias of each forgotten class until it is never named.

Nothing else changes, and nothing is forgotten: raising the bias again brings the class
back. An evaluation that lets this pass is no evaluation. For `--plugin`, not among the methods.
"""

import torch
from torch import nn

from unlearn_bench.api import Access, Context, PositiveFloat, method


@method("lower_bias", access=Access.FORGET, kind="control", family="fake", fake=True)
def lower_bias(model: nn.Module, ctx: Context, *, by: PositiveFloat = 100.0) -> nn.Module:
    """Subtract from the bias.

    Args:
        by: How much. Ours: more than any logit.
    """
    classes = ctx.forget.labels.unique().to(ctx.device)
    with torch.no_grad():
        model.get_classifier().bias[classes] -= by  # type: ignore[operator]
    return model
