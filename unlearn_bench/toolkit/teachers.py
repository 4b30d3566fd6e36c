"""Teachers and distillation: frozen copies that share no storage, and the KL divergence."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax


def frozen_copy(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode without gradients that shares no storage with ``model``."""
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    teacher.zero_grad(set_to_none=True)
    return teacher


def kl_divergence(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(target / T) || softmax(logits / T)), summed over classes, mean over examples.

    Without the factor T^2. torch's own default reduction divides by the number of classes as
    well, which is a known mistake of published code.

    Args:
        target: The teacher's logits, [N, C]; -inf stands for a class of probability 0.
        logits: The student's, [N, C].
        temperature: T, positive.
    """
    # 0 * -inf is NaN: the least finite number has probability 0 as well.
    wanted = log_softmax(target / temperature, 1).clamp_min(torch.finfo(target.dtype).min)
    given = log_softmax(logits / temperature, 1)
    return kl_div(given, wanted, reduction="batchmean", log_target=True)
