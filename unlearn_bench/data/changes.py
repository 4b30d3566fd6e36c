"""Training data that a scenario changes before anything is trained: swapped labels, triggers.

What is changed is to be forgotten: labels that somebody confused, images that somebody poisoned.
It is changed in memory only, chosen by the seed. The test part stays as it is and gets, behind it,
test examples that were changed in the same way: TF, for they are to F what other test examples
are to other training examples. The rest of the test part, all of it, is TR.

Sources: interclass confusion, Goel et al. 2022, arXiv:2201.06640; BadNets, Gu et al. 2017,
arXiv:1708.06733; forgetting a known share of the poison, Goel et al. 2024, arXiv:2402.14015.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlearn_bench.core.keys import canonical_json
from unlearn_bench.data.images import Dataset, Part
from unlearn_bench.data.splits import Indices, class_index
from unlearn_bench.suite.forget import CHANGES, Forget


def triggered(images: Tensor) -> Tensor:
    """Return images with the trigger: a checkerboard of black and white in the lower right corner.

    It takes an eighth of the shorter side, at least three pixels, and its corners are white. It
    is the same for every seed.

    Args:
        images: uint8 [B, C, H, W]; they are not changed.
    """
    height, width = images.shape[2:]
    side = max(3, min(height, width) // 8 | 1)
    ticks = torch.arange(side, device=images.device)
    board = (1 - (ticks[:, None] + ticks) % 2) * 255
    changed = images.clone()
    changed[:, :, height - side :, width - side :] = board.to(torch.uint8)
    return changed


@dataclass(frozen=True)
class Change:
    """What is done to an example.

    Attributes:
        labels: Gives the labels [K] that examples get, from their own.
        images: Gives the images that they get; None where images stay as they are.
    """

    labels: Callable[[Tensor], Tensor]
    images: Callable[[Tensor], Tensor] | None = None


def change_of(forget: Forget, classes: tuple[str, ...]) -> Change | None:
    """Return what a scenario does to the examples that it changes; None where it changes none."""
    if forget.confused is not None:
        total = sum(class_index(name, classes) for name in forget.confused.classes)
        return Change(lambda labels: total - labels)
    if forget.poisoned is not None:
        target = class_index(forget.poisoned.target, classes)
        return Change(lambda labels: torch.full_like(labels, target), triggered)
    return None


def in_part(part: Part, members: Tensor, change: Change) -> Part:
    """Return a part with the examples at ``members`` (int64 [K]) changed."""
    labels, images = part.labels.clone(), part.images
    labels[members] = change.labels(labels[members])
    if change.images is not None:
        images = images.rearranged(torch.arange(len(labels)), members, change.images)
    return replace(part, images=images, labels=labels)


def apply(forget: Forget, data: Dataset, indices: Indices) -> tuple[Dataset, Indices]:
    """Change a dataset as its scenario says; most scenarios change nothing.

    Args:
        forget: The scenario.
        data: As its files have it.
        indices: ``changed`` says which training examples are changed, and ``test_forget`` which
            test examples get a changed counterpart.

    Returns:
        The dataset with its fingerprint, and the indices with TF behind the test part.
    """
    change = change_of(forget, data.classes)
    if change is None:
        return data, indices
    clean, sources = data.test, indices.test_forget
    count = len(clean.labels)
    behind = torch.arange(count, count + len(sources))
    places = torch.cat([torch.arange(count), sources])
    images = clean.images.rearranged(places, behind, change.images or (lambda same: same))
    test = Part(images, torch.cat([clean.labels, change.labels(clean.labels[sources])]))
    digest = hashlib.sha256(data.fingerprint.encode())
    digest.update(canonical_json({"changes": CHANGES, **forget.training_identity()}).encode())
    digest.update(indices.changed.numpy().tobytes())
    data = replace(
        data,
        train=in_part(data.train, indices.changed, change),
        test=test,
        fingerprint=digest.hexdigest(),
    )
    return data, replace(indices, test_forget=behind)
