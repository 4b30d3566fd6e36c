"""What a rule is: per-example gradients of one operation, and the sum of their squares.

A :class:`Rule` serves one operation of the graph, named by its autograd node. From the
gradient g of the operation's output and the tensors that autograd saved for its own backward
pass, it yields the gradient of each parameter-like argument for every example apart. Rules
that know a shortcut to the sum of squares override :meth:`Rule.add`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from unlearn_bench.fisher.layout import Layout
from unlearn_bench.fisher.outer import BLOCK

HALVES = (torch.float16, torch.bfloat16)


def widened(t: Tensor) -> Tensor:
    """``t`` in float32 if it is of a half type.

    Squares of float16 vanish below 2e-4, and a sum in bfloat16 stands still once it is some
    hundred times what is added: so halves are read, but nothing is squared or summed in them.
    """
    return t.float() if t.dtype in HALVES else t


class UnsupportedError(Exception):
    """The rule does not cover this use of its operation; the exact fallback must."""


class Rule:
    """Squares of one operation's per-example gradients, summed over passes.

    Attributes:
        routes: Slot to the name that reports give to the way it is computed.
    """

    def __init__(
        self, node: Node, shapes: dict[int, torch.Size], layout: Layout, examples: int, passes: int
    ) -> None:
        """Prepare for one batch.

        Args:
            node: The operation.
            shapes: Slot to the shape of its argument, for the slots that are wanted.
            layout: Where the examples are in the operation's output.
            examples: N.
            passes: How many times :meth:`add` is going to be called.

        Raises:
            UnsupportedError: If this use is beyond the rule.
        """
        # Any: what autograd saved are attributes that the stubs do not know.
        self.node: Any = node
        self.shapes, self.layout = shapes, layout
        self.examples, self.passes = examples, passes
        self.sums: dict[int, Tensor] = {}
        self.output_shape = torch.Size(node._input_metadata[0].shape)
        self.routes = dict.fromkeys(shapes, self.prepare())

    def prepare(self) -> str:
        """Check that the use is covered and return the route's name."""
        raise NotImplementedError

    def saved(self, name: str) -> Tensor:
        """What autograd saved under ``name``, in float32 if it is of a half type."""
        return widened(getattr(self.node, f"_saved_{name}").detach())

    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        """Gradients of examples start to stop, [stop - start, *shape of the argument].

        Args:
            slot: Of the argument.
            g: Gradient of the operation's output, float32 or wider.
            start: First example.
            stop: One past the last example.
        """
        raise NotImplementedError

    def add(self, g: Tensor) -> None:
        """Add the squares of one backward pass, g of the operation's output's shape and type."""
        g = widened(g)
        for slot, shape in self.shapes.items():
            total = self.total(slot, g)
            step = max(1, 4 * BLOCK // max(1, shape.numel() * g.element_size()))
            for start in range(0, self.examples, step):
                stop = min(start + step, self.examples)
                total += self.gradients(slot, g, start, stop).square().sum(0)

    def finish(self) -> dict[int, Tensor]:
        """Sums of squares by slot, each of the argument's shape."""
        return self.sums

    def total(self, slot: int, like: Tensor) -> Tensor:
        """The running sum of ``slot``."""
        if slot not in self.sums:
            self.sums[slot] = like.new_zeros(self.shapes[slot])
        return self.sums[slot]

    def need_examples_slowest(self) -> int:
        """Return how many rows of axis 0 each example has; refuse any other layout."""
        if self.layout.outer != 1 or self.output_shape[0] % self.examples:
            raise UnsupportedError
        return self.output_shape[0] // self.examples
