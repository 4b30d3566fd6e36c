"""How far the training on an example, beyond that on others, makes a model sure of its label."""

import torch
from torch import Tensor

from unlearn_bench.toolkit.context import Context, Split
from unlearn_bench.toolkit.modes import evaluating


def heldout_memorisation(ctx: Context) -> Tensor:
    """Return for each example of F how far it is memorised, in [-1, 1], [n_F] on the CPU.

    F and R together are divided into two halves, class by class, and a model is trained on each by
    the suite's recipe. One of the two has seen an example (x, y), the other has not:
    ``mem = p_seen(y | x) - p_unseen(y | x)``. This takes as long as one retraining, and counts as
    precomputation of the method that asks for it.

    Source: the quantity of Feldman 2020, arXiv:1906.05271, estimated by a single pair of models.
    """
    with ctx.precompute():
        whole = ctx.forget + ctx.retain
        found = torch.zeros(len(ctx.forget))
        for half in halves_by_class(whole.labels, ctx.rng):
            model = ctx.train(ctx.new_model(), whole.at(half))
            seen = torch.isin(torch.arange(len(ctx.forget)), half)
            sure = confidences(model, ctx.forget)
            found += torch.where(seen, sure, -sure)
    return found


def halves_by_class(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Divide examples at random into two halves, each with half of every class.

    Args:
        labels: Class of each example, [N].
        generator: Draws the division.

    Returns:
        Positions of each half, sorted.
    """
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    return by_class[0::2].sort().values, by_class[1::2].sort().values


def confidences(model: torch.nn.Module, split: Split) -> Tensor:
    """Return the probability of each example's label, [N], on the CPU, the model in eval mode."""
    with evaluating(model):
        found = [model(x).softmax(1).gather(1, y[:, None]) for x, y in split.batches()]
    return torch.cat(found).squeeze(1).float().cpu()
