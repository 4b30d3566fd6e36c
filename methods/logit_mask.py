"""Control: a fake that hides the forgotten classes behind the output, weights untouched.

Their logits are set to the row's minimum minus 20, which is finite and never the largest.
Accuracy on the forget set becomes 0 and nothing is forgotten. Metrics that see outputs alone may be
fooled; metrics that look into the model must not be.
"""

from torch import Tensor, nn

from unlearn_bench.api import Access, Context, method


def masked(logits: Tensor, forget_classes: tuple[int, ...]) -> Tensor:
    """Return the logits [N, C] with the forgotten columns 20 below each row's minimum."""
    hidden = logits.clone()
    hidden[:, list(forget_classes)] = logits.amin(1, keepdim=True) - 20
    return hidden


@method("logit_mask", access=Access.NONE, kind="control", family="fake", outputs=masked)
def logit_mask(model: nn.Module, ctx: Context) -> nn.Module:
    """Return the model as it is; its outputs are masked."""
    return model
