"""Relearning: how many steps bring the forgotten knowledge back?

A copy is fine-tuned on F and as many examples of R with Adam, and looked at before every step.
A model that never knew needs about as long as the retrained one; one that only hides what it
knows is back at once.
"""

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from unlearn_bench.data.batches import iterate
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.outputs import Relearned
from unlearn_bench.seeds import derive, seed_everything

CAP = 500
LEARNING_RATE = 1e-3
BATCH_SIZE = 64
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
    fresh_head: bool,
    cap: int = CAP,
) -> Relearned:
    """Fine-tune a copy until its accuracy on watched test examples reaches ``target``.

    Args:
        model: Left as it is.
        dataset: Where examples come from.
        trained: F and as many of R, into the training part.
        watched: Examples of TF, into the test part.
        target: Accuracy on them to be reached.
        seed: Determines the order of batches and the fresh head.
        device: Where the model is.
        fresh_head: Whether to begin with a newly initialised classifier, so that only what the
            features still know counts.
        cap: Steps at most.
    """
    student = copy.deepcopy(model).requires_grad_(True)
    seed_everything(derive(seed, "head"))
    if fresh_head:
        student.reset_classifier(dataset.num_classes)  # type: ignore[operator]
        student.to(device)
    test = [*iterate(dataset.test, watched, batch_size=len(watched), device=device,
                     mean=dataset.mean, std=dataset.std)]  # fmt: skip
    optimizer = Adam(student.parameters(), lr=LEARNING_RATE)
    for step, (x, y) in enumerate(_batches(dataset, trained, seed, device)):
        if _accuracy(student, test) >= target:
            return Relearned(step, False)
        if step == cap:
            break
        student.train()
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            cross_entropy(student(x), y).backward()
        optimizer.step()
    return Relearned(cap, True)


def _batches(
    dataset: Dataset, trained: Tensor, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches without end, in an order that every model shares."""
    for number in itertools.count():
        generator = torch.Generator().manual_seed(derive(seed, "relearn", number))
        for x, y in iterate(dataset.train, trained, batch_size=BATCH_SIZE, device=device,
                            mean=dataset.mean, std=dataset.std, generator=generator):  # fmt: skip
            if len(x) > 1 or len(trained) == 1:  # BatchNorm cannot train on a single example
                yield x, y


@torch.no_grad()
def _accuracy(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    return right / sum(len(y) for _, y in batches)
