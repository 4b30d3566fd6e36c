"""What is drawn of a dataset: the same examples for the same seed and purpose."""

import torch
from torch import Tensor

from unlearn_bench.core.seeds import derive


def generator_of(seed: int, purpose: str) -> torch.Generator:
    """Return a generator on the CPU that depends on both."""
    return torch.Generator().manual_seed(derive(seed, purpose))


def hold_out(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Return the indices of a share ``fraction`` of each class, sorted.

    Args:
        labels: Class of every example, [N].
        fraction: Share to draw, in (0, 1); every class gives at least one example.
        seed: Determines the draw.
    """
    generator = generator_of(seed, "validation")
    chosen = []
    for label in labels.unique(sorted=True):
        members = (labels == label).nonzero().squeeze(1)
        count = max(1, round(fraction * len(members)))
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(chosen).sort().values


def draw_share(pool: Tensor, share: float, seed: int, purpose: str = "forget") -> Tensor:
    """Draw a share of the examples that ``pool`` marks, bool [N]."""
    members = pool.nonzero().squeeze(1)
    order = torch.randperm(len(members), generator=generator_of(seed, purpose))
    drawn = torch.zeros_like(pool)
    drawn[members[order[: round(share * len(members))]]] = True
    return drawn


def class_matched(forget_labels: Tensor, test_labels: Tensor, seed: int) -> Tensor:
    """Draw as many test examples as possible with the class histogram of ``forget_labels``."""
    width = int(max(forget_labels.max(), test_labels.max())) + 1
    wanted = forget_labels.bincount(minlength=width).double()
    there = test_labels.bincount(minlength=width).double()
    present = wanted > 0
    scale = min(1.0, float((there[present] / wanted[present]).min()))
    generator = generator_of(seed, "test_forget")
    chosen = []
    for label in present.nonzero().squeeze(1):
        members = (test_labels == label).nonzero().squeeze(1)
        count = min(len(members), max(1, round(scale * float(wanted[label]))))
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(chosen).sort().values
