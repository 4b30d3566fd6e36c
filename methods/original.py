"""Control: the original model, nothing forgotten.

Whatever an evaluation says of a method, it must be able to tell this one from retraining; where
it cannot, it has no power on the task.
"""

from torch import nn

from unlearn_bench.api import Access, Context, method


@method("original", access=Access.NONE, kind="control", family="bound")
def original(model: nn.Module, ctx: Context) -> nn.Module:
    """Return the model as it is."""
    return model
