"""SSD and its label-free and adaptive forms: dampen the weights that matter more to F than to all.

With I_F and I_D the importance of each weight j for F and for all training data D = F + R,

    where I_F > alpha * I_D:   theta_j <- theta_j * min(1, lambda * I_D / I_F)

once, without any training. The three differ in the importance and in alpha. SSD takes the
diagonal of the empirical Fisher information, the mean over examples of the squared gradient of
log p(y|x). LFSSD needs no labels: the mean over batches of |d mean ||f(x)||^2 / d theta_j|.
ASSD sets alpha itself, to the p-th percentile of I_F / I_D over all weights with
p = 100 - ln(1 + 100 n_F / n_D): the larger F, the more weights are dampened.

Since F is part of D, the mean over examples gives I_F / I_D <= n_D / n_F for every weight: with
one of ten classes the ratio never exceeds 10, and the published alpha = 10 selects nothing, with
two of ten not even alpha = 5 does. By default alpha is therefore the published value or half of
that bound, whichever is less. SSD's official code squares the
gradients of batch means (``importance="batch"``), LFSSD takes their absolute values: D contains F
there as well, so that the same bound holds for them but for the batches at the edges of F. What
these two find depends on the order and size of the batches. Where whole classes are forgotten the
official code reads lists sorted by class, and so do they here: in mixed batches classes cancel each
other, which dampens what all of them need (on digits, retain accuracy 76 % instead of 100 %).

LFSSD leaves 20 % of F on the suite mnist-small by default, and nothing with ``dampening=0.356,
alpha=3.59, batch_size=30``, which tuning chose; accuracy on R is 91 %.

Source: Foster, Schoepf and Brintrup, AAAI 2024, arXiv:2308.07707 (SSD); Foster et al. 2024,
arXiv:2402.19308 (LFSSD); Schoepf, Foster and Brintrup 2024, arXiv:2402.10098 (ASSD).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

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
    method,
    summed_gradient,
)
from unlearn_bench.fisher import fisher_diagonal

Importance = Literal["fisher", "batch"]

PUBLISHED_ALPHA = 10.0


@method(
    "ssd",
    access=Access.BOTH,
    source="arXiv:2308.07707",
    family="editing",
    year=2024,
    check=Check(
        one_shot=True,
        quick={"alpha": 2.0},
        probes={"batch_size": Probe(7, given={"importance": "batch"}), "dampening": 0.1},
    ),
)
def ssd(
    model: nn.Module,
    ctx: Context,
    *,
    alpha: Annotated[PositiveFloat | None, Tunable(1.0, 100.0, log=True)] = None,
    dampening: PositiveFloat = 1.0,
    importance: Importance = "fisher",
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Dampen by the diagonal of the Fisher information.

    Args:
        alpha: How many times more a weight must matter to F; at n_D / n_F and above no weight
            does. None: 10 as for ResNet-18, or half of that bound if less, which is ours; a
            ViT's is 5. Official code.
        dampening: The paper's lambda; smaller dampens more. Official code.
        importance: ``fisher`` squares the gradient of each example, as the Fisher information is
            defined; ``batch``, the official code, that of each batch's mean loss, which is no
            Fisher information, over R and then F and, where whole classes are forgotten, class
            by class. Ours.
        batch_size: Examples per pass; matters to ``batch`` alone. Official code.
    """
    chosen = threshold(ctx, alpha, exact=importance == "fisher")
    with ctx.precompute():
        forget, retain = _ordered(ctx, importance)
        ratio = _ratio(
            squared_gradients(model, forget, importance, batch_size),
            squared_gradients(model, retain + forget, importance, batch_size),
        )
    dampen(model, ctx, ratio, chosen, dampening)
    return model


