"""SISA: restart each shard that held forgotten data at its last checkpoint without them.

A training-time protocol (sharded, isolated, sliced, aggregated). The original is an ensemble: the
data are divided into S shards at random, and the model of each is trained on its first slice, then
on its first two, and so on, by cross-entropy, with a checkpoint before each of the R stages. The
members answer by the mean of their softmax. To forget F, every shard that holds an example of it
goes back to the checkpoint before the first slice that does, and goes through the stages from
there on without F. All other shards keep their weights.

Of a stream, each request leaves its new checkpoints in ``ctx.state``: a later request
that restarts the same shard from a later slice goes on from those, not from the original's.

This is exact: the result has the weights that training the ensemble without F, with the same seeds
and the same division, would have given. A request costs the stages that are repeated, little for a
few examples, and everything for a class, which is in every slice.

The ensemble is another model than other methods start from, so it is compared with retraining of
the ensemble, in rows of its own. A stage has 2 E / (R + 1) of the recipe's E epochs, so that the
ensemble's training costs as much as one model's. Beside the paper: each stage has an optimiser and
a schedule of its own, where the official code keeps one learning rate (ours); members answer by
the mean of their softmax, where the paper lets them vote (official code has both).

Source: Bourtoule et al., IEEE S&P 2021, arXiv:1912.03817; particulars as a description of the
official code has them.
"""

from typing import Annotated

from torch import Tensor, nn

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    PositiveInt,
    Restart,
    State,
    Tunable,
    method,
)


@method(
    "sisa",
    access=Access.RETAIN | Access.CHECKPOINTS,
    source="arXiv:1912.03817",
    family="exact",
    year=2021,
    keeps_state=True,
    check=Check(probes={"shards": 2, "slices": 2}),
)
def sisa(
    model: nn.Module,
    ctx: Context,
    *,
    shards: Annotated[PositiveInt, Tunable(tune=False)] = 3,
    slices: Annotated[PositiveInt, Tunable(tune=False)] = 3,
) -> nn.Module:
    """Restart affected members and train them on what is left of their slices.

    Args:
        shards: Members of the ensemble, each with a part of the data of its own. More shards make
            a request cheaper and the ensemble less accurate. Ours: few, for small data.
        slices: Pieces in which a shard is learned, one after the other, with a checkpoint before
            each. More slices save more of a late example's request. Ours: likewise.
    """
    for restart in ctx.checkpoints:
        member = model.get_submodule(f"members.{restart.shard}")
        member.load_state_dict(_newest(ctx.state, restart))
        for number in range(restart.slice, slices):
            if number > restart.slice:
                for name, tensor in member.state_dict().items():
                    ctx.state[_key(restart.shard, number, name)] = tensor.cpu().clone()
            ctx.train_slice(member, restart.shard, number)
        ctx.log(shard=restart.shard, slice=restart.slice, stages=slices - restart.slice)
    ctx.log(affected=len(ctx.checkpoints) / shards)
    return model


def _newest(state: State, restart: Restart) -> dict[str, Tensor]:
    """Return a member before a slice, as the last request that repeated that left it."""
    found = {name: state.get(_key(restart.shard, restart.slice, name)) for name in restart.weights}
    return {
        name: tensor if isinstance(tensor := found[name], Tensor) else weights
        for name, weights in restart.weights.items()
    }


def _key(shard: int, number: int, name: str) -> str:
    return f"{shard}/{number}/{name}"
