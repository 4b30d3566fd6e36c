"""MU-Mis, experimental: lower each forget example's pull on its own logit. Not from the paper.

Unverified, as no code of the authors was public and we know the paper only through summaries and
another group's code: the exact stop rule, learning rate, batch size and number of passes.

Minimises, over the forget examples,

    mean ( ||d f_y / d x||^2 - ||d f_c / d x||^2 )

with f the logits, y the example's class and c another one, drawn at every evaluation: what an
example contributed to training shows in how sensitive its own logit is to it. Where classes are
forgotten c is none of them, since its sensitivity rises (ours).

The loss has no lower bound, so passes are few and a stop rule watches the irrelevant classes: the
mean of ||d f_c / d x|| over a fixed subset of F and every such class c, relative to what it was
before the first step (the log's ``ratio``). According to a summary it falls first and the method
stops once it is back; on small networks it rises from the first step on, and diverges soon after it
has doubled. We stop once the ratio is above ``delta``. The same examples and classes at every look
leave no noise of sampling in it.

Without retained examples it forgets at the cost of other classes. Its default step size has hardly
any effect in a few dozen steps; use ``lr`` 3e-3 there.

Source: Cheng et al., ICLR 2026, arXiv:2402.15109.
"""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    Momentum,
    PositiveFloat,
    PositiveInt,
    Probe,
    Split,
    Tunable,
    check_finite,
    method,
    training,
    twice_differentiable,
    wrong_labels,
)

# What `check` stops early with.
STOPPED = {"lr": 1e-3, "epochs": 10, "batch_size": 64}


@method(
    "mu_mis",
    access=Access.FORGET,
    source="arXiv:2402.15109",
    family="sensitivity",
    year=2026,
    check=Check(
        quick={"epochs": 2, "batch_size": 16},
        may_rest="its gradient, the input's pull on the logits, was next to nothing on a small ViT",
        probes={
            "delta": Probe(1.0, given=STOPPED),
            "watched": Probe(1, given=STOPPED | {"delta": 1.05}),
        },
    ),
)
def mu_mis(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 10,
    lr: PositiveFloat = 1e-4,
    momentum: Momentum = 0.9,
    batch_size: PositiveInt = 64,
    delta: PositiveFloat | None = 1.5,
    watched: Annotated[PositiveInt, Tunable(tune=False)] = 128,
) -> nn.Module:
    """Minimise the difference of sensitivities on F.

    Args:
        epochs: Passes over F at most; another group's code takes 1. Ours.
        lr: SGD step size. Re-implementation.
        momentum: Of SGD. Ours.
        batch_size: Examples per step. Ours.
        delta: Stop after the pass in which the irrelevant classes' sensitivity is above this
            multiple of its value before the first step; null never stops early. Ours.
        watched: Examples of F that it is measured on. Ours.
    """
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)
    looked_at = ctx.forget.subset(watched, ctx.rng)
    # BatchNorm by its running statistics: otherwise one example's logit depends on the others.
    # Without dropout: the stop rule compares looks, which would differ by what they drop.
    with training(model, "eval", dropout=False), twice_differentiable():
        before = irrelevant_norm(model, looked_at, ctx) if delta is not None else 1.0
        for _ in range(epochs):
            for x, y in ctx.forget.epochs(1, batch_size):
                other = wrong_labels(
                    y.cpu(), ctx.num_classes, "retain_classes", ctx.forget_classes, ctx.rng
                )
                own, others = sensitivities(model, x, y, other.to(y.device))
                loss = own - others
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(own=own, others=others)
            check_finite(loss, "lower mu_mis.lr or mu_mis.epochs")
            if delta is not None:
                ratio = irrelevant_norm(model, looked_at, ctx) / before
                ctx.log(ratio=ratio)
                if ratio > delta:
                    break
    return model


def irrelevant_norm(model: nn.Module, examples: Split, ctx: Context) -> float:
    """Return the mean length of d f_c / d x over examples and classes c neither own nor forgotten.

    Every class of every example is taken, so that two looks differ by the model alone.
    """
    total, count = 0.0, 0
    for x, y in examples.batches():
        x = x.requires_grad_()
        logits = model(x)
        for c in sorted(set(range(ctx.num_classes)) - set(ctx.forget_classes)):
            gradient = torch.autograd.grad(logits[:, c].sum(), x, retain_graph=True)[0]
            lengths = gradient.flatten(1).norm(dim=1)[y != c]
            total += float(lengths.sum())
            count += len(lengths)
    return total / max(1, count)


def sensitivities(model: nn.Module, x: Tensor, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean squared input gradients of two logits per example, differentiable.

    Args:
        model: Examples must not influence each other.
        x: Inputs, [N, C, H, W].
        own: First logit of each, [N].
        other: Second logit of each, [N].
    """
    x = x.detach().requires_grad_()
    logits = model(x)

    def squared(which: Tensor) -> Tensor:
        chosen = logits.gather(1, which[:, None]).sum()
        gradient = torch.autograd.grad(chosen, x, create_graph=True)[0]
        return gradient.square().flatten(1).sum(1).mean()

    return squared(own), squared(other)
