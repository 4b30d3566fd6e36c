"""DUCK: pull each forgotten embedding to the nearest centroid of another class.

With h the input of the head and mu_c the mean embedding of the retained examples of class c under
the original, each x of F is given the class c(x) whose centroid is nearest by cosine distance at
its first visit, excluding its own and the forgotten classes. Then Adam minimises

    lambda_forget * mean over F (1 - cos(h(x), mu_c(x))) + lambda_retain * CE(z(x') / T, y')

over pairs of batches of F and R: up to 41 of R for every batch that F has are an epoch. Each ends
with a look at the accuracy on F; below 1 % this phase stops. A repair follows, on larger batches of
R, with a tenth of the pull and the plain retain loss: where classes are forgotten
an epoch is all of R, else up to 20 batches of it for each of F.

The official code shows one batch of F to all those of R before it takes the next; here each batch
of R gets the next one, which is the same where F is a single batch. Where classes are forgotten,
its list of centroids is shorter than that of the labels that it compares with places in it; here
they agree. In the repair the first batch of each epoch chooses centroids again; here they stay.

Source: Cotogni et al. 2023, arXiv:2312.02052; particulars as the official code has them.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probe,
    Tunable,
    accuracy,
    check_finite,
    evaluating,
    features_and_logits,
    method,
    training,
)

# Epochs after which the rate is halved.
MILESTONES = [25, 40]
# Of the repair: the share of the pull that is left, and batches of R for each of F.
PULL_LEFT, REPAIR_BATCHES = 0.1, 20


@method(
    "duck",
    access=Access.BOTH,
    source="arXiv:2312.02052",
    family="metric learning",
    year=2023,
    check=Check(
        quick={"epochs": 1, "repair_epochs": 1, "batch_size": 32, "repair_batch_size": 64},
        probes={
            "epochs": Probe(2, {"stop_accuracy": 0.0}),
            "stop_accuracy": Probe(1.0, {"epochs": 2}),
            "pairs": 2,
            "centroid_batches": 1,
            "repair_batch_size": 20,
        },
    ),
)
def duck(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: Annotated[PositiveInt | None, Tunable(5, 200, log=True)] = None,
    lr: Annotated[PositiveFloat | None, Tunable(1e-5, 1e-2, log=True)] = None,
    batch_size: Annotated[PositiveInt | None, Tunable(32, 1024, log=True)] = None,
    pairs: Annotated[PositiveInt, Tunable(tune=False)] = 41,
    lambda_forget: PositiveFloat = 1.0,
    lambda_retain: PositiveFloat = 1.4,
    temperature: PositiveFloat = 2.0,
    stop_accuracy: Annotated[Fraction, Tunable(tune=False)] = 0.01,
    centroid_batches: Annotated[PositiveInt, Tunable(tune=False)] = 50,
    repair_epochs: NonNegativeInt = 2,
    repair_lr: PositiveFloat = 1e-4,
    repair_batch_size: PositiveInt = 512,
    weight_decay: NonNegativeFloat = 0.0,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Move F to the centroids of other classes while R is kept, then repair.

    Args:
        epochs: Epochs, as above, at most; null takes 200 for classes and 10 for single examples.
            Official code.
        lr: Adam step size, halved after 25 and 40 epochs; null takes 4e-4 for classes and 1e-3
            for single examples. Official code.
        batch_size: Examples of F, and of R, per step; null takes 256 for classes and 1024 for
            single examples. Official code.
        pairs: Batches of R for each of F: 41 on CIFAR-10, 6 on CIFAR-100 and Tiny ImageNet, or as
            many as R has. Official code.
        lambda_forget: Weight of the cosine distance. Official code.
        lambda_retain: Weight of the retain loss. Official code.
        temperature: What logits of R are divided by. Official code.
        stop_accuracy: Stop once accuracy on F, in eval mode, is below this after an epoch.
            Official code.
        centroid_batches: Batches of R whose embeddings make the centroids. Official code.
        repair_epochs: Epochs of the repair. Official code.
        repair_lr: Adam step size of a new optimiser; it falls along a cosine. Official code.
        repair_batch_size: Examples of R per step. Official code.
        weight_decay: L2 penalty. Official code.
        batch_norm: What BatchNorm does with the batches' statistics. Official code: train.
    """
    whole = bool(ctx.forget_classes)
    most = epochs or (200 if whole else 10)
    size = batch_size or (256 if whole else 1024)
    rounds = math.ceil(len(ctx.forget) / size)
    with ctx.precompute():
        taken = islice(ctx.retain.epochs(1, size, augment=False), centroid_batches)
        means = centroids(model, taken, ctx.num_classes)
    absent = means.norm(dim=1) == 0
    chosen = torch.full((len(ctx.forget),), -1, device=ctx.device)

    def pull(embedded: Tensor, labels: Tensor, places: Tensor) -> Tensor:
        """Mean cosine distance to the chosen centroids, chosen now where they are not yet."""
        distances = 1 - normalize(embedded) @ means.T
        with torch.no_grad():
            first = others(distances, labels, absent).argmin(1)
            chosen[places] = torch.where(chosen[places] < 0, first, chosen[places])
        return distances.gather(1, chosen[places, None]).mean()

    optimizer = Adam(model.parameters(), lr or (4e-4 if whole else 1e-3), weight_decay=weight_decay)
    schedule = MultiStepLR(optimizer, MILESTONES, gamma=0.5)
    with training(model, batch_norm):
        for _ in range(most):
            for forget, retain in meetings(ctx, size, size, rounds, pairs):
                embedded, _ = features_and_logits(model, forget[0])
                lose = lambda_forget * pull(embedded, forget[1], forget[2])
                keep = lambda_retain * cross_entropy(model(retain[0]) / temperature, retain[1])
                step(optimizer, lose + keep)
                ctx.log(forget_loss=lose, retain_loss=keep)
            check_finite(lose + keep, "lower duck.lr")
            schedule.step()
            if accuracy(model, ctx.forget.batches()) < stop_accuracy:
                break
        optimizer = Adam(model.parameters(), repair_lr, weight_decay=weight_decay)
        steps = max(1, repair_epochs) * REPAIR_BATCHES * rounds
        cosine = CosineAnnealingLR(optimizer, T_max=steps)
        for _ in range(repair_epochs):
            turns = (1, None) if whole else (rounds, REPAIR_BATCHES)
            for forget, retain in meetings(ctx, size, repair_batch_size, *turns):
                x = torch.cat([forget[0], retain[0]])
                embedded, logits = features_and_logits(model, x)
                n = len(forget[0])
                lose = PULL_LEFT * lambda_forget * pull(embedded[:n], forget[1], forget[2])
                keep = cross_entropy(logits[n:] / temperature, retain[1])
                step(optimizer, lose + keep)
                cosine.step()
                ctx.log(forget_loss=lose, retain_loss=keep)
            check_finite(lose + keep, "lower duck.repair_lr")
    return model


