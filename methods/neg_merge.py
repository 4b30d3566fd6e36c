"""NegMerge, experimental: subtract what fine-tunings on F agree about. Written without the paper.

Unverified, as we know the paper through summaries and another group's code alone: the
hyper-parameters that differ between the fine-tunings and their values, and how lambda is chosen.

Fine-tune n copies of theta0 on F with different hyper-parameters; tau_i = theta_i - theta0. A
weight is kept where all n changes have one sign, and

    theta = theta0 - lambda * mean_i tau_i    where kept, else theta0.

The copies differ in learning rate, and every second one trains without augmentation. A single
forgotten class is fitted at once, so that tau is small and lambda large: lambda doubles for as
long as validation accuracy on what is retained holds, and halves until it does where the first
one is too large already. BatchNorm's buffers stay the original's.

Learning rate and augmentation alone make little disagreement: of the weights 34 to 41 % are kept in
our reports (the log's ``kept``), 5 to 10 % according to a summary of the paper. To that extent it
is plain task negation, which keeps all of them.

Source: Kim, Han and Choe, ICML 2025, arXiv:2410.05583.
"""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Fraction,
    MethodError,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    check_finite,
    evaluating,
    method,
    training,
)

DOUBLINGS = 24


@method(
    "neg_merge",
    access=Access.FORGET | Access.VALIDATION,
    source="arXiv:2410.05583",
    family="editing",
    year=2025,
    check=Check(
        quick={"models": 2, "batch_size": 16},
        probes={"scale": 100.0, "keep": 0.1, "first_scale": 0.3},
    ),
)
def neg_merge(
    model: nn.Module,
    ctx: Context,
    *,
    models: PositiveInt = 10,
    epochs: PositiveInt = 1,
    lr_low: PositiveFloat = 1e-4,
    lr_high: PositiveFloat = 1e-3,
    momentum: Momentum = 0.9,
    batch_size: PositiveInt = 64,
    batch_norm: BatchNormMode = "eval",
    scale: NonNegativeFloat | None = None,
    first_scale: PositiveFloat = 0.25,
    keep: Fraction = 0.95,
) -> nn.Module:
    """Subtract the agreed change.

    Args:
        models: Fine-tunings, n. Paper, second-hand: 10 to 30.
        epochs: Passes of each over F. Ours: 1.
        lr_low: Smallest SGD step size; the others are spaced evenly in their logarithm. Ours,
            after another group's code.
        lr_high: Largest SGD step size. Ours, after another group's code.
        momentum: Of SGD. Ours, after another group's code.
        batch_size: Examples per step. Ours.
        batch_norm: What BatchNorm does with the batches' statistics. Ours: eval.
        scale: lambda; null chooses it on validation examples. Ours: null.
        first_scale: Where the doubling or halving of lambda starts. Ours.
        keep: Share of the original's validation accuracy on retained classes that must remain.
            Common practice for task vectors: 0.95.
    """
    start = {name: p.detach().clone() for name, p in model.named_parameters()}

    def change(index: int) -> dict[str, Tensor]:
        """Fine-tune one copy and return what it changed."""
        tuned = copy.deepcopy(model)
        position = index / max(1, models - 1)
        lr = lr_low ** (1 - position) * lr_high**position
        optimizer = SGD(tuned.parameters(), lr=lr, momentum=momentum)
        with training(tuned, batch_norm):
            for x, y in ctx.forget.epochs(epochs, batch_size, augment=index % 2 == 0):
                loss = cross_entropy(tuned(x), y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(forget_loss=loss)
        check_finite(loss, "lower neg_merge.lr_high")
        return {name: p.detach() - start[name] for name, p in tuned.named_parameters()}

    agreed = consensus(change(index) for index in range(models))
    kept = torch.stack([(part != 0).sum() for part in agreed.values()]).sum()
    ctx.log(kept=kept / sum(part.numel() for part in agreed.values()))
    if scale is None:
        floor = keep * _retained_accuracy(model, ctx)

        def holds(tried: float) -> bool:
            _negate(model, start, agreed, tried)
            return _retained_accuracy(model, ctx) >= floor

        scale = largest_scale(holds, first_scale)
    _negate(model, start, agreed, scale)
    ctx.log(scale=scale)
    return model


def consensus(changes: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean change where all have one sign, else 0; only sum and signs are held."""
    total: dict[str, Tensor] = {}
    signs: dict[str, Tensor] = {}
    count = 0
    for change in changes:
        count += 1
        for name, part in change.items():
            total[name] = total[name] + part if name in total else part.clone()
            # A sign that once differs becomes 0 and agrees with none again.
            sign = part.sign().to(torch.int8)
            signs[name] = torch.where(signs[name] == sign, sign, 0) if name in signs else sign
    return {name: (signs[name] != 0) * total[name] / count for name in total}


def largest_scale(holds: Callable[[float], bool], first: float) -> float:
    """Return the largest of first * 2^k up to which ``holds`` is true.

    Raises:
        MethodError: If none holds.
    """
    scale = first
    if holds(scale):
        for _ in range(DOUBLINGS - 1):
            if not holds(2 * scale):
                break
            scale *= 2
        return scale
    for _ in range(DOUBLINGS):
        scale /= 2
        if holds(scale):
            return scale
    raise MethodError(
        f"accuracy on what is retained falls even where neg_merge's scale is {scale:g}; lower "
        "neg_merge.first_scale or neg_merge.keep"
    )


@torch.no_grad()
def _negate(
    model: nn.Module, start: dict[str, Tensor], change: dict[str, Tensor], scale: float
) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(start[name] - scale * change[name])


def _retained_accuracy(model: nn.Module, ctx: Context) -> float:
    """Accuracy on validation examples of the classes that are not forgotten."""
    gone = torch.tensor(ctx.forget_classes, device=ctx.device, dtype=torch.long)
    right = total = 0
    with evaluating(model):
        for x, y in ctx.validation.batches():
            retained = ~torch.isin(y, gone)
            right += int(((model(x).argmax(1) == y) & retained).sum())
            total += int(retained.sum())
    return right / max(1, total)
