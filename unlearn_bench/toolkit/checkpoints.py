"""What a method finds of an original that was trained in shards: where each is to be restarted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Restart:
    """A shard that held an example which is to be forgotten.

    Attributes:
        shard: Which member of the ensemble, from 0.
        slice: The first slice that held one, from 0.
        weights: State of the member before it was trained on that slice, on the run's device.
    """

    shard: int
    slice: int
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoints:
    """The shards that a request affects, ascending; all others keep their weights.

    Attributes:
        restarts: One per affected shard.
        seed: Of the original's training, which also divided the data.
    """

    restarts: tuple[Restart, ...]
    seed: int

    def __iter__(self) -> Iterator[Restart]:
        """Yield the restarts."""
        return iter(self.restarts)

    def __len__(self) -> int:
        """Return how many shards are affected."""
        return len(self.restarts)
