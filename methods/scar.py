"""SCAR: move forgotten embeddings into other classes, and hold the rest by images of no class.

Before training, R is read once, for the distribution of each of its classes under the original:
with h the input of the head and t = sign(h) |h|^0.5 (Tukey), the mean mu_c of t and its covariance

    S_c = corr(shrink(shrink(cov_c))),   shrink(A) = A + 3 V1 I + 3 V2 (1 - I),

V1 the mean of A's diagonal, V2 that of what is not 0 beside it, corr(A) = A_ij / sqrt(A_ii A_jj).
A deployment would store these numbers with the model, and never need R again. With u = v / |v|

    d_c(x) = (u(t(x)) - u(mu_c))^T S_c^+ (u(t(x)) - u(mu_c)),

each x of F is given the class that is nearest at its first visit. Then Adam minimises

    lambda_forget * mean over F d_c(x)(x) + lambda_retain * KL(f0(s) || f(s))

over pairs of batches of F and of surrogate images s, which neither F nor R holds: up to six of
surrogates for every batch that F has are an epoch. Surrogates that the original takes for a
forgotten class are left out, and for the others its logits of those classes are lowered to the
least of the batch. After the third epoch and each that follows it looks whether F is forgotten.

The surrogates are images of the dataset that ``surrogate_data:`` names, without their labels; the
paper prefers photographs, such as ImageNet. Where it names none they are made of random numbers
(``surrogate``). The official code shows one batch of F to all those of surrogates before
it takes the next, looks at the accuracy on F after every step from the third epoch on, and treats
single examples by further rules, which are not here.

Source: Bonato, Cotogni and Sabetta 2024, arXiv:2404.12922; particulars as the official code
has them.
"""

import math
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Adam

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Fraction,
    MethodError,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probe,
    SurrogateKind,
    Tunable,
    accuracy,
    check_finite,
    evaluating,
    features_and_logits,
    frozen_copy,
    kl_divergence,
    method,
    surrogate_images,
    training,
)

SHRINKAGE = 3.0
POWER = 0.5
# Batches of surrogates for each of F, and epochs before the first look at F.
SURROGATE_BATCHES, UNWATCHED = 6, 2
# Below this |h| the power is taken as constant: its slope at 0 is infinite.
LEAST = 1e-6


