"""Control: a freshly initialised model, which forgot everything and is of no use.

An evaluation that only looks at forgetting praises it; every measure of utility must fail it.
"""

from torch import nn

from unlearn_bench.api import Access, Context, method


@method("random_init", access=Access.NONE, kind="control", family="bound")
def random_init(model: nn.Module, ctx: Context) -> nn.Module:
    """Return a new model of the same architecture, untrained."""
    return ctx.new_model(pretrained=False)
