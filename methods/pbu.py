"""PBU, Partially-Blinded Unlearning: forget classes from the forget data alone.

Bayes' rule gives p(theta | retain) as proportional to p(theta | all) / p(forget | theta). With
a Laplace approximation around the original weights theta0 this becomes the loss

    L(theta) = - alpha * CE(forget)
               + beta  * sum_j F_j (theta_j - theta0_j)^2
               + gamma * sum_j     (theta_j - theta0_j)^2

with F the diagonal of the true Fisher information on the forget data at theta0.

``step: adam`` with ``batch_norm: train``, ``stop_accuracy: null``, ``min_steps: 0`` and
``fisher_examples: null`` is the published algorithm, which the suite ``mnist-pbu-official`` runs.
Adam ignores the loss's scale (but for its eps), so only beta/alpha and gamma/alpha matter. The
published weights for MNIST and ResNet-18, classes 6, 2 and 8, are (alpha, beta, gamma) =
(721, 90, 4001), (631, 100, 4001) and (721, 100, 4001): ratios of about 0.125 and 5.55. It has no
stop rule and lets BatchNorm's running statistics drift on forget-only batches. Both destroy the
model within five epochs, and much of its early forgetting is that drift alone.

``step: trust``, ours and the default, has no learning rate. Each step goes along the gradient of
the ascent at one batch and is as long as it can be while that batch's cross-entropy moves by at
most ``delta`` nats: first twice the last accepted length, then halved until it holds; the very
first length tried is 1e-3 |theta| / |gradient|. With it each weight is pulled back by the share
min(1, 2 length (gamma + beta F_j)) of its way from theta0. The watched part of F is looked at
after every step, so that no step is taken past ``stop_accuracy``. Five more things differ from
the published loss, and reports/pbu has what each is worth:

- ``ascent: odds`` minimises softplus(log p/(1-p)) = -log(1-p) with p the probability of the true
  class, or of all classes that are forgotten together. Either loss moves the log-odds of each
  example; cross-entropy weighs them by 1-p, which in a converged model leaves the direction to the
  few examples that were learned worst, and goes on for ever; ours weighs them by p, which ends
  with each example's forgetting.
- ``others`` holds, on F, the probabilities of the other classes among themselves: it adds
  KL(original || model) over these classes. With weight 1 and ``odds`` the sum is the loss of
  DELETE (``delete``). No step may take more than 0.02 off ``kept``, the correlation over the other
  classes of the logits of its batch with the original's. Without the two, what F loses goes to
  whatever class is easiest to reach, and images of other classes follow.
- The weight of the ascent grows by 5 % with each step. Else a small forget set ends where the
  ascent and what holds it are equal, half remembered.
- ``batch_norm: realigned`` keeps the mean and variance of each batch at BatchNorm's inputs where
  they were, so that forgetting is not a shift against the running statistics. At the end it moves
  those by as much as the weights moved F's: a shift of a channel for F is taken to be one for all
  images. Where the weights have not moved, neither do the statistics, so they do not drift towards
  F. ``aligned`` leaves them and keeps less of the rest. Both stop once F is forgotten with aligned
  batches and in plain eval mode.
- A guard looks at what the steps did to the rest, as far as F shows it: ``kept`` where classes go,
  and where examples of classes that stay go, the share of F that is answered as before. A step
  that ends below 0.6 or 0.95 is taken back and PBU stops with a warning. PBU is published for
  whole classes: examples of all classes it hardly forgets, since it cannot without damage.

Source: Panda, Sourav and Prathosh, AAAI 2025, arXiv:2403.16246.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, softplus
from torch.optim import Adam

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
    Split,
    Tunable,
    accuracy_exceeds,
    aligned,
    check_finite,
    frozen_copy,
    global_norm,
    method,
    realign,
    restore_statistics,
    training,
)
from unlearn_bench.fisher import fisher_diagonal

BatchNorm = Literal["aligned", "realigned", "train", "batch", "eval"]
Log = dict[str, Tensor | float]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Log]]
View = Callable[[Tensor], AbstractContextManager[object]]
FIRST_LENGTH = 1e-3  # of |theta| / |gradient|
HALVINGS = 400
# Nets with BatchNorm had lost 3 to 5 points of the other classes there (reports/pbu).
CORRELATION_KEPT = 0.6
KEPT_FALL = 0.02  # per step
GROWTH = 1.05  # per step
ANSWERS_KEPT = 0.95
ADAM = {"step": "adam", "batch_norm": "batch"}


@method(
    "pbu",
    access=Access.FORGET,
    source="arXiv:2403.16246",
    family="ascent",
    year=2025,
    check=Check(
        quick={"epochs": 1, "min_steps": 4},
        probes={
            "alpha": 0.5,
            "others": 0.0,
            "delta": 0.01,
            "epochs": Probe(6, {"stop_accuracy": None}),
            "min_steps": Probe(30, {"stop_accuracy": None}),
            "lr": Probe(2e-4, ADAM),
            "stop_accuracy": Probe(1.0, {}),
            "stop_every": Probe(1, ADAM | {"stop_accuracy": 1.0}),
            "stop_examples": Probe(2, {"stop_accuracy": 0.5, "min_steps": 16}),
            "fisher_examples": Probe(2, {"beta": 1e3}),
        },
    ),
)
def pbu(
    model: nn.Module,
    ctx: Context,
    *,
    step: Literal["trust", "adam"] = "trust",
    delta: PositiveFloat = 0.5,
    ascent: Literal["odds", "cross_entropy"] = "odds",
    others: NonNegativeFloat = 1.0,
    alpha: PositiveFloat = 1.0,
    beta: NonNegativeFloat = 0.125,
    gamma: NonNegativeFloat = 1.0,
    fisher_examples: PositiveInt | None = 512,
    lr: PositiveFloat = 1e-4,
    batch_size: PositiveInt = 64,
    epochs: PositiveInt = 5,
    min_steps: NonNegativeInt = 100,
    batch_norm: BatchNorm = "realigned",
    stop_accuracy: Annotated[Fraction | None, Tunable(tune=False)] = 0.01,
    stop_every: Annotated[PositiveInt, Tunable(tune=False)] = 8,
    stop_examples: Annotated[PositiveInt, Tunable(tune=False)] = 1000,
) -> nn.Module:
    """Minimise the PBU loss on F.

    Args:
        step: ``trust`` bounds how far each step moves the loss, ``adam`` takes Adam's. Ours;
            paper: adam.
        delta: Nats by which a trust step may move the batch's cross-entropy. Ours.
        ascent: What trust steps climb, ``odds`` or ``cross_entropy``; Adam climbs cross-entropy.
            Ours; paper: cross_entropy.
        others: Weight, in the trust steps' ascent, of the divergence that holds the other classes
            on F. Ours; paper: 0.
        alpha: Weight of the ascent on F, with ``others``; beta and gamma count relative to it.
            Ours: 1, a scale.
        beta: Weight of the Fisher-Mahalanobis term. Paper, as a ratio: 90/721.
        gamma: Weight of the l2 term. Ours: 1; paper, as a ratio: 4001/721 = 5.55.
        fisher_examples: Examples of F that F_j is computed on at most; null takes all (paper).
            Ours: 512.
        lr: Adam step size; trust steps have none. Paper.
        batch_size: Examples per step. Paper.
        epochs: Passes over F at most. Paper.
        min_steps: Go on past ``epochs`` up to this many steps, for small forget sets. Ours;
            paper: 0.
        batch_norm: ``aligned`` normalises by the running statistics and keeps the mean and
            variance of each batch where they were; ``realigned`` also moves the statistics along
            at the end; ``train`` lets the running statistics drift towards F; ``batch`` normalises
            by the batch and leaves them alone; ``eval`` normalises by them. Ours; paper: train.
        stop_accuracy: Stop once accuracy on F, in eval mode, is at most this; null never stops
            early (paper). Ours: 0.01.
        stop_every: Adam steps between looks at that; trust looks after every step. Ours.
        stop_examples: Examples of F that the stop rule looks at. Ours.
    """
    watched = ctx.forget.subset(stop_examples, ctx.rng)
    chosen = ctx.forget
    if fisher_examples is not None:
        chosen = chosen.subset(fisher_examples, ctx.rng)
    with ctx.precompute():
        fisher = fisher_diagonal(model, chosen.batches(batch_size), kind="true")
    hold = _Hold(model, fisher, beta, gamma)
    passes = max(epochs, math.ceil(min_steps / math.ceil(len(ctx.forget) / batch_size)))
    original = frozen_copy(model)
    guard = _Guard(original, ctx.forget_classes)
    stop = _Stop(model, original, watched, stop_accuracy, batch_norm)
    take: Step
    if step == "trust":
        climb = Ascent(ascent, ctx.forget_classes, alpha, others)
        take, every = _TrustRegion(model, hold, delta, climb, guard).step, 1
    else:
        take, every = _adam(model, hold, alpha, lr), stop_every
    # Dropout would differ between the two passes that a trust step compares.
    with training(model, stop.mode, dropout=step == "adam"):
        batches = ctx.forget.epochs(passes, batch_size, augment=False)
        for number, (x, y) in enumerate(batches, start=1):
            with stop.view(x):
                loss, terms = take(x, y)
            ctx.log(**terms)
            if guard.tripped:
                warnings.warn(guard.reason, stacklevel=2)
                break
            if number % every == 0:
                check_finite(loss, "raise pbu.gamma or lower pbu.lr")
                if stop.forgotten():
                    return model
        stop.settle()
        check_finite(loss, "raise pbu.gamma or lower pbu.lr")
    return model


class _Stop:
    """The stop rule, and how BatchNorm sees a batch until it holds.

    Attributes:
        mode: The mode that BatchNorm is trained in.
    """

    def __init__(
        self,
        model: nn.Module,
        original: nn.Module,
        watched: Split,
        accuracy: float | None,
        batch_norm: BatchNorm,
    ) -> None:
        self._model, self._original, self._watched = model, original, watched
        self._accuracy = accuracy
        self._realigns = batch_norm == "realigned"
        self._aligns = batch_norm in ("aligned", "realigned")
        self.mode: BatchNormMode = (
            "eval" if batch_norm == "aligned" or batch_norm == "realigned" else batch_norm
        )

    def view(self, x: Tensor) -> AbstractContextManager[object]:
        """Align BatchNorm's inputs on a batch with the original's while this is entered."""
        return aligned(self._model, self._original, x) if self._aligns else nullcontext()

    def forgotten(self) -> bool:
        """Whether F is, with aligned batches and in plain eval mode; if so, settle."""
        if self._remembered(self.view):
            return False
        self.settle()
        if self._aligns and self._remembered(nullcontext):
            restore_statistics(self._model, self._original)
            return False
        return True

    def settle(self) -> None:
        """Move the running statistics along with the weights, where that is asked for."""
        if self._realigns:
            realign(self._model, self._original, self._watched.batches())

    def _remembered(self, view: View) -> bool:
        watched = self._watched
        return self._accuracy is None or accuracy_exceeds(
            self._model, watched.batches(), self._accuracy, len(watched), view
        )


class _Hold:
    """What ties the weights to where they were: beta F + gamma, per weight."""

    def __init__(
        self, model: nn.Module, fisher: Mapping[str, Tensor], beta: float, gamma: float
    ) -> None:
        self.moving = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.start = {name: p.detach().clone() for name, p in self.moving.items()}
        self.fisher, self.beta, self.gamma = fisher, beta, gamma

    def terms(self) -> tuple[Tensor, Tensor]:
        """Return the Fisher and the l2 term of the loss."""
        mahalanobis = l2 = torch.zeros((), device=next(iter(self.start.values())).device)
        for name, parameter in self.moving.items():
            square = (parameter - self.start[name]).square()
            mahalanobis = mahalanobis + self.beta * (self.fisher[name] * square).sum()
            l2 = l2 + self.gamma * square.sum()
        return mahalanobis, l2

    def pulled(self, name: str, weight: Tensor, length: float) -> Tensor:
        """Return what a step of this length takes off a weight for the two terms."""
        share = (2 * length * (self.gamma + self.beta * self.fisher[name])).clamp(max=1)
        return share * (weight - self.start[name])


class Ascent:
    """What trust steps descend: alpha (ascent + others * divergence), mean over the batch.

    The odds are those of all that is to be forgotten: the true class, and with it all others that
    go, else images of one of them would only be pushed to another.

    Args:
        ascent: ``odds`` or ``cross_entropy``.
        gone: The classes that go; empty if examples of classes that stay do.
        alpha: Weight of all of it.
        others: Weight of KL(original || model) over the classes that stay.
    """

    def __init__(self, ascent: str, gone: tuple[int, ...], alpha: float, others: float) -> None:
        self._ascent, self._gone, self._alpha, self._others = ascent, list(gone), alpha, others
        self._growth = 1.0

    def __call__(self, logits: Tensor, original: Tensor, y: Tensor) -> Tensor:
        """Return the loss of a batch; both logits are [N, classes], y is [N]."""
        goes = torch.zeros_like(logits, dtype=torch.bool)
        goes[:, self._gone] = True
        goes = goes.scatter(1, y[:, None], True)
        if self._ascent == "odds":
            going = logits.masked_fill(~goes, -math.inf).logsumexp(1)
            staying = logits.masked_fill(goes, -math.inf).logsumexp(1)
            climbed = softplus(going - staying).mean()
        else:
            climbed = -cross_entropy(logits, y)
        was = original.masked_fill(goes, -math.inf).log_softmax(1)
        now = logits.masked_fill(goes, -math.inf).log_softmax(1)
        moved = (was.exp() * (was - now).masked_fill(goes, 0)).sum(1).mean()
        loss: Tensor = self._alpha * (self._growth * climbed + self._others * moved)
        self._growth *= GROWTH
        return loss


class _Guard:
    """Sees on F alone what a step does to all the rest, and refuses steps that wreck it.

    Where classes go, the logits of those that stay must keep their correlation, over the classes,
    with the original's. Where examples of classes that stay go, what a step does to their class it
    does to its other examples too, so the original's answers must stay.

    Attributes:
        original: The model as it was.
        tripped: Whether a step was refused.
        reason: What to tell the user then.
    """

    def __init__(self, original: nn.Module, gone: tuple[int, ...]) -> None:
        self.original, self._gone, self.tripped = original, list(gone), False
        self.reason = (
            "pbu stopped before F was forgotten: on F, the logits of the other classes no longer "
            "agree with the original's, so another step would damage those classes"
            if gone
            else "pbu stopped early: F holds examples of classes that stay, and forgetting them "
            "further would damage these classes; PBU is published for whole classes"
        )

    def kept(self, original: Tensor, logits: Tensor) -> float:
        """Return how much of the original's behaviour on a batch is left, at most 1."""
        if not self._gone:
            return float((logits.argmax(1) == original.argmax(1)).double().mean())
        stays = torch.ones(logits.shape[1], dtype=torch.bool)
        stays[self._gone] = False
        if int(stays.sum()) < 3:  # two numbers always correlate
            return 1.0
        ours, theirs = _centred(logits[:, stays]), _centred(original[:, stays])
        return float(cosine_similarity(ours, theirs).mean())

    def near(self, before: float, after: float) -> bool:
        """Whether one step may take so much; answers fall by whole examples, and may."""
        return not self._gone or before - after <= KEPT_FALL

    def judge(self, kept: float) -> None:
        """Refuse a step after which no more than this is left."""
        self.tripped = kept < (CORRELATION_KEPT if self._gone else ANSWERS_KEPT)


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(1, keepdim=True)