@method(
    "scar",
    access=Access.BOTH | Access.SURROGATE,
    source="arXiv:2404.12922",
    family="metric learning",
    year=2024,
    forgets=("class", "classes"),
    check=Check(
        quick={"epochs": 1, "batch_size": 16, "surrogates": 32},
        probes={
            "surrogate": "gaussian",
            "surrogates": 24,
            "stop_accuracy": Probe(0.0, {"epochs": 4, "lr": 0.05}),
        },
    ),
)
def scar(
    model: nn.Module,
    ctx: Context,
    *,
    surrogate: SurrogateKind = "texture",
    surrogates: Annotated[PositiveInt, Tunable(tune=False)] = 10_000,
    lambda_forget: PositiveFloat = 1.0,
    lambda_retain: PositiveFloat = 5.0,
    temperature: PositiveFloat = 1.0,
    epochs: PositiveInt = 30,
    lr: PositiveFloat = 5e-4,
    weight_decay: NonNegativeFloat = 0.0,
    batch_size: PositiveInt = 1024,
    stop_accuracy: Annotated[Fraction, Tunable(tune=False)] = 0.01,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Move F into other classes' distributions while the original is distilled on surrogates.

    Args:
        surrogate: What the surrogates are where no dataset is named: ``texture``, noise with the
            spectrum of photographs, or ``gaussian`` noise, as one of the official code's. Ours.
        surrogates: How many there are, made or drawn from the named dataset. Official code.
        lambda_forget: Weight of the distance. Official code.
        lambda_retain: Weight of the distillation. Official code.
        temperature: What the original's logits are divided by. Official code.
        epochs: Epochs, as above, at most. Official code.
        lr: Adam step size. Official code.
        weight_decay: L2 penalty. Official code.
        batch_size: Examples of F, and surrogates, per step. Official code.
        stop_accuracy: Stop once accuracy on F, in eval mode, is below this. Official code.
        batch_norm: What BatchNorm does with the batches' statistics. Official code: train.
    """
    if not ctx.forget_classes:
        raise MethodError("scar is here for whole classes; take class: or classes: as scenario")
    teacher = frozen_copy(model)
    with ctx.precompute():
        means, inverses = distributions(model, ctx)
        images = stand_ins(ctx, surrogate, surrogates).to(next(model.parameters()))
    chosen = torch.full((len(ctx.forget),), -1, device=ctx.device)
    rounds = math.ceil(len(ctx.forget) / batch_size)
    forgotten = list(ctx.forget_classes)
    optimizer = Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    for epoch in range(epochs):
        with training(model, batch_norm):
            for (x, _, places), some in meetings(ctx, images, batch_size, rounds):
                embedded, _ = features_and_logits(model, x)
                near = distances(embedded, means, inverses)
                chosen[places] = torch.where(chosen[places] < 0, near.argmin(1), chosen[places])
                lose = lambda_forget * near.gather(1, chosen[places, None]).mean()
                believed, kept = without(teacher(some), forgotten)
                keep = kl_divergence(believed / temperature, model(some)[kept])
                keep = lambda_retain * (keep if kept.any() else torch.zeros_like(keep))
                optimizer.zero_grad(set_to_none=True)
                (lose + keep).backward()
                optimizer.step()
                ctx.log(forget_loss=lose, retain_loss=keep)
        check_finite(lose + keep, "lower scar.lr")
        if epoch >= UNWATCHED and accuracy(model, ctx.forget.batches()) < stop_accuracy:
            break
    return model


def stand_ins(ctx: Context, kind: SurrogateKind, count: int) -> Tensor:
    """Return the surrogates: those of the named dataset, or made-up ones."""
    named = ctx.surrogates
    return surrogate_images(kind, count, ctx.input_shape, ctx.rng) if named is None else named


def meetings(
    ctx: Context, images: Tensor, size: int, rounds: int
) -> Iterator[tuple[tuple[Tensor, Tensor, Tensor], Tensor]]:
    """Yield batches of surrogates for one epoch, each with the next batch of F, as traced."""
    forget = chain.from_iterable(ctx.forget.traced(1, size) for _ in repeat(None))
    for _ in range(rounds):
        order = torch.randperm(len(images), generator=ctx.rng)
        for rows in order.split(size)[:SURROGATE_BATCHES]:
            if not len(rows) == 1 < min(size, len(images)):  # BatchNorm cannot train on it
                yield next(forget), images[rows.to(images.device)]


def without(logits: Tensor, forgotten: list[int]) -> tuple[Tensor, Tensor]:
    """Return what is to be kept of the original's logits [N, C], and of which rows, bool [N].

    Rows that it takes for a forgotten class are left out; in the others those classes are lowered
    to the least logit of all.
    """
    kept = ~torch.isin(logits.argmax(1), torch.tensor(forgotten, device=logits.device))
    left = logits[kept].clone()
    if len(left):
        left[:, forgotten] = left.min()
    return left, kept


def tukey(embedded: Tensor) -> Tensor:
    """Return sign(h) |h|^0.5."""
    return embedded.sign() * embedded.abs().clamp_min(LEAST) ** POWER


def distributions(model: nn.Module, ctx: Context) -> tuple[Tensor, Tensor]:
    """Return the direction of each class's mean, [K, D], and its inverse covariance, [K, D, D].

    The covariance of a class with a single example is taken to be the identity.
    """
    embedded, labels = [], []
    with evaluating(model):
        for x, y in ctx.retain.batches():
            embedded.append(tukey(features_and_logits(model, x)[0]))
            labels.append(y)
    t, y = torch.cat(embedded), torch.cat(labels)
    groups = [t[y == label] for label in y.unique()]
    means = normalize(torch.stack([group.mean(0) for group in groups]))
    identity = torch.eye(t.shape[1]).to(t)
    spreads = [
        correlation(shrunk(shrunk(torch.cov(group.T)))) if len(group) > 1 else identity
        for group in groups
    ]
    return means, torch.linalg.pinv(torch.stack(spreads), hermitian=True)


def shrunk(covariance: Tensor) -> Tensor:
    """Return the covariance [D, D] with its own means added on and beside the diagonal."""
    identity = torch.eye(len(covariance)).to(covariance)
    beside = covariance * (1 - identity)
    count = (beside != 0).sum().clamp_min(1)
    diagonal = SHRINKAGE * covariance.diagonal().mean() * identity
    return covariance + diagonal + SHRINKAGE * beside.sum() / count * (1 - identity)


def correlation(covariance: Tensor) -> Tensor:
    """Return the covariance [D, D] scaled to ones on the diagonal."""
    deviation = covariance.diagonal().clamp_min(torch.finfo(covariance.dtype).tiny).sqrt()
    return covariance / deviation[:, None] / deviation


def distances(embedded: Tensor, means: Tensor, inverses: Tensor) -> Tensor:
    """Return d_c of each embedding [N, D] to each of K distributions, [N, K]."""
    apart = normalize(tukey(embedded))[:, None] - means
    return torch.einsum("nkd,kde,nke->nk", apart, inverses, apart)
