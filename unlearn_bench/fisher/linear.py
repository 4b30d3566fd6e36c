"""Squares of per-example weight gradients of linear maps, with or without positions."""

import torch
from torch import Tensor
from typing_extensions import override

from unlearn_bench.fisher import outer
from unlearn_bench.fisher.layout import examples_first
from unlearn_bench.fisher.outer import add_squares, pair_indices, pair_products
from unlearn_bench.fisher.rule import Rule, UnsupportedError, widened


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
        width = self.shapes[self.weight_slot][0] if self.weight_slot in self.shapes else 0
        self.paired = self.positions == 1 or outer.pairs_win(
            self.output_shape[1], width, self.positions, self.passes, self.examples
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
        return torch.bmm(widened(self.input()[start:stop]).transpose(1, 2), some)

    @override
    def add(self, g: Tensor) -> None:
        halves, rows = self.split(g), self.split(widened(g))
        if 0 in self.shapes and self.weight_slot == 2:
            total = self.total(0, rows)
            total += (
                (rows if self.positions == 1 else rows.sum(1, keepdim=True)).square().sum((0, 1))
            )
        if self.weight_slot not in self.shapes:
            return
        if not self.paired:
            if self.weight_slot not in self.sums:
                m, k = self.output_shape[1], self.shapes[self.weight_slot][0]
                self.sums[self.weight_slot] = rows.new_zeros(m, k).t()
            total = self.sums[self.weight_slot].t()
            if not self.fused:
                add_squares(total, rows.transpose(1, 2), widened(self.input()))
                return
            from unlearn_bench.fisher.triton_kernels import fused_squares

            # A sequence is an image one number wide, a linear map its 1x1 convolution.
            image = self.input().transpose(1, 2)[..., None]
            fused_squares(total[..., None, None], halves.transpose(1, 2)[..., None], image)
            return
        products = pair_products(rows.transpose(0, 1))
        self.pair_sum = products if self.pair_sum is None else self.pair_sum.add_(products)

    @override
    def finish(self) -> dict[int, Tensor]:
        if self.pair_sum is not None:
            a = widened(self.input()).transpose(0, 1)
            p, q = pair_indices(self.positions, a.device)
            inputs = (a[p] * a[q]).flatten(0, 1)
            self.sums[self.weight_slot] = (self.pair_sum.flatten(0, 1).t() @ inputs).t()
        return self.sums
