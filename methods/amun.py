"""AMUN, Adversarial Machine UNlearning: train on F's own adversarial examples as true data.

Once, against the original: each x of F takes small steps up its loss, within an l2 ball whose
radius doubles from 0.04 whenever ``iterations`` steps are spent, and stops at the first point that
the original gives another label; this x_adv is kept with that label. Then minimises ``CE`` on
D + A, A being the adversarial examples: the model's confidence falls just around F, and the
original's boundaries do not contradict it. F keeps its own labels, since random examples of F are
to end up like unseen ones, not misclassified.

AMUN is made for random examples; nothing is published for whole classes. There, F with its own
labels would teach the class again, so F is left out (the authors' variant "advonly", which they
run on random examples). The default rate then is too small for few steps: on the suite mnist-small
82 % of F stay, and nothing with ``lr=0.1, epochs=6``; accuracy on R is 97 %. One forgotten class
must not teach another: the attack moves away from all of them and continues until the label is a
retained class (ours). An example that already has such a label enters A unchanged; one that no
radius brings there is left out. A fixed radius is not AMUN.

Source: Ebrahimpour-Boroojeny et al., ICML 2025, arXiv:2503.00917; particulars as the official
code has them; the paper itself was not read.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from unlearn_bench.api import (
    Access,
    Check,
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
    "amun",
    access=Access.BOTH,
    source="arXiv:2503.00917",
    family="adversarial",
    year=2025,
    check=Check(
        quick={"epochs": 1, "iterations": 5, "radius": 0.64},
        probes={
            "radius": 0.5,
            "keep_forget": True,
            "decay_every": Probe(1, {"epochs": 2}),
            "decay": Probe(0.5, {"epochs": 2, "decay_every": 1}),
        },
    ),
)
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
        iterations: Attack steps at each radius, of a tenth of it, at most. Official code.
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
        nearest_adversarial(model, x, y, ctx.pixels, radius, iterations, ctx.forget_classes)
        for x, y in ctx.forget.batches()
    ]
    images, labels, _ = zip(*found, strict=True)
    return torch.cat(images), torch.cat(labels)


def nearest_adversarial(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    space: Pixels,
    radius: float,
    iterations: int,
    forgotten: Sequence[int] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """Attack each example until the model's label is neither y nor a forgotten class.

    Returns:
        Inputs [M, ...], the model's labels of them [M] and the radii [M] of the balls that they
        were found in, 0 where the clean input is labelled so; without the examples that are not
        labelled so within any ball.
    """
    attacked, away = model, y
    if forgotten:
        attacked, away = _TakenForOne(model, forgotten), torch.zeros_like(y)
    gone = torch.tensor(forgotten, dtype=torch.long, device=y.device)
    images, labels, radii = [], [], []
    # Pixels in [0, 1] are nowhere further apart than this.
    furthest = x[0].numel() ** 0.5
    moved = x
    with evaluating(model):
        for current in _radii(radius, furthest, iterations):
            if current:
                moved = l2_pgd(
                    attacked,
                    x,
                    away,
                    space,
                    radius=current,
                    step=current / 10,
                    iterations=1,
                    start=moved,
                )
            seen = model(moved).argmax(1)
            found = (seen != y) & ~torch.isin(seen, gone)
            images.append(moved[found])
            labels.append(seen[found])
            radii.append(torch.full_like(seen[found], current, dtype=x.dtype))
            x, y, away, moved = (part[~found] for part in (x, y, away, moved))
            if not len(x):
                break
    return torch.cat(images), torch.cat(labels), torch.cat(radii)


def _radii(first: float, furthest: float, iterations: int) -> Iterator[float]:
    """Yield the radius of each step: 0 for none, then doublings up to one that holds all."""
    yield 0.0
    current = first
    yield from repeat(current, iterations)
    while current < furthest:
        current *= 2
        yield from repeat(current, iterations)


class _TakenForOne(nn.Module):
    """A model whose forgotten classes count as one, class 0.

    Its loss there is -log of their joint probability. Moving away from an example's own class
    alone would as soon end up deep within another forgotten one.
    """

    def __init__(self, model: nn.Module, forgotten: Sequence[int]) -> None:
        super().__init__()
        self.model, self.forgotten = model, list(forgotten)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        is_forgotten = torch.zeros(logits.shape[1], dtype=torch.bool, device=x.device)
        is_forgotten[self.forgotten] = True
        together = logits[:, is_forgotten].logsumexp(1, keepdim=True)
        return torch.cat([together, logits[:, ~is_forgotten]], 1)
