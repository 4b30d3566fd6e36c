"""DELETE: imitate the original as if the true class had never been an answer.

Minimises ``KL(q || f(x))`` on F, where q is the softmax of the original's logits with the true
class's logit removed: that class's probability falls to 0 while the others keep their ratios,
which carry the model's other knowledge of the image. The order matters: ``KL(f || q)`` is infinite.

On random examples it drives accuracy on F to 0, below that of a retrained model.

Source: Zhou et al., CVPR 2025, arXiv:2503.23751; particulars as the official code has them; the
paper itself was not read.
"""

import math
from typing import Literal

from torch import nn
from torch.nn.functional import one_hot
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Momentum,
    PositiveFloat,
    PositiveInt,
    Probe,
    check_finite,
    evaluating,
    frozen_copy,
    kl_divergence,
    method,
    training,
)


@method(
    "delete",
    access=Access.FORGET,
    source="arXiv:2503.23751",
    family="distillation",
    year=2025,
    check=Check(
        quick={"epochs": 1, "lr": 1e-2, "batch_size": 16}, probes={"mask": Probe("all_forget")}
    ),
)
def delete(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 20,
    lr: PositiveFloat = 1e-4,
    momentum: Momentum = 0.9,
    batch_size: PositiveInt = 128,
    mask: Literal["own", "all_forget"] = "own",
    batch_norm: BatchNormMode = "eval",
) -> nn.Module:
    """Distil the original without the true class into the model, on F.

    Args:
        epochs: Passes over F. Official code.
        lr: SGD step size; 5e-5 for CIFAR-100, Tiny-ImageNet, VGG16, Swin and ViT-S. Official code,
            for CIFAR-10 and ResNet-18.
        momentum: Of SGD. Official code.
        batch_size: Examples per step. Official code.
        mask: Logits to remove: the example's ``own`` class, or ``all_forget``, every forgotten
            class beside it (ours), which differs where several are forgotten. Official code: own.
        batch_norm: ``train`` lets the running statistics drift towards F, as the official code
            does; ``batch`` leaves them alone; ``eval`` uses them. Ours: eval.
    """
    with ctx.precompute():
        original = frozen_copy(model)
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)
    with training(model, batch_norm):
        for _ in range(epochs):
            for x, y in ctx.forget.epochs(1, batch_size):
                with evaluating(original):
                    target = original(x)
                removed = one_hot(y, target.shape[1]).bool()
                if mask == "all_forget":
                    removed[:, list(ctx.forget_classes)] = True
                loss = kl_divergence(target.masked_fill(removed, -math.inf), model(x))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(divergence=loss)
            check_finite(loss, "lower delete.lr")
    return model
