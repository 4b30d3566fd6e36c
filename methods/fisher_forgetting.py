"""Fisher forgetting: add noise to every weight, more where the retain set needs it less.

    theta_j <- theta_j + sqrt(alpha * F_j^(-power)) * n_j,    n_j ~ N(0, 1)

with F the diagonal of the true Fisher information on R: the mean over x in R of
sum_c p(c|x) (d log p(c|x) / d theta_j)^2. Beyond this formula the official code averages the
variance over each unit's inputs, multiplies it by ten in the head and in vectors
(``official_scaling``), and where whole classes are forgotten draws their rows of the head around 0
(``reset_rows``). The default is that code's: its alpha of 1e-6 belongs to exponent 1 and to these
steps, and does nothing without them.

On small networks it forgets a part: on digits a third of F is still recognised (retain accuracy
99.5 %), and more noise takes R with it (alpha 3e-6: 17 / 91.5, 1e-5: 6 / 27).

The noise that minimises the retain loss plus a multiple of what the weights still tell of F has,
for a quadratic loss with Hessian B, covariance proportional to B^(-1/2): from
d/dS [tr(B S) + k tr(S^-1)] = B - k S^-2 = 0. Hence a ``power`` of 0.5, for which alpha must be
chosen again.

Source: Golatkar, Achille and Soatto, CVPR 2020, arXiv:1911.04933.
"""

import torch
from torch import Tensor, nn

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    heads,
    method,
)
from unlearn_bench.fisher import fisher_diagonal

# The Fisher information of a weight that no example needs is 0; the official code's constant.
EPSILON = 1e-8
# Of the rows of the head that are forgotten: the official code's 1e-4, tenfold as its whole head.
RESET_VARIANCE = 1e-3


@method(
    "fisher_forgetting",
    access=Access.RETAIN,
    source="arXiv:1911.04933",
    family="noise",
    year=2020,
    check=Check(one_shot=True, probes={"cap": 1e-3}, speed_only=("batch_size",)),
)
def fisher_forgetting(
    model: nn.Module,
    ctx: Context,
    *,
    alpha: NonNegativeFloat = 1e-6,
    power: PositiveFloat = 1.0,
    cap: PositiveFloat = 1e3,
    official_scaling: bool = True,
    reset_rows: bool = True,
    batch_size: PositiveInt = 64,
) -> nn.Module:
    """Add the noise once.

    Args:
        alpha: Scale of the variance, which goes with ``power``. Official code.
        power: The variance falls with this power of the Fisher information; 0.5 follows from a
            quadratic loss. Official code.
        cap: Largest variance before ``alpha`` scales it, for weights of hardly any Fisher
            information. Official code.
        official_scaling: Average the variance over the inputs of each unit, multiply it by 10 in
            the head and in vectors, and cap the head at a tenth. Official code.
        reset_rows: Also draw the head's rows of the forgotten classes around 0; most of the
            effect on accuracy, and known without any Fisher information. Official code.
        batch_size: Examples per pass; only speed depends on it. Ours.
    """
    with ctx.precompute():
        fisher = fisher_diagonal(model, ctx.retain.batches(batch_size), kind="true")
    head = {id(p) for layer in heads(model) for p in layer.parameters()}
    added = torch.zeros((), device=ctx.device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            last = id(parameter) in head
            limit = cap / 10 if last and official_scaling else cap
            variance = alpha * (fisher[name] + EPSILON).pow(-power).clamp(max=limit)
            if official_scaling and variance.dim() > 1:
                variance = variance.mean(1, keepdim=True).expand_as(parameter).clone()
            if official_scaling and (last or variance.dim() == 1):
                variance = 10 * variance
            if reset_rows and last:
                forgotten = list(ctx.forget_classes)
                parameter[forgotten] = 0
                variance[forgotten] = RESET_VARIANCE
            noise = variance.sqrt() * _normal(parameter, ctx.rng)
            parameter.add_(noise.to(parameter.dtype))
            added += noise.square().sum()
    ctx.log(noise=added.sqrt())
    return model


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like.device)
