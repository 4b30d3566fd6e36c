"""The one training loop: originals, retrained models and `ctx.train` all go through it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unlearn_bench.context import Split
from unlearn_bench.errors import MethodError
from unlearn_bench.seeds import derive, seed_everything
from unlearn_bench.spec import Recipe

Step = Callable[[str], None]


def train(model: nn.Module, split: Split, recipe: Recipe, *, seed: int, step: Step) -> None:
    """Minimise cross-entropy on ``split`` by the recipe, in place; ends in eval mode.

    Args:
        model: On the split's device.
        split: Examples; shuffled anew and augmented in each pass.
        recipe: Optimiser, schedule, epochs.
        seed: Determines dropout and all else that draws from torch's global generator.
        step: Told about each finished epoch.

    Raises:
        MethodError: If the loss stops being finite.
    """
    seed_everything(derive(seed, "training"))
    optimizer = _optimizer(model, recipe)
    steps_per_epoch = math.ceil(len(split) / recipe.batch_size)
    total = recipe.epochs * steps_per_epoch
    warmup = max(1, round(recipe.warmup * total))

    def factor(done: int) -> float:
        rise = min(1.0, (done + 1) / warmup)
        fall = (1 + math.cos(math.pi * done / total)) / 2 if recipe.schedule == "cosine" else 1.0
        return rise * fall

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    for epoch in range(recipe.epochs):
        loss = torch.zeros((), device=split.device)
        for x, y in split.epochs(1, recipe.batch_size):
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
        # Once per epoch: asking a GPU for a number makes it wait.
        _check_finite(loss, epoch, recipe)
        step(f"epoch {epoch + 1}/{recipe.epochs}")
    model.eval()


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr, decay = recipe.lr, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, momentum=recipe.momentum, weight_decay=decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr, weight_decay=decay)
    return torch.optim.Adam(parameters, lr, weight_decay=decay)


def _check_finite(loss: Tensor, epoch: int, recipe: Recipe) -> None:
    if not torch.isfinite(loss):
        raise MethodError(
            f"training diverged: the loss is {loss.item()} after epoch {epoch + 1}; "
            f"lower recipe.lr ({recipe.lr:g}) or set recipe.warmup"
        )
