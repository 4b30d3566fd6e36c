"""NegMerge, experimental: subtract what fine-tunings on F agree about. Not from the paper.

Unverified: the paper was not read, and the authors' code is known for CLIP alone; momentum, batch
size and what BatchNorm does are ours.

Fine-tune n copies of theta0 on F with different hyper-parameters; tau_i = theta_i - theta0. A
weight is kept where all n changes have one sign, and

    theta = theta0 - lambda * mean_i tau_i    where kept, else theta0.

The copies differ in epochs, weight decay and label smoothing: three values of each, combined so
that any 9 copies in a row hold every pair of values and 27 every combination. Lambda is the one of
21 points on [0, 1] whose accuracy on validation examples of the forgotten classes is least, among
those that keep ``keep`` of the accuracy on the others; where examples are forgotten, which
validation does not hold, F itself takes their place (ours). Of equals the smallest is taken: it is
0, and the original comes back, where no point forgets and keeps. BatchNorm's buffers stay the
original's.

Made for forget sets of thousands of images of many classes: 9 copies of 50 epochs take longer than
retraining where F is a tenth, and a single class is fitted at once.

Source: Kim, Han and Choe, ICML 2025, arXiv:2410.05583.
"""

import copy
from collections.abc import Callable, Iterable
from typing import NamedTuple

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
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probe,
    accuracy,
    check_finite,
    evaluating,
    method,
    training,
)

# Of lambda on [0, 1], as in the official code.
POINTS = 21

# What `check` looks at single parameters with.
FIXED = {"scale": 1.0}
AGREED = {"models": 1, "epochs": 8, "batch_size": 16}


@method(
    "neg_merge",
    access=Access.FORGET | Access.VALIDATION,
    source="arXiv:2410.05583",
    family="editing",
    year=2025,
    check=Check(
        quick={"models": 2, "epochs": 8, "batch_size": 16, "keep": 0.0},
        may_rest="of 21 points none forgets and keeps what is retained",
        probes={
            "scale": 1.0,
            "keep": Probe(0.95, given=AGREED),
            "momentum": Probe(0.5, given=FIXED),
            "epochs": Probe(4, given=FIXED),
            "models": Probe(3, given=FIXED),
            "lr": Probe(0.02, given=FIXED),
            "batch_size": Probe(8, given=FIXED),
            "weight_decay": Probe(0.01, given=FIXED),
            "label_smoothing": Probe(0.5, given=FIXED),
            "batch_norm": Probe("eval", given=FIXED | {"lr": 1e-3}),
        },
    ),
)
def neg_merge(
    model: nn.Module,
    ctx: Context,
    *,
    models: PositiveInt = 9,
    epochs: PositiveInt = 50,
    lr: PositiveFloat = 0.05,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-5,
    label_smoothing: Fraction = 0.1,
    batch_size: PositiveInt = 64,
    batch_norm: BatchNormMode = "batch",
    scale: NonNegativeFloat | None = None,
    keep: Fraction = 0.95,
) -> nn.Module:
    """Subtract the agreed change.

    Args:
        models: Fine-tunings, n: 9 hold every pair of the pool's values, 27 all of the pool. Ours.
        epochs: Passes of a copy over F; a third of the copies make 0.8, a third 1.2 times as
            many: 40, 50 and 60. Official code.
        lr: SGD step size of every copy. Official code.
        momentum: Of SGD. Ours.
        weight_decay: L2 penalty; of the pool twice and a fifth as much as well: 1e-4, 5e-5 and
            1e-5. Official code.
        label_smoothing: The largest of the pool, which has half of it and 0 as well: 0, 0.05 and
            0.1. Official code.
        batch_size: Examples per step. Ours.
        batch_norm: What BatchNorm does with the batches' statistics; under ``eval`` this step size
            diverges. Ours.
        scale: lambda; null chooses it on validation examples. Official code.
        keep: Share of the original's validation accuracy on retained classes that must remain.
            Official code.
    """
    start = {name: p.detach().clone() for name, p in model.named_parameters()}

    def change(index: int) -> dict[str, Tensor]:
        """Fine-tune one copy and return what it changed."""
        own = member(index, epochs, weight_decay, label_smoothing)
        tuned = copy.deepcopy(model)
        optimizer = SGD(tuned.parameters(), lr=lr, momentum=momentum, weight_decay=own.weight_decay)
        with training(tuned, batch_norm):
            for x, y in ctx.forget.epochs(own.epochs, batch_size):
                loss = cross_entropy(tuned(x), y, label_smoothing=own.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(forget_loss=loss)
        check_finite(loss, "lower neg_merge.lr")
        return {name: p.detach() - start[name] for name, p in tuned.named_parameters()}

    agreed = consensus(change(index) for index in range(models))
    kept = torch.stack([(part != 0).sum() for part in agreed.values()]).sum()
    ctx.log(kept=kept / sum(part.numel() for part in agreed.values()))
    if scale is None:

        def judge(tried: float) -> tuple[float, float]:
            _negate(model, start, agreed, tried)
            return grid_accuracies(model, ctx)

        scale = best_scale(judge, keep)
    _negate(model, start, agreed, scale)
    ctx.log(scale=scale)
    return model


class Member(NamedTuple):
    """What one fine-tuning of the pool does otherwise than another."""

    epochs: int
    weight_decay: float
    label_smoothing: float


def member(index: int, epochs: int, weight_decay: float, label_smoothing: float) -> Member:
    """Return the pool's entry of that number; 27 in a row are all different.

    Args:
        index: From 0.
        epochs: The middle of the pool.
        weight_decay: Likewise.
        label_smoothing: The largest of the pool.
    """
    # An orthogonal array: the third factor is the sum of the others and the number of the nine.
    first, second = index % 3, index // 3 % 3
    third = (first + second + index // 9) % 3
    return Member(
        max(1, round(epochs * (0.8, 1.0, 1.2)[first])),
        weight_decay * (2.0, 1.0, 0.2)[second],
        label_smoothing * (0.0, 0.5, 1.0)[third],
    )


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


def best_scale(judge: Callable[[float], tuple[float, float]], keep: float) -> float:
    """Return the lambda that forgets most among those that keep enough; the smallest of equals.

    Args:
        judge: Gives accuracy on what is forgotten and on what is retained for a lambda.
        keep: Share of the accuracy at 0 on what is retained that must remain.
    """
    forget, before = judge(0.0)
    best, chosen = forget, 0.0
    for step in range(1, POINTS):
        forget, retain = judge(step / (POINTS - 1))
        if retain >= keep * before and forget < best:
            best, chosen = forget, step / (POINTS - 1)
    return chosen


@torch.no_grad()
def _negate(
    model: nn.Module, start: dict[str, Tensor], change: dict[str, Tensor], scale: float
) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(start[name] - scale * change[name])


def grid_accuracies(model: nn.Module, ctx: Context) -> tuple[float, float]:
    """Accuracy on what is forgotten and on validation examples of all other classes."""
    gone = torch.tensor(ctx.forget_classes, device=ctx.device, dtype=torch.long)
    right, total = [0, 0], [0, 0]
    with evaluating(model):
        for x, y in ctx.validation.batches():
            hits, forgotten = model(x).argmax(1) == y, torch.isin(y, gone)
            for which, chosen in enumerate((forgotten, ~forgotten)):
                right[which] += int((hits & chosen).sum())
                total[which] += int(chosen.sum())
    retain = right[1] / max(1, total[1])
    if not total[0]:
        return accuracy(model, ctx.forget.batches()), retain
    return right[0] / total[0], retain
