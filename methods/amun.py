"""AMUN, Adversarial Machine UNlearning: train on F's own adversarial examples as true data.

Once, against the original: each x of F is attacked within an l2 ball whose radius doubles from
0.04 until the original's label changes; the nearest such x_adv is kept with the label that the
original gives it. Then minimises ``CE`` on D + A, A being the adversarial examples: the model's
confidence falls just around F, and the original's boundaries do not contradict it. F keeps its
own labels, since random examples of F are to end up like unseen ones, not misclassified.

That is made for random examples. Where whole classes are forgotten, F with its own labels would
teach the class again, so that it is left out there (the authors' variant "advonly"). A fixed
radius is not AMUN. An example that is misclassified already stands in A as it is; one that no
radius flips is left out.

Source: Ebrahimpour-Boroojeny et al., ICML 2025, arXiv:2503.00917; particulars as the official
code has them, but that its attack goes on from where the smaller radius ended; ours starts anew.
The paper itself was not read.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from unlearn_bench.api import (
    Access,
    Context,
    MethodError,
    Momentum,
    NonNegativeFloat,
    Pixels,
    PositiveFloat,
    PositiveInt,
    Probe,
    check_finite,
    descend,
    evaluating,
    l2_pgd,
    method,
    mixed,
    shuffled,
    training,
)


@method(
    "amun", access=Access.BOTH, source="arXiv:2503.00917", family="adversarial", year=2025,
    quick={"epochs": 1, "iterations": 5, "radius": 0.64},
    probes={
        "radius": 0.5,
        "keep_forget": True,
        "decay_every": Probe(1, {"epochs": 2}),
        "decay": Probe(0.5, {"epochs": 2, "decay_every": 1}),
    },
)  # fmt: skip
def amun(
    model: nn.Module,
    ctx: Context,
    *,
    radius: PositiveFloat = 0.04,
    iterations: PositiveInt = 50,
    keep_forget: bool | None = None,
    use_retain: bool = True,
    epochs: PositiveInt = 10,
    lr: PositiveFloat = 0.01,
    decay_every: PositiveInt = 5,
    decay: PositiveFloat = 0.1,
    momentum: Momentum = 0.9,
    weight_decay: NonNegativeFloat = 5e-4,
    batch_size: PositiveInt = 128,
) -> nn.Module:
    """Find F's nearest adversarial examples, then minimise cross-entropy on D and them.

    Args:
        radius: First l2 radius, in pixels of [0, 1]; it doubles where the label holds.
            Official code.
        iterations: Attack steps at each radius, of a tenth of it. Official code.
        keep_forget: Whether F is trained on with its own labels. Official code: true; by default
            only where random examples are forgotten (ours: of classes nothing would be
            forgotten).
        use_retain: Whether R is trained on. Official code has both settings.
        epochs: Passes over all of it. Official code.
        lr: SGD step size. Official code; tuned there from 1e-5 to 0.1.
        decay_every: Passes after which the step size falls. Official code: 1, 5 or 10.
        decay: What it is multiplied by then. Official code.
        momentum: Of SGD. Official code.
        weight_decay: L2 penalty. Official code.
        batch_size: Examples per step, about. Official code.
    """
    with ctx.precompute():
        x_adv, y_adv = adversarial_set(model, ctx, radius, iterations)
    if keep_forget is None:
        keep_forget = not ctx.forget_classes
    splits = [ctx.retain] * use_retain + [ctx.forget] * keep_forget
    if not splits and not len(x_adv):
        raise MethodError("no attack changes the original's label: set amun.use_retain=true")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        if not splits:
            return (b for b in shuffled(x_adv, y_adv, batch_size, ctx.rng) if enough(b))
        data = splits[0] + splits[1] if len(splits) == 2 else splits[0]
        # The adversarial examples come on top: make room for them in each batch.
        room = max(1, round(batch_size * len(data) / (len(data) + len(x_adv))))
        return mixed(data.epochs(1, room), len(data), x_adv, y_adv, ctx.rng)

    def enough(batch: tuple[Tensor, Tensor]) -> bool:
        # BatchNorm cannot train on a left-over single example.
        return len(batch[0]) == min(len(x_adv), batch_size) or len(batch[0]) > 1

    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = StepLR(optimizer, decay_every, decay)
    with training(model):
        for _ in range(epochs):
            loss = descend(model, batches(), optimizer, ctx.log)
            schedule.step()
            check_finite(loss, "lower amun.lr")
    return model


def adversarial_set(
    model: nn.Module, ctx: Context, radius: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Return A: inputs [M, ...] and the original's labels of them, M at most the size of F."""
    found = [
        nearest_adversarial(model, x, y, ctx.pixels, radius, iterations)
        for x, y in ctx.forget.batches()
    ]
    images, labels, _ = zip(*found, strict=True)
    return torch.cat(images), torch.cat(labels)


def nearest_adversarial(
    model: nn.Module, x: Tensor, y: Tensor, space: Pixels, radius: float, iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Attack each example within a ball that doubles until the model's label is not y.

    Returns:
        Inputs [M, ...], the model's labels of them [M] and the radii [M], 0 where the clean
        input is misclassified; without the examples that hold their label at any radius.
    """
    images, labels, radii = [], [], []
    # Pixels in [0, 1] are nowhere further apart than this.
    furthest = x[0].numel() ** 0.5
    moved, current = x, 0.0
    while len(x):
        with evaluating(model):
            seen = model(moved).argmax(1)
        flipped = seen != y
        images.append(moved[flipped])
        labels.append(seen[flipped])
        radii.append(torch.full_like(seen[flipped], current, dtype=x.dtype))
        x, y = x[~flipped], y[~flipped]
        if current >= furthest or not len(x):
            break
        current = 2 * current or radius
        moved = l2_pgd(model, x, y, space, radius=current, step=current / 10, iterations=iterations)
    return torch.cat(images), torch.cat(labels), torch.cat(radii)
