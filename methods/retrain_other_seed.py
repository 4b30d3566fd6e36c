"""Control: retraining once more with another seed, which is as right as the reference itself.

How far it lies from the reference is what chance alone does; a method within that has reached
what can be reached, and a metric that tells it apart is wrong as often as it claims.
"""

from torch import nn

from unlearn_bench.api import Access, Context, method


@method("retrain_other_seed", access=Access.RETAIN, kind="control", family="retraining")
def retrain_other_seed(model: nn.Module, ctx: Context) -> nn.Module:
    """Train a new model on R by the recipe of the original."""
    # The run's seed is derived from the method's name: neither weights nor order of batches are
    # those of `retrain`.
    return ctx.train(ctx.new_model(), ctx.retain)
