"""The one training loop: originals, retrained models and `ctx.train` all go through it."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unlearn_bench.core.errors import MethodError
from unlearn_bench.core.seeds import derive, seed_everything
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.toolkit.context import Split
from unlearn_bench.training.numerics import computing

Step = Callable[[str], None]


class UpdateLog:
    """Sums what optimiser steps change in the weights when their batch holds a forgotten example.

    One running sum per request: sums per class would count a batch that two classes share twice.

    Args:
        model: The model in training.
        forgotten: Indices into the training part, [M].

    Attributes:
        change: By parameter name, the sum of weights after minus before.
        hits: Steps whose batch held a forgotten example.
        steps: All steps.

    Source: Graves et al. 2020, arXiv:2010.10981.
    """

    def __init__(self, model: nn.Module, forgotten: Tensor) -> None:
        self._parameters = dict(model.named_parameters())
        self._forgotten = forgotten
        # float64: thousands of small steps are summed, and taken off one large weight.
        self.change = {
            name: torch.zeros_like(p, dtype=torch.float64) for name, p in self._parameters.items()
        }
        self.hits = self.steps = 0

    @contextmanager
    def watch(self, members: Tensor) -> Iterator[None]:
        """Watch one step; ``members`` [B] are the indices of its batch."""
        self.steps += 1
        if not torch.isin(members, self._forgotten).any():
            yield
            return
        before = {name: p.detach().clone() for name, p in self._parameters.items()}
        yield
        self.hits += 1
        for name, parameter in self._parameters.items():
            self.change[name] += parameter.detach() - before[name]


class LossWatch:
    """Stops a training whose loss is NaN or infinite, naming the step where that began.

    Args:
        device: Where the losses are. One on the CPU is looked at in each step; asking a GPU for a
            number makes it wait, so there it is once in :data:`STEPS_ON_GPU`.
        recipe: For the advice.
        epoch: The pass that is watched, from 0.
    """

    STEPS_ON_GPU = 25

    def __init__(self, device: torch.device, recipe: Recipe, epoch: int) -> None:
        self._every = 1 if device.type == "cpu" else self.STEPS_ON_GPU
        self._recipe, self._epoch = recipe, epoch
        self._seen = 0
        self._unchecked: list[Tensor] = []

    def see(self, loss: Tensor) -> None:
        """Take note of one step's loss.

        Raises:
            MethodError: If it, or one not yet looked at, is NaN or infinite.
        """
        self._seen += 1
        self._unchecked.append(loss.detach())
        if len(self._unchecked) >= self._every:
            self.check()

    def check(self) -> None:
        """Look at what was not looked at yet.

        Raises:
            MethodError: As :meth:`see`.
        """
        first = self._seen - len(self._unchecked) + 1
        for step, loss in enumerate(self._values(), start=first):
            if not math.isfinite(loss):
                raise MethodError(
                    f"training diverged: the loss is {loss} in epoch {self._epoch + 1}, "
                    f"step {step}; lower recipe.lr ({self._recipe.lr:g}) or set recipe.warmup"
                )
        self._unchecked.clear()

    def _values(self) -> list[float]:
        if len(self._unchecked) <= 1:
            return [loss.item() for loss in self._unchecked]
        values: list[float] = torch.stack(self._unchecked).tolist()
        return values


def train(
    model: nn.Module,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    step: Step,
    only: Sequence[nn.Module] | None = None,
    log: UpdateLog | None = None,
    losses: Callable[[Tensor], None] | None = None,
) -> None:
    """Minimise cross-entropy on ``split`` by the recipe, in place; ends in eval mode.

    Args:
        model: On the split's device.
        split: Examples; shuffled again and augmented in each pass.
        recipe: Optimiser, schedule, epochs.
        seed: Determines dropout and all else that draws from torch's global generator.
        step: Notified of each finished epoch.
        only: Modules of the model to train; the rest keeps its weights and stays in eval mode.
        log: Notified of every optimiser step.
        losses: Receives the mean loss over the steps of each epoch, as a tensor on the device.

    Raises:
        MethodError: If the loss stops being finite; it names epoch and step.
        ParameterError: If the device cannot compute as the recipe says.
    """
    seed_everything(derive(seed, "training"))
    parts = [model] if only is None else list(only)
    optimizer = _optimizer([p for part in parts for p in part.parameters()], recipe)
    total = recipe.epochs * (steps_per_epoch := math.ceil(len(split) / recipe.batch_size))
    warmup = max(1, round(recipe.warmup * total))

    def factor(done: int) -> float:
        rise = min(1.0, (done + 1) / warmup)
        fall = (1 + math.cos(math.pi * done / total)) / 2 if recipe.schedule == "cosine" else 1.0
        return rise * fall

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.eval()
    for part in parts:
        part.train()
    with computing(model, recipe, split.device) as forward:
        for epoch in range(recipe.epochs):
            total_loss = torch.zeros((), device=split.device)
            watch = LossWatch(split.device, recipe, epoch)
            for x, y, positions in split.traced(1, recipe.batch_size):
                loss = cross_entropy(forward(x), y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                total_loss = total_loss + loss.detach()
                with log.watch(split.indices[positions.cpu()]) if log else nullcontext():
                    optimizer.step()
                scheduler.step()
                watch.see(loss)
            watch.check()
            if losses is not None:
                losses(total_loss / steps_per_epoch)
            step(f"epoch {epoch + 1}/{recipe.epochs}")
    model.eval()


def _optimizer(given: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    # A parameter that two parts share is one all the same.
    parameters = list(dict.fromkeys(p for p in given if p.requires_grad))
    # Fused: one pass over the weights takes a fifth of the time of one call per tensor.
    common: dict[str, Any] = {
        "lr": recipe.lr,
        "weight_decay": recipe.weight_decay,
        "fused": True,
    }
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, **common)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, **common)
