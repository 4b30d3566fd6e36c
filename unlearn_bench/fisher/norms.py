"""Per-example gradients of the scale and shift of normalisations."""

import torch
from torch import Tensor
from typing_extensions import override

from unlearn_bench.fisher.layout import examples_first
from unlearn_bench.fisher.rule import Rule, UnsupportedError, widened


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
        return self.saved("running_mean"), (self.saved("running_var") + self.eps).rsqrt()

    def both(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of gamma and of beta for every example, each [N, C]."""
        b, c = g.shape[:2]
        x = self.saved("input")
        mean, scale = self.statistics()
        positions = g[0, 0].numel()
        if positions >= 16:
            # One image of B * C channels: torch's own kernel then sums each example apart.
            gamma, beta = torch.ops.aten.native_batch_norm_backward(
                g.reshape(1, b * c, positions),
                x.reshape(1, b * c, positions),
                None,
                mean.repeat(b),
                self.saved("running_var").repeat(b),
                None,
                None,
                False,
                self.eps,
                [False, True, True],
            )[1:]
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
        g = widened(g)
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
        x = self.split(self.saved("input"))[start:stop]
        mean, scale = self.saved("result1"), self.saved("result2")
        scaled = self.split(scale, 1)[start:stop].transpose(1, 2)
        shift = self.split(mean * scale, 1)[start:stop].transpose(1, 2)
        found = torch.baddbmm(torch.bmm(shift, rows), scaled, rows * x, beta=-1)
        return found.view(-1, *self.shapes[1])

    def split(self, t: Tensor, width: int | None = None) -> Tensor:
        """A tensor with one row per position as [N, positions, width]."""
        return examples_first(t, self.layout, self.examples, width or self.width)

    @override
    def add(self, g: Tensor) -> None:
        g = widened(g)
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
            x = self.saved("input").reshape(n, groups, -1)[part]
            mean = self.saved("result1").view(n, groups, 1)[part]
            scale = self.saved("result2").view(n, groups, 1)[part]
            g = g * ((x - mean) * scale).view_as(g)
        return g.reshape(stop - start, self.rows, c, -1).sum((1, 3))