# Not one_shot: the importance is one of batches, so that it depends on their order.
@method(
    "lfssd",
    access=Access.BOTH,
    source="arXiv:2402.19308",
    family="editing",
    year=2024,
    check=Check(quick={"alpha": 1.2}, probes={"alpha": 1.5, "dampening": 0.1, "batch_size": 7}),
)
def lfssd(
    model: nn.Module,
    ctx: Context,
    *,
    alpha: Annotated[PositiveFloat | None, Tunable(1.0, 100.0, log=True)] = None,
    dampening: PositiveFloat = 1.0,
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Dampen by the sensitivity of the outputs' squared norm; labels only sort the batches.

    Args:
        alpha: How many times more a weight must matter to F; at n_D / n_F and above hardly any
            does: see ``bound`` in the log. None: SSD's 10, or half of that bound if less; its
            own published values were not read. Ours.
        dampening: The paper's lambda; smaller dampens more. Official code.
        batch_size: Examples whose gradients are averaged before the absolute value is taken, of
            R and then F. Labels are read for the order alone: class by class, where whole
            classes are forgotten. Official code.
    """
    chosen = threshold(ctx, alpha, exact=False)
    with ctx.precompute():
        forget, retain = _ordered(ctx, "batch")
        ratio = _ratio(
            output_sensitivity(model, forget.batches(batch_size)),
            output_sensitivity(model, (retain + forget).batches(batch_size)),
        )
    dampen(model, ctx, ratio, chosen, dampening)
    return model


@method(
    "assd",
    access=Access.BOTH,
    source="arXiv:2402.10098",
    family="editing",
    year=2024,
    check=Check(
        one_shot=True,
        probes={
            "batch_size": Probe(7, given={"importance": "batch"}),
            "dampening": 0.1,
            "denominator": Probe("retain", {"dampening": 0.1}),
        },
    ),
)
def assd(
    model: nn.Module,
    ctx: Context,
    *,
    dampening: PositiveFloat = 1.0,
    denominator: Literal["all", "retain"] = "all",
    importance: Importance = "fisher",
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Dampen a share of the weights that follows from the size of F.

    Args:
        dampening: The paper's lambda; smaller dampens more. The authors' notebook for tabular
            data has 0.1. Re-implementation.
        denominator: Whether importance for F is compared with that for ``all`` data, as in SSD,
            or for the ``retain`` set, as in the authors' notebook. Re-implementation.
        importance: ``fisher`` or ``batch``, as for SSD. Ours.
        batch_size: Examples per pass, as for SSD; matters to ``batch`` alone. Official code.
    """
    with ctx.precompute():
        forget, retain = _ordered(ctx, importance)
        other = retain + forget if denominator == "all" else retain
        ratio = _ratio(
            squared_gradients(model, forget, importance, batch_size),
            squared_gradients(model, other, importance, batch_size),
        )
    alpha = adaptive_alpha(ratio.values(), len(forget) / (len(forget) + len(retain)))
    dampen(model, ctx, ratio, alpha, dampening)
    return model


def threshold(ctx: Context, alpha: float | None, *, exact: bool) -> float:
    """Return alpha, by default the published one as far as it can select anything.

    Args:
        ctx: For the sizes of F and D; the bound n_D / n_F on I_F / I_D is logged.
        alpha: As given.
        exact: Whether no ratio can exceed the bound, as with means over examples; with means over
            batches a few may.

    Raises:
        MethodError: If the alpha given would leave every weight as it is.
    """
    bound = (len(ctx.forget) + len(ctx.retain)) / len(ctx.forget)
    ctx.log(bound=bound)
    if alpha is None:
        return min(PUBLISHED_ALPHA, bound / 2)
    # Where F is everything all ratios are 1, and nothing is to change whatever alpha says.
    if exact and len(ctx.retain) and alpha >= bound:
        raise MethodError(
            f"ssd.alpha is {alpha:g}, but no weight can matter to F more than n_D / n_F = "
            f"{bound:.4g} times as much as to all data, of which F is a part: the model would stay "
            "as it is. Give less, or leave ssd.alpha out for half of that"
        )
    return alpha


def dampen(
    model: nn.Module, ctx: Context, ratio: Mapping[str, Tensor], alpha: float, strength: float
) -> None:
    """Multiply the weights whose ratio exceeds ``alpha`` by ``min(1, strength / ratio)``."""
    selected = torch.zeros((), device=ctx.device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            chosen = ratio[name] > alpha
            factor = (strength / ratio[name]).clamp(max=1)
            parameter.mul_(torch.where(chosen, factor.to(parameter.dtype), 1))
            selected += chosen.sum()
    ctx.log(alpha=alpha, selected=selected / sum(p.numel() for p in model.parameters()))


def adaptive_alpha(ratios: Iterable[Tensor], share: float) -> float:
    """Return the value that ln(1 + 100 share) percent of the finite ratios exceed, ties aside.

    Args:
        ratios: I_F / I_D, of any shapes; not finite where no example reaches a weight.
        share: n_F / n_D.
    """
    flat = torch.cat([ratio.flatten() for ratio in ratios])
    flat = flat[flat.isfinite()]
    selected = round(math.log1p(100 * share) / 100 * len(flat))
    # torch.quantile refuses more than 16 million elements.
    return float(flat.kthvalue(len(flat) - selected).values)


def _ratio(forget: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """I_F / I_D by parameter; NaN where both are 0, and then never above any alpha."""
    return {name: forget[name] / other[name] for name in forget}


def _ordered(ctx: Context, importance: Importance) -> tuple[Split, Split]:
    """Return F and R, class by class where batches matter and the official code has them so."""
    if importance == "fisher" or not ctx.forget_classes:
        return ctx.forget, ctx.retain
    return batches_by_class(ctx.forget), batches_by_class(ctx.retain)


def batches_by_class(split: Split) -> Split:
    """Batches in which the examples stand sorted by class."""
    return split.at(split.labels.argsort(stable=True))


def squared_gradients(
    model: nn.Module, split: Split, importance: Importance, batch_size: int
) -> Mapping[str, Tensor]:
    """Squared gradients of single examples, or of batch means as the official code has it."""
    kind: Literal["empirical", "batch"] = "empirical" if importance == "fisher" else "batch"
    return fisher_diagonal(model, split.batches(batch_size), kind=kind)


def output_sensitivity(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Mean over batches of the absolute gradient of the mean squared norm of the logits."""
    total: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        count += 1
        gradient = summed_gradient(model, [batch], lambda logits, _: logits.square().sum(1).mean())
        for name, value in gradient.items():
            total[name] = total.get(name, 0) + value.abs()
    return {name: value / count for name, value in total.items()}
