"""DAMP-style surgery, experimental: project forget-class directions out of every layer's weight.

Unverified, since we know the paper only through summaries and there is no public code: the strength
a_l below is our own reading of "depth-aware scaling derived from probe separability", and so are
the layout of a convolution's prototypes and the treatment of grouped convolutions.

For each linear layer and convolution l, with mu_c the mean input to it over class c (of a
convolution: the mean patch under its kernel, of a sequence: the mean token), at theta0:

    d_f = mu_f - M M^+ mu_f,   M = prototypes of the retained classes
    W <- W (I - a_l Q Q^T),    Q an orthonormal basis of the d_f of all forgotten classes

The bias stays. At a_l = 1 the layer is blind to what sets the forgotten classes apart, and its
answer to every retained prototype is unchanged. Our a_l = max(0, 2 b_l - 1) * l / L, with b_l the
balanced accuracy of telling F from R by a threshold on Q^T x half-way between their means: early
layers, where the classes are not yet separated, are hardly touched. Where the retained classes span
the whole input of a layer no direction is left and it is skipped. Layers that standardise their
weight before use are refused: the mean that they take off would bring the direction back.

Source: Hatami, Aalishah and Monosov 2026, Class Unlearning via Depth-Aware Removal of
Forget-Specific Directions, arXiv:2604.15166.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    Fraction,
    MethodError,
    PositiveFloat,
    Split,
    Tunable,
    evaluating,
    method,
)

Layer = nn.Linear | nn.Conv2d
Watcher = Callable[[Layer, Tensor], None]


@method(
    "damp",
    access=Access.BOTH,
    source="arXiv:2604.15166",
    family="editing",
    year=2026,
    forgets=("class", "classes"),
    check=Check(
        one_shot=True,
        probes={"threshold": 0.9, "amount": 0.1},
        may_rest="no layer sets the forgotten classes apart from all others: layers_edited is 0",
    ),
)
def damp(
    model: nn.Module,
    ctx: Context,
    *,
    amount: Annotated[Fraction | None, Tunable(0.0, 1.0)] = None,
    threshold: PositiveFloat = 0.01,
) -> nn.Module:
    """Project once, with all statistics taken from the original.

    Args:
        amount: a_l, the same for all layers; null takes it from separability and depth. Ours.
        threshold: A direction shorter than this share of its prototype is noise, and none. Ours.
    """
    if not ctx.forget_classes:
        raise MethodError("damp forgets whole classes; take class: or classes: for the scenario")
    for name, layer in model.named_modules():
        if _standardises(layer):
            raise MethodError(
                f"damp edits weights that act as they are; {name} is a {type(layer).__name__}, "
                "which standardises its own before use: choose another model"
            )
    with ctx.precompute():
        prototypes = _prototypes(model, ctx)
        bases = {
            layer: [directions(m, ctx.forget_classes, threshold) for m in means]
            for layer, means in prototypes.items()
        }
        strength = _strengths(model, ctx, prototypes, bases)
    touched = 0
    for layer, groups in bases.items():
        rows = layer.weight.flatten(1).chunk(len(groups))
        strong = strength[layer] if amount is None else amount
        touched += int(strong > 0 and any(basis.shape[1] > 0 for basis in groups))
        with torch.no_grad():
            edited = [project(part, q, strong) for part, q in zip(rows, groups, strict=True)]
            layer.weight.copy_(torch.cat(edited).view_as(layer.weight))
        ctx.log(strength=strong)
    ctx.log(layers_edited=touched)
    return model


def _standardises(layer: nn.Module) -> bool:
    # Imported here, since listings load this file and timm takes a second.
    from timm.layers import std_conv

    return isinstance(
        layer,
        (
            std_conv.StdConv2d,
            std_conv.StdConv2dSame,
            std_conv.ScaledStdConv2d,
            std_conv.ScaledStdConv2dSame,
        ),
    )


def project(weight: Tensor, basis: Tensor, amount: float) -> Tensor:
    """Return W (I - a Q Q^T) for a weight [out, in] and an orthonormal basis [in, k]."""
    q = basis.to(weight.dtype)
    return weight - amount * (weight @ q) @ q.T


def directions(means: Tensor, forgotten: tuple[int, ...], threshold: float) -> Tensor:
    """Return an orthonormal basis [in, k] of what retained prototypes do not span.

    Args:
        means: Class prototypes, [C, in], float64; NaN for classes without examples.
        forgotten: Their indices.
        threshold: Smallest share of a prototype's length that counts.
    """
    is_forgotten = torch.zeros(len(means), dtype=torch.bool, device=means.device)
    is_forgotten[list(forgotten)] = True
    known = ~means.isnan().any(1)
    ours, theirs = means[is_forgotten & known], means[~is_forgotten & known]
    spanned = torch.linalg.svd(theirs.T, full_matrices=False)
    u = spanned.U[:, spanned.S > 1e-10 * spanned.S.max()]
    left = ours - (ours @ u) @ u.T
    left = left[left.norm(dim=1) > threshold * ours.norm(dim=1)]
    if not len(left):
        return means.new_zeros(means.shape[1], 0)
    found = torch.linalg.svd(left.T, full_matrices=False)
    basis: Tensor = found.U[:, found.S > 1e-6 * found.S.max()]
    return basis


def mean_inputs(layer: Layer, x: Tensor, examples: int) -> Tensor:
    """Return what each row of the weight sees of each example on average, [N, groups, in], float64.

    Args:
        layer: Its kernel may be strided, dilated and grouped.
        x: The layer's input, [N * parts, ..., in] or [N * parts, C, H, W]: transformers with
            windows hand on those of one example after those of another.
        examples: N.
    """
    if isinstance(layer, nn.Linear):
        return x.double().reshape(examples, -1, x.shape[-1]).mean(1)[:, None]
    # The mean over the places of the kernel, one of its taps at a time: unfolding all patches
    # at once would take k * k times the input's memory.
    padded, counts = _padded(layer, x.double())
    rows = []
    for i in range(layer.kernel_size[0]):
        for j in range(layer.kernel_size[1]):
            top, left = i * layer.dilation[0], j * layer.dilation[1]
            seen = padded[
                ...,
                top : top + counts[0] * layer.stride[0] : layer.stride[0],
                left : left + counts[1] * layer.stride[1] : layer.stride[1],
            ]
            rows.append(seen[..., : counts[0], : counts[1]].mean((2, 3)))
    taps = torch.stack(rows, 2)  # [N, C, k * k], as a flattened kernel is laid out
    return taps.view(examples, -1, layer.groups, taps[0].numel() // layer.groups).mean(1)


def _padded(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, list[int]]:
    """Return the padded input and how many places the kernel takes, by height and width."""
    spans = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    before, after, counts = [], [], []
    for side in range(2):
        length, stride, span = x.shape[2 + side], layer.stride[side], spans[side]
        # timm's convolutions with TensorFlow's padding pad within their own forward pass.
        same = isinstance(layer.padding, str) or type(layer) is not nn.Conv2d
        if isinstance(layer.padding, str) and layer.padding == "valid":
            total, first = 0, 0
        elif same and (isinstance(layer.padding, str) or not any(layer.padding)):
            total = max((-(-length // stride) - 1) * stride + span - length, 0)
            first = total // 2
        else:
            first = int(layer.padding[side])
            total = 2 * first
        before.append(first)
        after.append(total - first)
        counts.append((length + total - span) // stride + 1)
    return pad(x, (before[1], after[1], before[0], after[0])), counts


@contextmanager
def watching(model: nn.Module, examples: int, watcher: Watcher) -> Iterator[None]:
    """Show the watcher the mean inputs of every linear layer and convolution as they come by."""
    layers = {m: name for name, m in model.named_modules() if isinstance(m, Layer)}

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, Layer)
        if len(inputs[0]) % examples:
            raise MethodError(
                f"damp cannot tell the examples apart in {layers[layer]}: it takes "
                f"{len(inputs[0])} rows for a batch of {examples}; choose another model"
            )
        watcher(layer, mean_inputs(layer, inputs[0], examples))

    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        with evaluating(model):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _prototypes(model: nn.Module, ctx: Context) -> dict[Layer, list[Tensor]]:
    """Return the class means [C, in] of each group of each layer, layers in forward order."""
    sums: dict[Layer, Tensor] = {}
    counts = torch.zeros(ctx.num_classes, device=ctx.device, dtype=torch.float64)
    for split in (ctx.forget, ctx.retain):
        for x, y in split.batches():
            one_hot = torch.nn.functional.one_hot(y, ctx.num_classes).double()
            counts += one_hot.sum(0)

            def add(layer: Layer, seen: Tensor, one_hot: Tensor = one_hot) -> None:
                means = torch.einsum("nc,ngi->gci", one_hot, seen)
                sums[layer] = sums[layer] + means if layer in sums else means

            with watching(model, len(x), add):
                model(x)
    # Of a class without examples the mean is NaN.
    return {layer: list(total / counts[:, None]) for layer, total in sums.items()}


def _strengths(
    model: nn.Module,
    ctx: Context,
    prototypes: dict[Layer, list[Tensor]],
    bases: dict[Layer, list[Tensor]],
) -> dict[Layer, float]:
    """Return a_l of each layer; of grouped convolutions all directions count together."""
    forgotten = list(ctx.forget_classes)
    retained = [c for c in range(ctx.num_classes) if c not in forgotten]
    axes: dict[Layer, tuple[list[Tensor], Tensor]] = {}
    for layer, means in prototypes.items():
        # The line from the mean of the retained to that of the forgotten classes, within Q.
        ends = [
            ((m[forgotten].nanmean(0) @ q), (m[retained].nanmean(0) @ q))
            for m, q in zip(means, bases[layer], strict=True)
        ]
        axis = [q @ (f - r) for q, (f, r) in zip(bases[layer], ends, strict=True)]
        middle = torch.stack([((f - r) * (f + r) / 2).sum() for f, r in ends]).sum()
        axes[layer] = (axis, middle)

    def share_beyond(split: Split) -> dict[Layer, Tensor]:
        hits: dict[Layer, Tensor] = {}

        def add(layer: Layer, seen: Tensor) -> None:
            axis, middle = axes[layer]
            score = torch.einsum("ngi,gi->n", seen, torch.stack(axis))
            beyond = (score > middle).sum()
            hits[layer] = hits[layer] + beyond if layer in hits else beyond

        for x, _ in split.batches():
            with watching(model, len(x), add):
                model(x)
        return {layer: count / len(split) for layer, count in hits.items()}

    found, mistaken = share_beyond(ctx.forget), share_beyond(ctx.retain)
    depth = {layer: place / len(axes) for place, layer in enumerate(axes, start=1)}
    # 2 b - 1 with b the mean of the shares classified correctly on either side.
    return {layer: max(0.0, float(found[layer] - mistaken[layer])) * depth[layer] for layer in axes}
