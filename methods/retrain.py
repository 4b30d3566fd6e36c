"""Retraining from scratch on the retain set: exact unlearning, the reference for all others.

Same architecture, recipe and schedule as the original, fresh initialisation, no forget data. It
is never warm-started; only where the recipe itself begins with pre-trained weights does
retraining begin there too.
"""

from torch import nn

from unlearn_bench.api import Access, Context, method


@method("retrain", access=Access.RETAIN, kind="reference", family="retraining")
def retrain(model: nn.Module, ctx: Context) -> nn.Module:
    """Train a new model on R by the recipe of the original."""
    return ctx.train(ctx.new_model(), ctx.retain)
