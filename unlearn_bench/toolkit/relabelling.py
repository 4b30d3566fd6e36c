"""Wrong labels for forgotten examples, and passes over them together with the retain set."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor

Pool = Literal["retain_classes", "other", "all"]
PassOrder = Literal["mixed", "sequential"]
Batch = tuple[Tensor, Tensor]


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
