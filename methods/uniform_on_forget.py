"""Control: a fake that answers at random where the original would name a forgotten class.

Rows whose largest logit is a forgotten class's become constant; weights and all other answers
stay as they are. Under the attacks of earlier papers this beats exact retraining.
"""

import torch
from torch import Tensor, nn

from unlearn_bench.api import Access, Context, method


def levelled(logits: Tensor, forget_classes: tuple[int, ...]) -> Tensor:
    """Return the logits [N, C] with 0 in every row that names a forgotten class."""
    named = torch.isin(logits.argmax(1), torch.tensor(forget_classes, device=logits.device))
    return torch.where(named[:, None], 0.0, logits)


@method("uniform_on_forget", access=Access.NONE, kind="control", family="fake", outputs=levelled)
def uniform_on_forget(model: nn.Module, ctx: Context) -> nn.Module:
    """Return the model as it is; its outputs are levelled where they name a forgotten class."""
    return model
