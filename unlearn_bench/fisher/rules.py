"""Per-example gradients of single operations, and the sums of their squares.

A :class:`Rule` serves one operation of the graph, named by its autograd node. From the
gradient g of the operation's output and the tensors that autograd saved for its own backward
pass, it yields the gradient of each parameter-like argument for every example apart. Rules
that know a shortcut to the sum of squares override :meth:`Rule.add`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from typing_extensions import override

from unlearn_bench.fisher import outer
from unlearn_bench.fisher.layout import Layout, examples_first
from unlearn_bench.fisher.outer import (
    BLOCK,
    PAIR_LIMIT,
    SQUARE_COST,
    add_squares,
    pair_indices,
    pair_products,
)


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

    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        """Gradients of examples start to stop, [stop - start, *shape of the argument]."""
        raise NotImplementedError

    def add(self, g: Tensor) -> None:
        """Add the squares of one backward pass, g of the operation's output's shape."""
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


class Linear(Rule):
    """out = a w (+ b): slots of ``addmm`` (0 bias, 2 weight) and ``mm`` (1 weight).

    With one position per example G = g a^T has rank one and G^2 = g^2 (a^2)^T.
    """

    @override
    def prepare(self) -> str:
        self.weight_slot = 2 if self.node.name() == "AddmmBackward0" else 1
        if self.layout.inner % self.output_shape[1] or not set(self.shapes) <= {
            0 if self.weight_slot == 2 else 1,
            self.weight_slot,
        }:
            raise UnsupportedError
        if self.weight_slot == 2 and (self.node._saved_alpha != 1 or self.node._saved_beta != 1):
            raise UnsupportedError
        if 0 in self.shapes and self.shapes[0] != self.output_shape[1:]:
            raise UnsupportedError
        self.positions = self.output_shape[0] // self.examples
        pairs = self.positions * (self.positions + 1) // 2
        self.paired = self.positions == 1 or (
            pairs < self.passes * (self.positions + SQUARE_COST)
            and pairs * self.examples * self.output_shape[1] <= PAIR_LIMIT
        )
        self.pair_sum: Tensor | None = None
        wanted = self.weight_slot in self.shapes and not self.paired
        self.fused = wanted and outer.fused(self.input())
        if self.positions == 1:
            return "linear"
        if self.paired:
            return "linear, pairs of positions"
        return "linear, fused" if self.fused else "linear, sequence"

    def split(self, rows: Tensor) -> Tensor:
        """Rows [R, width] as [N, positions, width]."""
        return examples_first(rows, self.layout, self.examples, rows.shape[1])

    def input(self) -> Tensor:
        """The input a, [N, positions, K]."""
        saved = "_saved_mat1" if self.weight_slot == 2 else "_saved_self"
        a: Tensor = getattr(self.node, saved)
        return self.split(a.detach())

    @override
    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        some = self.split(g)[start:stop]
        if slot != self.weight_slot:
            return some.sum(1)
        return torch.bmm(self.input()[start:stop].transpose(1, 2), some)

    @override
    def add(self, g: Tensor) -> None:
        rows = self.split(g)
        if 0 in self.shapes and self.weight_slot == 2:
            total = self.total(0, g)
            total += (
                (rows if self.positions == 1 else rows.sum(1, keepdim=True)).square().sum((0, 1))
            )
        if self.weight_slot not in self.shapes:
            return
        if not self.paired:
            if self.weight_slot not in self.sums:
                m, k = self.output_shape[1], self.shapes[self.weight_slot][0]
                self.sums[self.weight_slot] = g.new_zeros(m, k).t()
            total = self.sums[self.weight_slot].t()
            if not self.fused:
                add_squares(total, rows.transpose(1, 2), self.input())
                return
            from unlearn_bench.fisher.triton_kernels import fused_squares

            # A sequence is an image one number wide, a linear map its 1x1 convolution.
            image = self.input().transpose(1, 2)[..., None]
            fused_squares(total[..., None, None], rows.transpose(1, 2)[..., None], image)
            return
        products = pair_products(rows.transpose(0, 1))
        self.pair_sum = products if self.pair_sum is None else self.pair_sum.add_(products)

    @override
    def finish(self) -> dict[int, Tensor]:
        if self.pair_sum is not None:
            a = self.input().transpose(0, 1)
            p, q = pair_indices(self.positions, a.device)
            inputs = (a[p] * a[q]).flatten(0, 1)
            self.sums[self.weight_slot] = (self.pair_sum.flatten(0, 1).t() @ inputs).t()
        return self.sums


class BatchNorm(Rule):
    """out = x_hat gamma + beta over [B, C, ...], with running statistics (slots 1 and 2)."""

    @override
    def prepare(self) -> str:
        self.rows = self.need_examples_slowest()
        if self.node._saved_training or self.node._saved_running_mean is None:
            raise UnsupportedError
        # cuDNN's node has another name for it.
        self.eps = getattr(self.node, "_saved_eps", None) or self.node._saved_epsilon
        return "batch norm"

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Running mean and 1 / sqrt(variance + eps), each [C]."""
        mean: Tensor = self.node._saved_running_mean
        return mean, (self.node._saved_running_var + self.eps).rsqrt()

    def both(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of gamma and of beta for every example, each [N, C]."""
        node, (b, c) = self.node, g.shape[:2]
        x = node._saved_input.detach()
        mean, scale = self.statistics()
        positions = g[0, 0].numel()
        if positions >= 16:
            # One image of B * C channels: torch's own kernel then sums each example apart.
            gamma, beta = torch.ops.aten.native_batch_norm_backward(
                g.reshape(1, b * c, positions), x.reshape(1, b * c, positions), None,
                mean.repeat(b), node._saved_running_var.repeat(b), None, None,
                False, self.eps, [False, True, True],
            )[1:]  # fmt: skip
        else:
            # A product with ones is the fastest sum over a short axis.
            one = g.new_ones(positions)
            beta = g.reshape(b * c, positions) @ one
            gamma = (g * x).reshape(b * c, positions) @ one
            gamma = (gamma.view(b, c) - mean * beta.view(b, c)) * scale
        if self.rows == 1:
            return gamma.view(b, c), beta.view(b, c)
        return gamma.view(-1, self.rows, c).sum(1), beta.view(-1, self.rows, c).sum(1)

    @override
    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        part = self.both(g)[slot - 1][start:stop]
        return part.view(-1, *self.shapes[slot])

    @override
    def add(self, g: Tensor) -> None:
        both = self.both(g)
        for slot in self.shapes:
            self.total(slot, g).add_(both[slot - 1].square_().sum(0))


class LayerNorm(Rule):
    """out = x_hat gamma + beta over the last axes (slots 1 and 2)."""

    @override
    def prepare(self) -> str:
        self.width = torch.Size(self.node._saved_normalized_shape).numel()
        if self.layout.inner % self.width:
            raise UnsupportedError
        return "layer norm"

    @override
    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        rows = self.split(g)[start:stop]
        if slot == 2:
            return rows.sum(1).view(-1, *self.shapes[2])
        # sum_t g (x - mean) scale as two products over the positions t, without x_hat.
        x = self.split(self.node._saved_input.detach())[start:stop]
        mean, scale = self.node._saved_result1, self.node._saved_result2
        scaled = self.split(scale, 1)[start:stop].transpose(1, 2)
        shift = self.split(mean * scale, 1)[start:stop].transpose(1, 2)
        found = torch.baddbmm(torch.bmm(shift, rows), scaled, rows * x, beta=-1)
        return found.view(-1, *self.shapes[1])

    def split(self, t: Tensor, width: int | None = None) -> Tensor:
        """A tensor with one row per position as [N, positions, width]."""
        return examples_first(t, self.layout, self.examples, width or self.width)

    @override
    def add(self, g: Tensor) -> None:
        for slot in self.shapes:
            self.total(slot, g).add_(self.gradients(slot, g, 0, self.examples).square_().sum(0))


class GroupNorm(Rule):
    """out = x_hat gamma + beta over [B, C, ...], statistics by group (slots 1 and 2)."""

    @override
    def prepare(self) -> str:
        self.rows = self.need_examples_slowest()
        return "group norm"

    @override
    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        node, part = self.node, slice(start * self.rows, stop * self.rows)
        n, c = g.shape[:2]
        g = g.reshape(n, c, -1)[part]
        if slot == 1:
            groups = node._saved_group
            x = node._saved_input.detach().reshape(n, groups, -1)[part]
            mean = node._saved_result1.view(n, groups, 1)[part]
            scale = node._saved_result2.view(n, groups, 1)[part]
            g = g * ((x - mean) * scale).view_as(g)
        return g.reshape(stop - start, self.rows, c, -1).sum((1, 3))


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
            g = g * (node._saved_other if slot == 0 else node._saved_self).detach()
        elif name == "PreluKernelBackward0":
            g = g * node._saved_self.detach().clamp(max=0)
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
        rows, where = self.rows(g)
        size = self.shapes[0][0]
        owner = torch.arange(self.examples, device=g.device)[:, None] * size
        pairs, inverse = (where + owner).reshape(-1).unique(return_inverse=True)
        sums = g.new_zeros(len(pairs), g.shape[-1]).index_add_(0, inverse, rows.flatten(0, 1))
        self.total(0, g).index_add_(0, pairs % size, sums.square_())


RULES: dict[str, Callable[..., Rule]] = {
    "AddmmBackward0": Linear,
    "MmBackward0": Linear,
    "NativeBatchNormBackward0": BatchNorm,
    "CudnnBatchNormBackward0": BatchNorm,
    "NativeLayerNormBackward0": LayerNorm,
    "NativeGroupNormBackward0": GroupNorm,
    "AddBackward0": Elementwise,
    "SubBackward0": Elementwise,
    "MulBackward0": Elementwise,
    "PreluKernelBackward0": Elementwise,
    "ExpandBackward0": Expand,
    "RepeatBackward0": Expand,
    "EmbeddingBackward0": Embedding,
}
