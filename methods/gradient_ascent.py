"""Gradient ascent (NegGrad): climb the loss on the forget set.

Minimises ``-CE(forget)`` with SGD and stops at chance level: the loss has no lower bound, and
every further step destroys what the model knows of the other classes.

Published step sizes differ tenfold and more, as they must: a step too far destroys the model, one
too short does nothing. Comparisons search them for each task; so does a careful user. Fan et al.'s
code (arXiv:2310.12508) runs this baseline with 1e-4 for 5 epochs, without momentum.

Source: as a baseline in Golatkar et al. 2020, arXiv:1911.04933.
"""

from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Momentum,
    PositiveFloat,
    PositiveInt,
    accuracy,
    check_finite,
    method,
    training,
)


@method(
    "gradient_ascent",
    access=Access.FORGET,
    source="arXiv:1911.04933",
    family="ascent",
    year=2020,
    check=Check(quick={"epochs": 2}),
)
def gradient_ascent(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 10,
    lr: PositiveFloat = 1e-3,
    momentum: Momentum = 0.9,
    batch_size: PositiveInt = 64,
    batch_norm: BatchNormMode = "batch",
) -> nn.Module:
    """Maximise cross-entropy on F until its accuracy is at chance.

    Args:
        epochs: Passes over F at most. Common practice: up to 10.
        lr: SGD step size. Common practice: 5e-4 to 1e-3.
        momentum: Of SGD. Common practice.
        batch_size: Examples per step. Ours.
        batch_norm: ``train`` lets the running statistics drift towards the forget set, as
            published code does; ``batch`` leaves them alone; ``eval`` uses them. Ours: batch.
    """
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)
    chance = 1 / ctx.num_classes
    with training(model, batch_norm):
        for _ in range(epochs):
            for x, y in ctx.forget.epochs(1, batch_size):
                loss = -cross_entropy(model(x), y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(forget_loss=-loss)
            check_finite(loss, "lower gradient_ascent.lr or gradient_ascent.epochs")
            if accuracy(model, ctx.forget.batches()) <= chance:
                break
    return model