def _adam(model: nn.Module, hold: _Hold, alpha: float, lr: float) -> Step:
    """Return the published step, which gives the loss and its three terms."""
    optimizer = Adam(hold.moving.values(), lr=lr)

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Log]:
        climbed = -alpha * cross_entropy(model(x), y)
        mahalanobis, l2 = hold.terms()
        loss = climbed + mahalanobis + l2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss, {"ascent": climbed, "mahalanobis": mahalanobis, "l2": l2}

    return step


class _TrustRegion:
    """Steps that move the cross-entropy of their own batch by at most ``delta`` nats.

    Nor do they take more than ``KEPT_FALL`` off what is kept there of the other classes.
    """

    def __init__(
        self, model: nn.Module, hold: _Hold, delta: float, climb: Ascent, guard: _Guard
    ) -> None:
        self._model, self._hold, self._delta, self._climb = model, hold, delta, climb
        self._guard = guard
        self._length: float | None = None

    def step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Log]:
        """Take one and return the cross-entropy after it, with what there is to log."""
        moving = self._hold.moving
        with torch.no_grad():
            original: Tensor = self._guard.original(x)
        logits = self._model(x)
        found = torch.autograd.grad(
            self._climb(logits, original, y), list(moving.values()), allow_unused=True
        )
        gradient = {
            name: torch.zeros_like(p) if g is None else g
            for (name, p), g in zip(moving.items(), found, strict=True)
        }
        origin = {name: p.detach().clone() for name, p in moving.items()}
        before = cross_entropy(logits.detach(), y)
        kept_before = self._guard.kept(original, logits.detach())
        slope = global_norm(gradient.values())
        check_finite(before + slope, "the original answers F with NaN or infinity")
        if not slope:  # nothing leads up from here: rounding has left no slope
            still: Log = {"cross_entropy": before, "rise": 0.0, "length": 0.0, "kept": kept_before}
            return before, still
        if self._length is None:
            length = FIRST_LENGTH * float(global_norm(origin.values()) / slope)
        else:
            length = 2 * self._length
        with torch.no_grad():
            # A step of length 0 changes nothing, and so many halvings reach it.
            for _ in range(HALVINGS):
                for name, p in moving.items():
                    pulled = self._hold.pulled(name, origin[name], length)
                    p.copy_(origin[name] - length * gradient[name] - pulled)
                moved = self._model(x)
                after = cross_entropy(moved, y)
                # Falls count as well: where the ascent has ended, the pull would lead back at once.
                # NaN fails the comparisons.
                kept = self._guard.kept(original, moved)
                near = self._guard.near(kept_before, kept)
                if near and float((after - before).abs()) <= self._delta:
                    break
                length /= 2
            self._guard.judge(kept)
            if self._guard.tripped:
                for name, p in moving.items():
                    p.copy_(origin[name])
        self._length = length
        terms: Log = {
            "cross_entropy": after,
            "rise": after - before,
            "length": length,
            "kept": kept,
        }
        return after, terms
