"""Relearning: how many steps bring the forgotten knowledge back?

A copy is fine-tuned on F and as many examples of R with Adam, and looked at before every step.
A model that never knew needs about as long as the retrained one; one that only hides what it
knows is back at once.

With a fresh head the classes are balanced and a second condition holds: a head that knows nothing
yet would otherwise call everything forgotten after two steps, half of the examples being so.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from unlearn_bench.core.seeds import derive, seed_everything
from unlearn_bench.data.batches import iterate
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.measure.outputs import Relearned
from unlearn_bench.suite.spec import RELEARN_STEPS

LEARNING_RATE = 1e-3
BATCH_SIZE = 64
FIRST_PIECE = 16
# Accuracy on TF is back when it is within this of the original's.
WITHIN = 0.05


def relearn(
    model: nn.Module,
    dataset: Dataset,
    trained: Tensor,
    watched: Tensor,
    *,
    target: float,
    seed: int,
    device: torch.device,
    fresh_head: bool = False,
    others: Tensor | None = None,
    forget_classes: tuple[int, ...] = (),
    cap: int = RELEARN_STEPS,
) -> Relearned:
    """Fine-tune a copy until its accuracy on watched test examples reaches ``target``.

    Args:
        model: Left as it is.
        dataset: Where examples come from.
        trained: F and examples of R, into the training part.
        watched: Examples of TF, into the test part.
        target: Accuracy on them to be reached.
        seed: Determines the order of batches and the fresh head.
        device: Where the model is.
        fresh_head: Whether to begin with a newly initialised classifier, so that only what the
            features still know counts.
        others: Examples of TR, into the test part, of which at most :data:`WITHIN` may be
            taken for a forgotten class; None asks for nothing.
        forget_classes: Those classes.
        cap: Steps at most.
    """
    student = copy.deepcopy(model).requires_grad_(True)
    seed_everything(derive(seed, "head"))
    if fresh_head:
        student.reset_classifier(dataset.num_classes)  # type: ignore[operator]
        student.to(device)

    spared = others if forget_classes else None
    back = _Recovery(dataset, watched, spared, forget_classes, target, device)
    # Fused, one call instead of one per tensor: a sixth of a small network's step.
    optimizer = Adam(student.parameters(), lr=LEARNING_RATE, fused=True)
    for step, (x, y) in enumerate(_batches(dataset, trained, seed, device)):
        if back.reached_by(student):
            return Relearned(step, False)
        if step == cap:
            break
        student.train()
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            cross_entropy(student(x), y).backward()
        optimizer.step()
    return Relearned(cap, True)


class _Recovery:
    """Whether a model is back at the target: the question asked before every step."""

    def __init__(
        self,
        dataset: Dataset,
        watched: Tensor,
        others: Tensor | None,
        forget_classes: tuple[int, ...],
        target: float,
        device: torch.device,
    ) -> None:
        self._x, self._y = _held(dataset, watched, device)
        self._others = None if others is None else _held(dataset, others, device)[0]
        self._forgotten = torch.tensor(forget_classes, device=device)
        self._target = target

    @torch.no_grad()
    def reached_by(self, model: nn.Module) -> bool:
        """Ask a model, which is left in eval mode."""
        model.eval()
        right = (model(x).argmax(1) == y for x, y in pieces_of(self._x, self._y))
        if not reaches(right, len(self._x), self._target):
            return False
        if self._others is None:
            return True
        spared = (
            ~torch.isin(model(x).argmax(1), self._forgotten) for (x,) in pieces_of(self._others)
        )
        return reaches(spared, len(self._others), 1 - WITHIN)


def _held(dataset: Dataset, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return test examples as one batch."""
    return next(
        iterate(
            dataset.test,
            indices,
            batch_size=len(indices),
            device=device,
            mean=dataset.mean,
            std=dataset.std,
        )
    )


def pieces_of(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors into pieces of 16, 16, 32, 64, ...: the first few mostly tell already."""
    start, end = 0, FIRST_PIECE
    while start < len(tensors[0]):
        yield tuple(tensor[start:end] for tensor in tensors)
        start, end = end, 2 * end


def reaches(pieces: Iterable[Tensor], count: int, share: float) -> bool:
    """Whether at least ``share`` of ``count`` answers are true; asks only until that is clear.

    This is asked before every step, and would cost more than the steps.
    """
    true = asked = 0
    for piece in pieces:
        true, asked = true + int(piece.sum()), asked + len(piece)
        if true / count >= share:
            return True
        if (true + count - asked) / count < share:
            return False
    return False


def _batches(
    dataset: Dataset, trained: Tensor, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches without end, in an order that every model shares."""
    for number in itertools.count():
        generator = torch.Generator().manual_seed(derive(seed, "relearn", number))
        for x, y in iterate(
            dataset.train,
            trained,
            batch_size=BATCH_SIZE,
            device=device,
            mean=dataset.mean,
            std=dataset.std,
            generator=generator,
        ):
            if len(x) > 1 or len(trained) == 1:  # BatchNorm cannot train on a single example
                yield x, y
