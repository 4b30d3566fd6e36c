"""MU-Mis, experimental: lower each forget example's pull on its own logit. Not from the paper.

Unverified, as we know the paper through summaries and another group's code alone: the exact stop
rule, learning rate, batch size and number of passes.

Minimises, over the forget examples,

    mean ( ||d f_y / d x||^2 - ||d f_c / d x||^2 )

with f the logits, y the example's class and c another one, drawn anew at every evaluation: what
an example contributed to training shows in how sensitive its own logit is to it. Where classes are
forgotten c is none of them, since its sensitivity rises (ours). The loss has no lower bound;
passes are few, and we stop once the sensitivity of the other classes, having fallen, is above its
minimum and back at ``rebound`` times its value at the start.

Source: Cheng et al., ICLR 2026, arXiv:2402.15109.
"""

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
    check_finite,
    method,
    training,
    twice_differentiable,
    wrong_labels,
)


@method(
    "mu_mis",
    access=Access.FORGET,
    source="arXiv:2402.15109",
    family="fine-tuning",
    year=2026,
    check=Check(
        quick={"epochs": 2, "batch_size": 16},
        may_rest="its gradient, the input's pull on the logits, was next to nothing on a small ViT",
        probes={"rebound": Probe(None, given={"lr": 1e-6, "epochs": 40, "batch_size": 64})},
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
    rebound: PositiveFloat | None = 1.0,
) -> nn.Module:
    """Minimise the difference of sensitivities on F.

    Args:
        epochs: Passes over F at most. Ours; another group's code: 1.
        lr: SGD step size. Ours, after another group's code.
        momentum: Of SGD. Ours.
        batch_size: Examples per step. Ours.
        rebound: Stop once the other classes' sensitivity, as a mean over a pass, has fallen and
            is back at this multiple of its first value; null never stops early. Ours, after a
            summary of the paper.
    """
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)
    passes: list[float] = []
    # BatchNorm by its running statistics: otherwise one example's logit depends on the others.
    # Without dropout: the stop rule compares passes, which would differ by what they drop.
    with training(model, "eval", dropout=False), twice_differentiable():
        for _ in range(epochs):
            seen = torch.zeros((), device=ctx.device)
            for x, y in ctx.forget.epochs(1, batch_size):
                other = wrong_labels(
                    y.cpu(), ctx.num_classes, "retain_classes", ctx.forget_classes, ctx.rng
                )
                own, others = sensitivities(model, x, y, other.to(y.device))
                loss = own - others
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                seen += others.detach() * len(x)
                ctx.log(own=own, others=others)
            check_finite(loss, "lower mu_mis.lr or mu_mis.epochs")
            passes.append(float(seen))
            if rebound is not None and rebounded(passes, rebound):
                break
    return model


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


def rebounded(passes: list[float], factor: float) -> bool:
    """Whether the last value rose above a minimum below the first, and to ``factor`` times it."""
    lowest = min(passes)
    return lowest < passes[0] and passes[-1] > lowest and passes[-1] >= factor * passes[0]
