"""Relearning: how many steps bring the forgotten knowledge back?

A copy is fine-tuned on F and as many examples of R with Adam, and looked at before every step.
A model that never knew needs about as long as the retrained one; one that only hides what it
knows is back at once.

The attacker holds the weights and may choose how to write them down. Every weight is measured in
units of its channels' activity (``canonical.py``), so that no rescaling of layers or channels
makes a step larger or smaller. The model is trained as it answers, in evaluation mode: BatchNorm's
statistics stay fixed, and dropout is off. Where statistics estimated again on R bring the loss on
the relearned examples down to less than half, the attacker starts from those.

With a fresh head the classes are balanced, the features standardised on retained examples, and
the head begins at zero. A second condition holds: a head that knows nothing yet would otherwise
call everything forgotten after two steps, half of the examples being so.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unlearn_bench.core.memory import halving
from unlearn_bench.core.seeds import derive, seed_everything
from unlearn_bench.data.batches import iterate
from unlearn_bench.data.datasets import Dataset, Part
from unlearn_bench.measure.outputs import Relearned
from unlearn_bench.measure.probes import batch_norm, canonical
from unlearn_bench.suite.spec import RELEARN_STEPS

# In units of the weights' activity.
RATE = 1e-3
BATCH_SIZE = 64
FIRST_PIECE = 16
# Accuracy on TF is back when it is within this of the original's.
WITHIN = 0.05
# Examples that units are measured on; that features are standardised and statistics estimated on.
MEASURED_ON, STANDARDISED_ON = 128, 256
# Statistics estimated again must bring the loss below this share of what it was.
WORTH_RENEWING = 0.5


def relearn(
    model: nn.Module,
    dataset: Dataset,
    trained: Tensor,
    watched: Tensor,
    *,
    retained: Tensor,
    target: float,
    seed: int,
    device: torch.device,
    renewed: nn.Module | None = None,
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
        retained: Examples of R, into the training part, for statistics and standardised features.
        target: Accuracy on them to be reached.
        seed: Determines the order of batches.
        device: Where the model is.
        renewed: What :func:`renew` makes of the model, where that is known already.
        fresh_head: Whether to begin with a new classifier, so that only what the features still
            know counts.
        others: Examples of TR, into the test part, of which at most :data:`WITHIN` may be
            taken for a forgotten class; None asks for nothing.
        forget_classes: Those classes.
        cap: Steps at most.
    """
    sample = _held(dataset, _spread(trained, MEASURED_ON), device, dataset.train)
    if renewed is None:
        renewed = renew(model, dataset, retained, device)
    student = _start(model, renewed, sample).requires_grad_(True)
    seed_everything(derive(seed, "head"))
    if fresh_head:
        _renew_head(student, dataset, trained, retained, device)

    spared = others if forget_classes else None
    back = _Recovery(dataset, watched, spared, forget_classes, target, device)
    if back.reached_by(student):
        return Relearned(0, False)
    optimizer = canonical.AdamInUnits(student, canonical.units(student, sample[0]), RATE)
    for step, (x, y) in enumerate(_batches(dataset, trained, seed, device)):
        if step and back.reached_by(student):
            return Relearned(step, False)
        if step == cap:
            break
        optimizer.zero_grad()
        with torch.enable_grad():
            cross_entropy(student(x), y).backward()
        optimizer.step()
    return Relearned(cap, True)


def renew(
    model: nn.Module, dataset: Dataset, retained: Tensor, device: torch.device
) -> nn.Module | None:
    """Return a copy with statistics estimated again on examples of R; None without BatchNorm."""
    if not batch_norm.has_running_statistics(model):
        return None
    return batch_norm.reestimated(model, dataset, _spread(retained, STANDARDISED_ON), device)


@torch.no_grad()
def _start(model: nn.Module, renewed: nn.Module | None, sample: tuple[Tensor, Tensor]) -> nn.Module:
    """Return a copy of what an attacker starts from, in eval mode."""
    start = model
    if renewed is not None:
        x, y = sample
        before, after = (float(cross_entropy(choice(x), y)) for choice in (model, renewed))
        start = renewed if after < WORTH_RENEWING * before else model
    return copy.deepcopy(start).eval()


