"""Fine-tuning: go on training on the retain set and hope that the rest fades.

Minimises ``CE(retain)`` with SGD from the original weights. The weakest serious baseline: it
forgets by neglect alone, and slowly.

The default rate is too small for a few dozen steps: on the suite mnist-small 96 % of F stay. With
``lr=0.1, epochs=10`` nothing stays, and accuracy on R is 95 %.

Source: as a baseline in Golatkar et al. 2020, arXiv:1911.04933.
"""

from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    check_finite,
    method,
    training,
)


@method(
    "finetune",
    access=Access.RETAIN,
    source="arXiv:1911.04933",
    family="fine-tuning",
    year=2020,
    check=Check(quick={"epochs": 1}),
)
def finetune(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 5,
    lr: PositiveFloat = 0.01,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 128,
) -> nn.Module:
    """Minimise cross-entropy on R.

    Args:
        epochs: Passes over R. Common practice: 5 to 10.
        lr: SGD step size. Common practice: 0.01 to 0.02.
        momentum: Of SGD. Common practice.
        weight_decay: L2 penalty. Common practice.
        batch_size: Examples per step. Ours.
    """
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    with training(model):
        for _ in range(epochs):
            for x, y in ctx.retain.epochs(1, batch_size):
                loss = cross_entropy(model(x), y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(retain_loss=loss)
            check_finite(loss, "lower finetune.lr")
    return model
