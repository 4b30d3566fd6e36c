"""Train an ensemble in shards and slices: the original of exact unlearning by restarts.

Who belongs to which slice follows from the training's seed and an example's index alone, and what a
stage draws from the seed, the shard and the slice: training without some examples differs from
training with them in no other way, and nothing before the first slice that held one differs at all.

Source: Bourtoule et al. 2021, arXiv:1912.03817.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.core.seeds import derive
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.sharding import Sharding
from unlearn_bench.toolkit.context import Split, contents
from unlearn_bench.training.ensemble import Ensemble
from unlearn_bench.training.loop import Step, train

# A slice of one example would leave BatchNorm nothing to normalise by.
SMALLEST_SLICE = 2


def division(sharding: Sharding, seed: int, count: int) -> Tensor:
    """Return shard and slice of every training example as ``shard * slices + slice``, int64 [N].

    Args:
        sharding: How many of each.
        seed: Of the training.
        count: Length of the training part, N, whatever part of it is trained on.
    """
    generator = torch.Generator().manual_seed(derive(seed, "division"))
    cells = torch.empty(count, dtype=torch.long)
    order = torch.randperm(count, generator=generator)
    cells[order] = torch.arange(count) % (sharding.shards * sharding.slices)
    return cells


def first_hits(sharding: Sharding, cells: Tensor, gone: Tensor) -> dict[int, int]:
    """Return the first slice that held one of the examples ``gone``, by affected shard."""
    found: dict[int, int] = {}
    for cell in cells[gone].unique().tolist():  # ascending
        found.setdefault(cell // sharding.slices, cell % sharding.slices)
    return found


def check_division(sharding: Sharding, cells: Tensor, members: Tensor) -> None:
    """Refuse shards and slices that are too many for the data.

    Args:
        sharding: How many of each.
        cells: From :func:`division`.
        members: Who is trained on, into the training part.

    Raises:
        ParameterError: With what is left for a slice, and what to do.
    """
    fewest = int(cells[members].bincount(minlength=sharding.shards * sharding.slices).min())
    if fewest < SMALLEST_SLICE:
        raise ParameterError(
            f"{sharding.text} leave a slice with {fewest} of {len(members)} examples, and it needs "
            f"at least {SMALLEST_SLICE}: choose fewer shards or slices"
        )


def train_stage(
    model: nn.Module,
    split: Split,
    recipe: Recipe,
    *,
    sharding: Sharding,
    cells: Tensor,
    shard: int,
    stage: int,
    seed: int,
    step: Step,
    losses: Callable[[Tensor], None] | None = None,
) -> None:
    """Train one member on its slices up to ``stage``, in place, by the recipe with fewer epochs.

    Args:
        model: As the stage before left it; of stage 0 with fresh weights.
        split: Whatever of the shards is to be trained on; others of it are left out.
        recipe: Each stage goes through its whole schedule, with an optimiser of its own.
        sharding: Gives the epochs.
        cells: From :func:`division`.
        shard: Which member it is.
        stage: The last slice that takes part, from 0.
        seed: Of the training; what the stage draws is derived from it.
        step: Notified of each epoch.
        losses: As of :func:`~unlearn_bench.training.loop.train`.
    """
    own = cells[split.indices]
    first = shard * sharding.slices
    positions = ((own >= first) & (own <= first + stage)).nonzero().squeeze(1)
    if len(positions) < SMALLEST_SLICE:  # the request took all that there was
        return
    # In the order of their indices, whatever the order of the split.
    positions = positions[split.indices[positions].argsort()]
    drawn = derive(seed, "shard", shard, "slice", stage)
    epochs = sharding.epochs(recipe.epochs)[stage]
    train(
        model,
        split.read_by(drawn, positions),
        recipe.model_copy(update={"epochs": epochs}),
        seed=drawn,
        step=lambda text: step(f"{named(sharding, shard, stage)}: {text}"),
        losses=losses,
    )


def train_sharded(
    model: Ensemble,
    split: Split,
    recipe: Recipe,
    *,
    sharding: Sharding,
    seed: int,
    step: Step,
    losses: Callable[[Tensor], None] | None = None,
    before: Callable[[int, int, nn.Module], None] = lambda shard, stage, member: None,
) -> None:
    """Train every member of an ensemble through all of its stages, in place.

    Args:
        model: On the split's device.
        split: Divided among the members.
        recipe: For its epochs in all.
        sharding: How the split is divided.
        seed: Determines the division and all else that is drawn.
        step: Notified of each epoch.
        losses: As of :func:`~unlearn_bench.training.loop.train`.
        before: Receives shard, stage and member before each stage: a checkpoint.
    """
    cells = division(sharding, seed, len(contents(split)[0].train.labels))
    for shard, member in enumerate(model.members):
        for stage in range(sharding.slices):
            before(shard, stage, member)
            train_stage(
                member,
                split,
                recipe,
                sharding=sharding,
                cells=cells,
                shard=shard,
                stage=stage,
                seed=seed,
                step=step,
                losses=losses,
            )
    model.eval()


def named(sharding: Sharding, shard: int, stage: int) -> str:
    """Name a stage for who watches: ``shard 2/3, slice 1/3``."""
    return f"shard {shard + 1}/{sharding.shards}, slice {stage + 1}/{sharding.slices}"