Forgotten = tuple[Tensor, Tensor, Tensor]
Retained = tuple[Tensor, Tensor]


def meetings(
    ctx: Context, forget_size: int, retain_size: int, rounds: int, most: int | None
) -> Iterator[tuple[Forgotten, Retained]]:
    """Yield batches of R, each with the next batch of F.

    Args:
        ctx: With F and R.
        forget_size: Examples of F in a batch.
        retain_size: Examples of R in a batch.
        rounds: Passes over R.
        most: Batches of R in each of these; None takes all.
    """
    # More passes than it takes; those that nobody asks for are never drawn.
    forget = ctx.forget.traced(rounds * len(ctx.retain), forget_size)
    for _ in range(rounds):
        for retain in islice(ctx.retain.epochs(1, retain_size), most):
            yield next(forget), retain


def centroids(model: nn.Module, batches: Iterator[Retained], num_classes: int) -> Tensor:
    """Return the direction of each class's mean embedding, [C, D]; 0 where it has no examples."""
    total = torch.zeros(())
    with evaluating(model):
        for x, y in batches:
            embedded, _ = features_and_logits(model, x)
            total = total.to(embedded) + one_hot(y, num_classes).to(embedded).T @ embedded
    return normalize(total)


def others(distances: Tensor, labels: Tensor, absent: Tensor) -> Tensor:
    """Return distances [N, C], infinite to the example's own class and to absent ones, bool [C]."""
    return distances.scatter(1, labels[:, None], math.inf).masked_fill(absent, math.inf)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
