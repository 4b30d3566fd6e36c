"""A model that comes unlearned: weights of the user's own, by whatever means they were made.

It stands for the files of ``run --unlearned``. What making them cost is not known here.
"""

from torch import nn

from unlearn_bench.api import Access, Context, method


@method("unlearned", access=Access.NONE, kind="given")
def unlearned(model: nn.Module, ctx: Context) -> nn.Module:
    """Put the given weights into the model."""
    model.load_state_dict(ctx.given_weights())
    return model