def _renew_head(
    model: nn.Module, dataset: Dataset, trained: Tensor, retained: Tensor, device: torch.device
) -> None:
    """Replace the classifier, in place, by one that knows nothing.

    A classifier that is not a linear layer is drawn at random, as timm does.
    """
    model.reset_classifier(dataset.num_classes)  # type: ignore[operator]
    model.to(device)
    given = model.get_classifier()  # type: ignore[operator]
    heads = given if isinstance(given, tuple | list) else [given]
    names = {module: name for name, module in model.named_modules()}
    for head in heads:
        if not isinstance(head, nn.Linear):
            continue
        everything, known = (
            _inputs_of(head, model, dataset, chosen, device)
            for chosen in (_spread(trained, STANDARDISED_ON), _spread(retained, STANDARDISED_ON))
        )
        standardise = canonical.Standardiser.of(known, everything)
        fresh = canonical.StandardisedHead(standardise, head.out_features)
        model.set_submodule(names[head], fresh)


@torch.no_grad()
def _inputs_of(
    layer: nn.Module, model: nn.Module, dataset: Dataset, chosen: Tensor, device: torch.device
) -> Tensor:
    """Return what a layer reads on some training examples, [N, D]."""

    def rows_in(batch_size: int) -> Tensor:
        read: list[Tensor] = []
        handle = layer.register_forward_hook(lambda _, given, __: read.append(given[0]))
        try:
            for x, _ in iterate(
                dataset.train,
                chosen,
                batch_size=batch_size,
                device=device,
                mean=dataset.mean,
                std=dataset.std,
            ):
                model(x)
        finally:
            handle.remove()
        return torch.cat([rows.flatten(0, -2) for rows in read])

    return halving("relearning", MEASURED_ON, rows_in)


def _spread(members: Tensor, most: int) -> Tensor:
    """Return at most ``most`` of some examples, evenly spread over their order."""
    count = min(most, len(members))
    return members[torch.linspace(0, len(members) - 1, count).long()]


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
        self._x, self._y = _held(dataset, watched, device, dataset.test)
        self._others = None if others is None else _held(dataset, others, device, dataset.test)[0]
        self._forgotten = torch.tensor(forget_classes, device=device)
        self._target, self._first = target, FIRST_PIECE

    @torch.no_grad()
    def reached_by(self, model: nn.Module) -> bool:
        """Ask a model that is in eval mode."""
        if not reaches(self._right(model), len(self._x), self._target):
            return False
        if self._others is None:
            return True
        spared = (
            ~torch.isin(model(x).argmax(1), self._forgotten) for (x,) in pieces_of(self._others)
        )
        return reaches(spared, len(self._others), 1 - WITHIN)

    def _right(self, model: nn.Module) -> Iterator[Tensor]:
        """Yield by pieces which watched examples are classified right."""
        pieces = pieces_of(self._x, self._y, first=self._first)
        self._first = 0
        for x, y in pieces:
            # The next look will ask about as many, and takes less time for them in one piece.
            self._first += len(x)
            yield model(x).argmax(1) == y


def _held(
    dataset: Dataset, indices: Tensor, device: torch.device, part: Part
) -> tuple[Tensor, Tensor]:
    """Return examples of a part as one batch."""
    return next(
        iterate(
            part,
            indices,
            batch_size=len(indices),
            device=device,
            mean=dataset.mean,
            std=dataset.std,
        )
    )


def pieces_of(*tensors: Tensor, first: int = FIRST_PIECE) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors into pieces of 16, 16, 32, 64, ...: the first few mostly tell already.

    Args:
        tensors: Of one length.
        first: Size of the first piece, where that is known better.
    """
    start, end = 0, first
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
        yield from iterate(
            dataset.train,
            trained,
            batch_size=BATCH_SIZE,
            device=device,
            mean=dataset.mean,
            std=dataset.std,
            generator=generator,
        )
