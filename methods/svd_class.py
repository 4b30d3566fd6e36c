"""SVD class forgetting: take out of every layer's input what F fills and R does not.

For each convolution and linear layer, the head included, with the rows of X all that the layer's
weight sees of some examples (the patches under its kernel, or the tokens), at theta0 in eval mode:

    X = V S U^T,   s = S^2 / sum S^2,   M = U diag(a s / ((a - 1) s + 1)) U^T

M scales each direction by how much of X lies along it; the larger a, the more directions count
fully. With M_R of retained and M_F of forgotten examples, what F alone fills is M_F - M_F M_R, and

    P = I - (M_F - M_F M_R),   W <- W P^T.

Biases and norms stay. No training: two passes over some hundred images.

The decomposition itself is not needed: with N = X^T X / trace, M = a N ((a - 1) N + I)^-1, which is
the same matrix and takes no memory for X, but several matrices of d x d in float64 for a layer of d
inputs: more than 20 GB for the first layer of VGG's classifier, which has 25,088. The patches of a
large layer are drawn from whole images, in the official code from one window of three kernels'
width; grouped convolutions, which it does not treat, have a P per group. Layers that standardise
their weight before use are refused: the mean that they take off would bring directions back.

Source: Kodge, Saha and Roy, TMLR 2024, arXiv:2312.00761; particulars as the official code has them.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from torch import Tensor, nn

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    MethodError,
    PositiveFloat,
    PositiveInt,
    Probe,
    Split,
    Tunable,
    evaluating,
    layer_inputs,
    method,
    standardised,
)

Layer = nn.Linear | nn.Conv2d
Moments = dict[Layer, Tensor]
BATCH = 256


@method(
    "svd_class",
    access=Access.BOTH,
    source="arXiv:2312.00761",
    family="editing",
    year=2024,
    forgets=("class", "classes"),
    check=Check(probes={"examples": Probe(9), "patches": Probe(30)}),
)
def svd_class(
    model: nn.Module,
    ctx: Context,
    *,
    alpha_retain: Annotated[PositiveFloat, Tunable(10.0, 10_000.0, log=True)] = 100.0,
    alpha_forget: Annotated[PositiveFloat, Tunable(1.0, 1000.0, log=True)] = 3.0,
    examples: Annotated[PositiveInt, Tunable(tune=False)] = 900,
    patches: Annotated[PositiveInt, Tunable(tune=False)] = 10_000,
) -> nn.Module:
    """Project every weight once, with all statistics taken from the original.

    Args:
        alpha_retain: a for R. Official code.
        alpha_forget: a for F: 3 on CIFAR-10, 10 on ImageNet; more forgets more, and costs R.
            Official code.
        examples: Images of F, and of R in equal parts from its classes. Official code.
        patches: Rows of X per layer at most. Official code.
    """
    if not ctx.forget_classes:
        raise MethodError("svd_class forgets whole classes; take class: or classes: as scenario")
    if (name := standardised(model)) is not None:
        raise MethodError(
            f"svd_class edits weights that act as they are; {name} standardises its own before "
            "use: choose another model"
        )
    with ctx.precompute():
        forget = ctx.forget.subset(examples, ctx.rng)
        retain = of_every_class(ctx.retain, examples // retained_classes(ctx), ctx.rng)
        of_forget, of_retain = (
            second_moments(model, some, patches, ctx.rng) for some in (forget, retain)
        )
    with torch.no_grad():
        for layer, moments in of_forget.items():
            wanted = scaled(of_retain[layer], alpha_retain)
            unwanted = scaled(moments, alpha_forget)
            removed = unwanted - unwanted @ wanted
            rows = layer.weight.flatten(1).double().chunk(len(moments))
            edited = [w - w @ p.T for w, p in zip(rows, removed, strict=True)]
            layer.weight.copy_(torch.cat(edited).view_as(layer.weight))
            ctx.log(removed=torch.linalg.matrix_norm(removed).square().mean())
    return model


def retained_classes(ctx: Context) -> int:
    """Return how many classes are kept, at least one."""
    return max(1, ctx.num_classes - len(ctx.forget_classes))


def of_every_class(split: Split, count: int, generator: torch.Generator) -> Split:
    """Return about ``count`` examples of every class, at least one."""
    order = torch.randperm(len(split), generator=generator)
    labels = split.labels[order]
    chosen = [order[labels == label][: max(1, count)] for label in labels.unique()]
    return split.at(torch.cat(chosen).sort().values)


def scaled(moments: Tensor, alpha: float) -> Tensor:
    """Return M of each group, [G, in, in], from X^T X, [G, in, in]."""
    total = moments.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    # A group whose input is 0 throughout has no direction, and M = 0.
    share = moments / total.clamp_min(torch.finfo(moments.dtype).tiny)
    identity = torch.eye(moments.shape[-1]).to(moments)
    projection: Tensor = torch.linalg.solve((alpha - 1) * share + identity, alpha * share)
    return projection


@contextmanager
def showing(
    model: nn.Module, rows: int, generator: torch.Generator, into: Moments
) -> Iterator[None]:
    """Add to ``into`` the second moments of each layer's inputs as they come by.

    Args:
        model: Its linear layers and convolutions are watched.
        rows: Inputs of each layer that count per pass, drawn where there are more.
        generator: Draws them.
        into: X^T X by layer, [G, in, in], float64.
    """

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, Layer)
        seen = layer_inputs(layer, inputs[0], output)
        if len(seen) > rows:
            chosen = torch.randperm(len(seen), generator=generator)[:rows]
            seen = seen[chosen.to(seen.device)]
        grouped = seen.double().transpose(0, 1)
        moments = grouped.mT @ grouped
        into[layer] = into[layer] + moments if layer in into else moments

    watched = [m for m in model.modules() if isinstance(m, Layer)]
    handles = [layer.register_forward_hook(note) for layer in watched]
    try:
        with evaluating(model):
            yield
    finally:
        for handle in handles:
            handle.remove()


def second_moments(
    model: nn.Module, split: Split, patches: int, generator: torch.Generator
) -> Moments:
    """Return X^T X of every layer that runs, by group."""
    moments: Moments = {}
    for x, _ in split.batches(BATCH):
        share = math.ceil(patches * len(x) / len(split))
        with showing(model, share, generator, moments):
            model(x)
    return moments
