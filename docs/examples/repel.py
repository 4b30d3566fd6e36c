"""Repel: train on the retain set, and towards the uniform answer on the forget set."""

from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from unlearn_bench.api import Access, Context, method, training


@method("repel", access=Access.BOTH, source="the documentation")
def repel(
    model: nn.Module, ctx: Context, *, epochs: int = 2, lr: float = 0.02, weight: float = 0.5
) -> nn.Module:
    """Minimise ``CE(retain) + weight * CE(forget, uniform)`` with SGD.

    Args:
        epochs: Passes over the retain set; the forget set repeats alongside.
        lr: Step size.
        weight: Of the loss on the forget set.
    """
    optimizer = SGD(model.parameters(), lr=lr, momentum=0.9)
    forget = ctx.forget.forever()  # shuffled and augmented batches, without end
    with training(model):  # train mode, and every module's own mode again afterwards
        for x, y in ctx.retain.epochs(epochs):
            x_forget, _ = next(forget)
            uniform = -model(x_forget).log_softmax(1).mean()
            loss = cross_entropy(model(x), y) + weight * uniform
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ctx.log(loss=loss)
    return model
