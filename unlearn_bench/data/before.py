"""What earlier requests of a stream took: for later ones it is gone, for the harness it is not."""

from dataclasses import dataclass

from torch import Tensor

from unlearn_bench.core.seeds import derive


@dataclass(frozen=True)
class Gone:
    """What an earlier request took: its sets, as in :class:`~unlearn_bench.data.splits.Indices`."""

    forget: Tensor
    test_forget: Tensor
    forget_classes: tuple[int, ...]


@dataclass(frozen=True)
class Before:
    """What went before a request that is one of several.

    Attributes:
        gone: What earlier requests took, into the training part, [M].
        turn: Number of the request, from 1.
        named: Examples that any of the requests names, into the training part: none of them is
            held out.
        test_gone: Test examples like those that earlier requests took, bool [N]: of a class, a
            fine class or a group that is forgotten as such.
    """

    gone: Tensor
    turn: int
    named: Tensor
    test_gone: Tensor

    def seed(self, seed: int) -> int:
        """Return the seed of the request's own draws, from that of the run.

        The first request is the scenario of its name, to the last example.
        """
        return derive(seed, "request", self.turn) if self.turn > 1 else seed
