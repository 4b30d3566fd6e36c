"""Sharded training: an ensemble whose members learn disjoint shards, each slice by slice.

Every shard is divided into R slices. Its model is trained on the first slice, then on the first
two, and so on, with a checkpoint before each stage: an example of slice k costs the stages from k
on when it is forgotten. A stage has ``2 E / (R + 1)`` of the recipe's E epochs, so that all of them
together read as many examples as training once for E epochs.

Source: Bourtoule et al. 2021, arXiv:1912.03817.
"""

from typing import Annotated

from pydantic import Field

from unlearn_bench.suite.forget import Spec

MOST_SHARDS, MOST_SLICES = 1_000, 1_000


class Sharding(Spec):
    """How a sharded original is divided.

    Attributes:
        shards: Members of the ensemble, each trained on a part of the data of its own.
        slices: Pieces of a shard, added to its training one after the other.
    """

    shards: Annotated[int, Field(ge=1, le=MOST_SHARDS)]
    slices: Annotated[int, Field(ge=1, le=MOST_SLICES)]

    @property
    def text(self) -> str:
        """In words, such as ``3 shards of 2 slices``."""
        shards = f"{self.shards} shard{'s' if self.shards > 1 else ''}"
        return f"{shards} of {self.slices} slice{'s' if self.slices > 1 else ''}"

    def epochs(self, total: int) -> tuple[int, ...]:
        """Return the epochs of each stage, at least one, where the recipe has ``total``."""
        ends = [2 * total * done // (self.slices + 1) for done in range(self.slices + 1)]
        return tuple(max(1, ends[k + 1] - ends[k]) for k in range(self.slices))


def companion(name: str, method: str) -> str:
    """Name a row that a method's own ensemble is compared with, such as ``retrain of sisa``."""
    return f"{name} of {method}"
