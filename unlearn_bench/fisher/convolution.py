"""Squares of per-example weight gradients of convolutions.

With image a [N, Ci, H, W], output gradient g [N, Co, Ho, Wo] and kernel position t, the
gradient of one example is G[:, :, t] = sum_p g[:, p] a[:, s p + d t - pad]^T, a product over the
P output positions p whose input lies inside the image. A transposed convolution has the same
form with a and g in each other's place. Which way to sum G * G is cheapest depends on P:

* pairs: few positions; expand the square over pairs of positions, see ``outer.py``;
* windows: lay out the kw column shifts of the image side by side; every row shift is then a
  window of that, so kh products read one copy kw times the image, not kh * kw times;
* fused: on a GPU, otherwise; the kernel of ``triton_kernels.py`` never writes G out;
* images: many positions; torch's own weight gradient, one example at a time;
* groups: each group is a convolution of its own; depthwise ones have a product of one row.
"""

import functools
from itertools import combinations_with_replacement

import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from unlearn_bench.fisher import outer
from unlearn_bench.fisher.outer import add_squares, pair_products
from unlearn_bench.fisher.rule import Rule, UnsupportedError, widened

# Positions above which torch's weight gradient of one image beats products (measured on CPU).
IMAGE_POSITIONS = 256


class Convolution(Rule):
    """out = conv(a, w) + b: slots 1 (weight) and 2 (bias), any rank, grouped or transposed."""

    @override
    def prepare(self) -> str:
        node = self.node
        self.rows = self.need_examples_slowest()
        if 0 in self.shapes:
            raise UnsupportedError
        self.groups: int = node._saved_groups
        self.transposed: bool = node._saved_transposed
        self.pair_sum: Tensor | None = None
        self.by_taps = False
        self.way = self.choose() if 1 in self.shapes else "bias"
        return f"conv, {self.way}"

    def choose(self) -> str:
        """The cheapest way for this layer's sizes."""
        shape = self.shapes[1]
        if len(shape) != 4 or self.transposed or self.rows != 1:
            return "groups"
        self.height, self.width = self.node._saved_input.shape[2:]
        taps = shape[2] * shape[3]
        positions = self.output_shape[2] * self.output_shape[3]
        if self.groups > 1:
            depthwise = shape[0] == self.groups and shape[1] == 1
            # torch's depthwise weight gradient is fast for small kernels alone (on CPU).
            self.by_taps = depthwise and taps > 9 and not self.node._saved_input.is_cuda
            return "groups"
        met = _pair_count(*self.geometry())
        sizes = shape[0], shape[1], positions, self.passes, self.examples
        if outer.pairs_win(*sizes, taps=taps, met=met):
            return "pairs"
        if outer.fused(self.node._saved_input):
            return "fused"
        return "images" if positions >= IMAGE_POSITIONS and taps > 1 else "windows"

    def geometry(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Size, outputs, kernel, stride, padding and dilation of either axis."""
        node, kernel = self.node, self.shapes[1][2:]
        settings = node._saved_stride, node._saved_padding, node._saved_dilation
        sizes = (self.height, self.width), self.output_shape[2:], kernel, *settings
        rows, columns = zip(*sizes, strict=True)
        return rows, columns

    @override
    def gradients(self, slot: int, g: Tensor, start: int, stop: int) -> Tensor:
        part, n = slice(start * self.rows, stop * self.rows), (stop - start) * self.rows
        g = g[part]
        if slot == 2:
            sums = g.flatten(2).sum(2)
        elif self.by_taps:
            sums = self.depthwise(g, self.inputs(part))
        else:
            # Images become groups of one image, whose weight gradients torch keeps apart.
            node, shape = self.node, self.shapes[1]
            a = self.inputs(part)
            weight = g.new_empty(1).expand(n * shape[0], *shape[1:])
            sums = torch.ops.aten.convolution_backward(
                g.reshape(1, -1, *g.shape[2:]),
                a.reshape(1, -1, *a.shape[2:]),
                weight,
                None,
                node._saved_stride,
                node._saved_padding,
                node._saved_dilation,
                self.transposed,
                node._saved_output_padding,
                n * self.groups,
                [False, True, False],
            )[1]
        return sums.reshape(stop - start, self.rows, *self.shapes[slot]).sum(1)

    def inputs(self, part: slice) -> Tensor:
        """Some images, in float32 if they are of a half type."""
        return widened(self.node._saved_input.detach()[part])

    def depthwise(self, g: Tensor, a: Tensor) -> Tensor:
        """Depthwise gradients by one sum over positions per kernel position, [n, C, kh * kw]."""
        (kh, kw), (n, c) = self.shapes[1][2:], a.shape[:2]
        rows, columns = (_spans(*axis) for axis in self.geometry())
        # Positions first: sums then run over whole rows of n * C numbers.
        a = a.permute(2, 3, 0, 1).contiguous()
        g = g.permute(2, 3, 0, 1).contiguous()
        sums = g.new_zeros(kh * kw, n, c)
        for i, (out_rows, in_rows) in enumerate(rows):
            for j, (out_columns, in_columns) in enumerate(columns):
                product = a[in_rows, in_columns] * g[out_rows, out_columns]
                torch.sum(product, (0, 1), out=sums[i * kw + j])
        return sums.permute(1, 2, 0)

    @override
    def add(self, g: Tensor) -> None:
        halves, g = g, widened(g)
        if 2 in self.shapes:
            self.total(2, g).add_(self.gradients(2, g, 0, self.examples).square_().sum(0))
        if 1 not in self.shapes:
            return
        if self.way == "pairs":
            rows = g.flatten(2).permute(2, 0, 1).contiguous()
            products = pair_products(rows)
            self.pair_sum = products if self.pair_sum is None else self.pair_sum.add_(products)
        elif self.way == "fused":
            self.add_fused(halves)
        elif self.way == "images":
            self.add_images(g)
        elif self.way == "windows":
            self.add_windows(g)
        else:
            weight = {1: self.shapes[1]}
            self.shapes, kept = weight, self.shapes
            super().add(g)
            self.shapes = kept

    def add_windows(self, g: Tensor) -> None:
        """Add squares by products over windows of the shifted image."""
        node, (co, ci, kh, kw) = self.node, self.shapes[1]
        (sh, sw), (ph, pw), (dh, dw) = node._saved_stride, node._saved_padding, node._saved_dilation
        n, _, ho, wo = g.shape
        a = self.saved("input")
        if 1 not in self.sums:
            # Held as [kh, Co, kw * Ci] until finish().
            self.sums[1] = g.new_zeros(kh, co, kw * ci)
        if (kh, kw, sh, sw, ph, pw) == (1, 1, 1, 1, 0, 0):
            add_squares(self.sums[1][0], g.flatten(2), a.flatten(2).transpose(1, 2))
            return
        # [N, H, W, Ci], wide enough for the last window, then [N, H, Wo, kw * Ci].
        image = pad(a.permute(0, 2, 3, 1), (0, 0, pw, pw, ph, ph))
        shifts = [image[:, :, j * dw : j * dw + (wo - 1) * sw + 1 : sw] for j in range(kw)]
        columns = torch.cat(shifts, 3) if kw > 1 else shifts[0]
        for i in range(kh):
            window = columns[:, i * dh : i * dh + (ho - 1) * sh + 1 : sh]
            add_squares(self.sums[1][i], g.flatten(2), window.reshape(n, ho * wo, kw * ci))

    def add_fused(self, g: Tensor) -> None:
        """Add squares by the GPU kernel, in float32."""
        from unlearn_bench.fisher.triton_kernels import fused_squares

        node = self.node
        if 1 not in self.sums:
            self.sums[1] = g.new_zeros(self.shapes[1], dtype=torch.float32)
        fused_squares(
            self.sums[1],
            g,
            node._saved_input.detach(),
            stride=node._saved_stride,
            padding=node._saved_padding,
            dilation=node._saved_dilation,
        )

    def add_images(self, g: Tensor) -> None:
        """Add squares of torch's own weight gradient of each image."""
        node, total = self.node, self.total(1, g)
        weight = self.saved("weight")
        for i in range(self.examples):
            gradient = torch.ops.aten.convolution_backward(
                g[i : i + 1],
                self.inputs(slice(i, i + 1)),
                weight,
                None,
                node._saved_stride,
                node._saved_padding,
                node._saved_dilation,
                False,
                node._saved_output_padding,
                self.groups,
                [False, True, False],
            )[1]
            total.addcmul_(gradient, gradient)

    @override
    def finish(self) -> dict[int, Tensor]:
        if self.pair_sum is not None:
            self.sums[1] = self.finish_pairs(self.pair_sum)
        elif self.way == "windows":
            co, ci, kh, kw = self.shapes[1]
            self.sums[1] = self.sums[1].view(kh, co, kw, ci).permute(1, 3, 0, 2)
        return self.sums

    def finish_pairs(self, products: Tensor) -> Tensor:
        """Sums of squares from the products of output gradients [pairs, N, Co]."""
        co, ci, kh, kw = self.shapes[1]
        a = self.saved("input").flatten(2).permute(2, 0, 1).contiguous()
        table = _pairs(*self.geometry())
        served = [(k, entry) for k, entry in enumerate(table) if entry]
        # Few kernel positions: put each in place. Many: one after the other, moved at the end.
        if len(served) < kh * kw:
            places = products.new_zeros(co, ci, kh * kw).permute(2, 0, 1)
        else:
            places = products.new_empty(kh * kw, co, ci)
        for k, entry in served:
            chosen, p, q = (index.to(a.device) for index in entry)
            some = products if len(chosen) == len(products) else products[chosen]
            inputs = a[p].square_() if len(p) == 1 else a[p] * a[q]
            places[k] = some.flatten(0, 1).t() @ inputs.flatten(0, 1)
        total: Tensor = places.unflatten(0, (kh, kw)).permute(2, 3, 0, 1)
        return total


def _spans(
    size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int
) -> list[tuple[slice, slice]]:
    """Along one axis, for each kernel position: outputs it serves and the inputs they read."""
    spans = []
    for k in range(kernel):
        shift = k * dilation - padding
        first = max(0, -(shift // stride))
        last = max(first, min(outputs, (size - 1 - shift) // stride + 1))
        inputs = slice(first * stride + shift, max(0, (last - 1) * stride + shift + 1), stride)
        spans.append((slice(first, last), inputs if last > first else slice(0, 0)))
    return spans


def _pair_count(rows: tuple[int, ...], columns: tuple[int, ...]) -> int:
    """Pairs of outputs that kernel positions serve, over all of them."""
    spans = [[out.stop - out.start for out, _ in _spans(*axis)] for axis in (rows, columns)]
    return sum(r * c * (r * c + 1) // 2 for r in spans[0] for c in spans[1])


def _served(rows: tuple[int, ...], columns: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    """For each kernel position, the (output, input) positions that meet there."""
    width_out, width_in = columns[1], columns[0]
    return [
        [
            (r_out * width_out + c_out, r_in * width_in + c_in)
            for r_out, r_in in _meetings(*row)
            for c_out, c_in in _meetings(*column)
        ]
        for row in _spans(*rows)
        for column in _spans(*columns)
    ]


def _meetings(outputs: slice, inputs: slice) -> list[tuple[int, int]]:
    served = range(outputs.start, outputs.stop)
    return list(zip(served, range(inputs.start, inputs.stop, inputs.step or 1), strict=True))


@functools.lru_cache(maxsize=512)
def _pairs(
    rows: tuple[int, ...], columns: tuple[int, ...]
) -> list[tuple[Tensor, Tensor, Tensor] | None]:
    """For each kernel position, pairs of outputs it serves and their inputs, or None.

    Each entry holds, over the pairs, the index into all pairs of outputs and the two inputs.
    """
    positions = rows[1] * columns[1]
    number = {pair: k for k, pair in enumerate(combinations_with_replacement(range(positions), 2))}
    found: list[tuple[Tensor, Tensor, Tensor] | None] = []
    for served in _served(rows, columns):
        both = list(combinations_with_replacement(served, 2))
        table = [(number[p, q], a, b) for (p, a), (q, b) in both]
        index, first, second = torch.tensor(table).view(-1, 3).unbind(1)
        found.append((index, first, second) if table else None)
    return found
