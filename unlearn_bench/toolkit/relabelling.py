"""Wrong labels for forgotten examples, and training on them together with the retain set."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unlearn_bench.toolkit.context import Context, Split
from unlearn_bench.toolkit.modes import BatchNormMode, check_finite, training

Pool = Literal["retain_classes", "other", "all"]
PassOrder = Literal["mixed", "sequential"]
Relabel = Literal["once", "each_epoch"]
Batch = tuple[Tensor, Tensor]


class Stepper(Protocol):
    """What training needs of an optimiser, masked or not."""

    def zero_grad(self) -> None:
        """Drop all gradients."""

    def step(self) -> object:
        """Move the weights."""


class Examples(Protocol):
    """What a pass needs of a split."""

    def epochs(self, n: int, batch_size: int | None = None) -> Iterator[Batch]:
        """Yield (x, y) over ``n`` training passes."""

    def __add__(self, other: Self) -> Self:
        """Return the union."""


E = TypeVar("E", bound=Examples)


def wrong_labels(
    true: Tensor,
    num_classes: int,
    pool: Pool,
    forget_classes: Sequence[int],
    generator: torch.Generator,
) -> Tensor:
    """Draw one label for each example, uniformly over the pool.

    Args:
        true: The examples' labels, int64 [N], on the CPU.
        num_classes: Width of the model's output.
        pool: ``other`` leaves out the example's own label, ``retain_classes`` the forgotten
            classes as well, ``all`` leaves out none.
        forget_classes: Classes forgotten whole; may be empty.
        generator: On the CPU.

    Returns:
        int64 [N].
    """
    allowed = torch.ones(len(true), num_classes)
    if pool == "retain_classes" and forget_classes:
        allowed[:, list(forget_classes)] = 0
    if pool != "all":
        allowed[torch.arange(len(true)), true] = 0
    return torch.multinomial(allowed, 1, generator=generator).squeeze(1)


def relabelled_pass(
    wrong: E, retain: E | None, order: PassOrder, batch_size: int
) -> Iterator[Batch]:
    """Yield one training pass over relabelled examples and the retain set.

    Args:
        wrong: F under its new labels.
        retain: R, or None to train on F alone.
        order: Batches that hold both, or all of F before R.
        batch_size: Examples per batch.
    """
    if retain is None:
        return wrong.epochs(1, batch_size)
    if order == "mixed":
        return (wrong + retain).epochs(1, batch_size)
    return chain(wrong.epochs(1, batch_size), retain.epochs(1, batch_size))


def train_relabelled(
    model: nn.Module,
    ctx: Context,
    optimizer: Stepper,
    *,
    epochs: int,
    batch_size: int,
    relabel: Relabel,
    pool: Pool,
    order: PassOrder,
    retain_fraction: float,
    batch_norm: BatchNormMode,
    advice: str,
) -> None:
    """Minimise cross-entropy on F under wrong labels and on R under true ones, in place.

    Args:
        model: The model.
        ctx: With F and R.
        optimizer: Of the weights that may move.
        epochs: Passes over F and R.
        batch_size: Examples per step.
        relabel: Draw the wrong labels once, or again for each epoch.
        pool: Labels to draw from, as for `wrong_labels`.
        order: As for `relabelled_pass`.
        retain_fraction: Share of R to train on, drawn once. With 0 BatchNorm keeps its running
            statistics: mislabelled F alone would set them.
        batch_norm: What BatchNorm does with the batches' statistics otherwise.
        advice: What to do about a loss that is not finite.
    """
    keep = round(retain_fraction * len(ctx.retain)) if retain_fraction else 0
    retain = ctx.retain.subset(keep, ctx.rng) if keep else None

    def relabelled() -> Split:
        drawn = wrong_labels(ctx.forget.labels, ctx.num_classes, pool, ctx.forget_classes, ctx.rng)
        return ctx.forget.relabelled(drawn)

    wrong = relabelled()
    with training(model, batch_norm if retain is not None else "eval"):
        for epoch in range(epochs):
            if epoch and relabel == "each_epoch":
                wrong = relabelled()
            for x, y in relabelled_pass(wrong, retain, order, batch_size):
                loss = cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                ctx.log(loss=loss)
            check_finite(loss, advice)
