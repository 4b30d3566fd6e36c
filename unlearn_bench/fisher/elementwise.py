"""Per-example gradients of bare parameters: shifts, scales, tokens and tables."""

import torch
from torch import Tensor
from typing_extensions import override

from unlearn_bench.fisher.layout import examples_first
from unlearn_bench.fisher.rule import Rule, UnsupportedError, widened


class Elementwise(Rule):
    """out = x + w, x - w, x * w or prelu(x, w), with w broadcast against the data."""

    @override
    def prepare(self) -> str:
        name = self.node.name()
        if len(self.shapes) != 1 or (name == "PreluKernelBackward0" and 1 not in self.shapes):
            raise UnsupportedError
        (shape,) = self.shapes.values()
        # The axis with the examples: all before it make up the outer size.
        outer, axis = 1, 0
        while outer < self.layout.outer and axis < len(self.output_shape):
            outer *= self.output_shape[axis]
            axis += 1
        while axis < len(self.output_shape) and self.output_shape[axis] == 1 < self.examples:
            axis += 1
        missing = len(self.output_shape) - len(shape)
        if (
            outer != self.layout.outer
            or axis == len(self.output_shape)
            or self.output_shape[axis] % self.examples
            or (axis >= missing and shape[axis - missing] != 1)
        ):
            raise UnsupportedError
        self.axis = axis
        # The argument's shape beside the output's, with the rows of one example set apart.
        full = [1] * missing + list(shape)
        self.aligned = [*full[:axis], 1, *full[axis + 1 :]]
        return {"M": "scale", "P": "prelu"}.get(name[0], "shift")

    @override
    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        node, name = self.node, self.node.name()
        if name == "MulBackward0":
            g = g * self.saved("other" if slot == 0 else "self")
        elif name == "PreluKernelBackward0":
            g = g * self.saved("self").clamp(max=0)
        elif slot == 1 and hasattr(node, "_saved_alpha") and node._saved_alpha != 1:
            g = g * node._saved_alpha
        # [.., N * k, ..] to [N, .., k, ..]
        g = g.unflatten(self.axis, (self.examples, -1)).movedim(self.axis, 0)[start:stop]
        dims = [d + 1 for d, size in enumerate(self.aligned) if size == 1 and g.shape[d + 1] != 1]
        g = g.sum(dims, keepdim=True) if dims else g
        if name == "SubBackward0" and slot == 1:
            g = -g
        return g.reshape(stop - start, *self.shapes[slot])


class Expand(Rule):
    """A parameter repeated for every example, such as a class token: the gradient is at hand."""

    @override
    def prepare(self) -> str:
        shape = self.shapes[0]
        self.need_examples_slowest()
        missing = len(self.output_shape) - len(shape)
        self.aligned = [1] * missing + list(shape)
        if self.output_shape[0] != self.examples or self.aligned[0] != 1:
            raise UnsupportedError
        # A repeat that tiles an axis is not a broadcast.
        if any(
            have not in (1, out) for have, out in zip(self.aligned, self.output_shape, strict=True)
        ):
            raise UnsupportedError
        return "token"

    @override
    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        dims = [d for d, size in enumerate(self.aligned) if d and size == 1 and g.shape[d] != 1]
        g = g[start:stop].sum(dims) if dims else g[start:stop]
        return g.reshape(stop - start, *self.shapes[0])


class Embedding(Rule):
    """Rows of a table looked up by whole numbers; an example's repeats add up first."""

    @override
    def prepare(self) -> str:
        if self.layout.inner % self.output_shape[-1] or self.node._saved_scale_grad_by_freq:
            raise UnsupportedError
        return "embedding"

    def rows(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient rows [N, L, D], padding zeroed, and which table row each belongs to [N, L]."""
        indices = self.node._saved_indices
        width = g.shape[-1]
        g = g.masked_fill((indices == self.node._saved_padding_idx)[..., None], 0)
        split = examples_first(g.reshape(-1, width), self.layout, self.examples, width)
        where = examples_first(indices.reshape(-1, 1), self.layout, self.examples, 1)
        return split, where[..., 0]

    @override
    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        rows, where = self.rows(g)
        found = g.new_zeros(stop - start, *self.shapes[slot])
        index = where[start:stop, :, None].expand_as(rows[start:stop])
        return found.scatter_add_(1, index, rows[start:stop])

    @override
    def add(self, g: Tensor) -> None:
        g = widened(g)
        rows, where = self.rows(g)
        size = self.shapes[0][0]
        owner = torch.arange(self.examples, device=g.device)[:, None] * size
        pairs, inverse = (where + owner).reshape(-1).unique(return_inverse=True)
        sums = g.new_zeros(len(pairs), g.shape[-1]).index_add_(0, inverse, rows.flatten(0, 1))
        self.total(0, g).index_add_(0, pairs % size, sums.square_())
