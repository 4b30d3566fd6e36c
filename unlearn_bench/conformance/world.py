"""A world small enough to run a method twenty times in a second or two: a few digits, a tiny net.

Real data and a trained original, so that a method meets what it is made for; images that note who
looked at them, so that nobody reads unseen.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_bench import models, registry
from unlearn_bench.access import SPLITS
from unlearn_bench.context import Context, Split, TrainingLog
from unlearn_bench.cost import Clock
from unlearn_bench.data import splits
from unlearn_bench.data.datasets import Dataset, load
from unlearn_bench.data.images import Part, TensorImages
from unlearn_bench.data.splits import Indices
from unlearn_bench.mechanics.attacks import Pixels
from unlearn_bench.seeds import derive, seed_everything
from unlearn_bench.spec import Forget, ModelSpec, Recipe
from unlearn_bench.training import UpdateLog, train

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=4, batch_size=32, lr=4e-3, warmup=0.2, augment="none")
TEST_EXAMPLES = 20


class WatchedImages(TensorImages):
    """Images that remember which of them were looked at."""

    def __init__(self, data: Tensor) -> None:
        super().__init__(data)
        self.seen = torch.zeros(len(data), dtype=torch.bool)

    def fetch(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices``, and note it."""
        self.seen[indices] = True
        return super().fetch(indices)


class UnreadableImages(TensorImages):
    """Test images: nobody may look at them, and who tries is remembered."""

    def __init__(self, count: int) -> None:
        super().__init__(torch.zeros(count, 1, 8, 8, dtype=torch.uint8))
        self.attempts = 0

    def fetch(self, indices: Tensor) -> Tensor:
        """Refuse.

        Raises:
            AssertionError: Always.
        """
        self.attempts += 1
        raise AssertionError("a method read test images")


@dataclass
class World:
    """One scenario on one dataset with its original model.

    Attributes:
        data: Digits; more training images than the scenario uses, and no readable test images.
        indices: Who is in F, R and V.
        original: Trained on F and R; methods get copies.
        model: Its architecture.
        recipe: What the original was trained by.
        retraining: What `ctx.train` does; fewer epochs where only mechanics are looked at.
        ledger: Examples touched in the last run, by split.
        log: What the original's training did in the batches that held F, once it was asked for.
    """

    data: Dataset
    indices: Indices
    original: nn.Module
    model: str = "test_resnet"
    recipe: Recipe = RECIPE
    retraining: Recipe = RECIPE
    ledger: Counter[str] = field(default_factory=Counter)
    log: TrainingLog | None = None

    @property
    def images(self) -> WatchedImages:
        """The training images."""
        assert isinstance(self.data.train.images, WatchedImages)
        return self.data.train.images

    def build(self, seed: int) -> nn.Module:
        """Return a model with fresh weights."""
        return _build(self.model, self.data.num_classes, seed)

    def split(self, name: str, seed: int = 0, share: float = 1.0) -> Split:
        """Return F, R or V as a method gets it, or a share of it."""
        chosen: Tensor = getattr(self.indices, name)
        if share < 1:
            generator = torch.Generator().manual_seed(derive(seed, name, "share"))
            count = max(1, round(share * len(chosen)))
            chosen = chosen[torch.randperm(len(chosen), generator=generator)[:count]]
        return _split(name, self.data, chosen, derive(seed, name), self.ledger)

    def context(
        self, method: registry.Method, seed: int = 0, context_type: type[Context] = Context
    ) -> Context:
        """Return a context with what the method declares, as the harness would."""
        access = method.access
        shares = {"forget": 1.0, "retain": access.retain_fraction, "validation": 1.0}
        readable = {
            name: self.split(name, seed, shares[name]) for name in SPLITS if getattr(access, name)
        }
        build, recipe = self.build, self.retraining
        return context_type(
            method.name, access, readable, device=CPU, seed=seed,
            num_classes=self.data.num_classes, forget_classes=self.indices.forget_classes,
            build=build, clock=Clock(CPU),
            trainer=lambda model, split, only: train(
                model, split, recipe, seed=seed, step=_silent, only=only
            ),
            pixels=Pixels(torch.tensor(self.data.mean).view(-1, 1, 1),
                          torch.tensor(self.data.std).view(-1, 1, 1)),
            training_log=self.training_log() if access.log else None,
        )  # fmt: skip

    def training_log(self) -> TrainingLog:
        """Return the log of the original's training, which is gone through again for it."""
        if self.log is None:
            model = self.build(0)
            updates = UpdateLog(model, self.indices.forget)
            _train_original(model, self.data, self.indices.train, self.recipe, updates)
            self.log = TrainingLog(updates.change, updates.hits, updates.steps)
        return self.log

    def unlearn(self, name: str, seed: int = 0, **params: Any) -> nn.Module:
        """Return what a registered method makes of a copy of the original."""
        method = registry.get(name)
        self.ledger.clear()
        model = copy.deepcopy(self.original)
        context = self.context(method, seed)
        seed_everything(seed)
        returned: nn.Module = method.function(model, context, **method.resolve(params))
        return returned

    def with_others(self, name: str) -> "World":
        """Return the same world with other examples of the same classes in a split."""
        members: Tensor = getattr(self.indices, name)
        used = torch.cat([self.indices.train, self.indices.validation])
        spare = torch.ones(len(self.data.train.labels), dtype=torch.bool)
        spare[used] = False
        others = members.clone()
        for label in self.data.train.labels[members].unique():
            places = (self.data.train.labels[members] == label).nonzero().squeeze(1)
            free = (spare & (self.data.train.labels == label)).nonzero().squeeze(1)
            others[places] = free[: len(places)]
        return self._with({name: others})

    def reordered(self) -> "World":
        """Return the same world with the examples of each split stored in another order."""
        generator = torch.Generator().manual_seed(1)
        return self._with({
            name: members[torch.randperm(len(members), generator=generator)]
            for name in SPLITS for members in [getattr(self.indices, name)]
        })  # fmt: skip

    def reduced(self, count: int) -> "World":
        """Return the same world with at most ``count`` examples in each split."""
        return self._with({
            name: members[:: -(-len(members) // count)]
            for name in SPLITS for members in [getattr(self.indices, name)]
        })  # fmt: skip

    def _with(self, changed: dict[str, Tensor]) -> "World":
        members = {name: getattr(self.indices, name) for name in SPLITS} | changed
        return replace(self, indices=replace(
            self.indices, forget=members["forget"], retain=members["retain"],
            validation=members["validation"],
        ))  # fmt: skip


@cache
def make_world(
    forget: str, model: str = "test_resnet", *, classes: int = 10, examples: int = 300,
    epochs: int = RECIPE.epochs, retrain_epochs: int = RECIPE.epochs,
) -> World:  # fmt: skip
    """Build a world; the same one for the same arguments.

    Args:
        forget: The scenario, such as ``class:8``.
        model: A timm architecture.
        classes: How many digits there are.
        examples: Training and validation examples.
        epochs: Passes that the original was trained for.
        retrain_epochs: Passes that `ctx.train` makes.
    """
    digits = load("digits")
    kept = (digits.train.labels < classes).nonzero().squeeze(1)
    labels = digits.train.labels[kept]
    test_labels = digits.test.labels[digits.test.labels < classes][:TEST_EXAMPLES]
    data = Dataset(
        "digits", Part(WatchedImages(digits.train.images.fetch(kept)), labels),
        Part(UnreadableImages(len(test_labels)), test_labels), digits.classes[:classes],
        digits.mean, digits.std, "small",
    )  # fmt: skip
    indices = splits.make(
        Forget.model_validate(forget), labels[:examples], test_labels, data.classes,
        validation=0.1, seed=0,
    )  # fmt: skip
    recipe = RECIPE.model_copy(update={"epochs": epochs})
    original = _original(model, data, tuple(indices.train.tolist()), recipe)
    retraining = RECIPE.model_copy(update={"epochs": retrain_epochs})
    return World(data, indices, original, model, recipe, retraining)


_ORIGINALS: dict[tuple[object, ...], nn.Module] = {}


def _original(model: str, data: Dataset, members: tuple[int, ...], recipe: Recipe) -> nn.Module:
    """Train an original once: scenarios that divide the same examples share it."""
    key = (model, data.num_classes, members, recipe.epochs)
    if key not in _ORIGINALS:
        built = _build(model, data.num_classes, 0)
        _train_original(built, data, torch.tensor(members), recipe)
        _ORIGINALS[key] = built
    return _ORIGINALS[key]


def _build(model: str, classes: int, seed: int) -> nn.Module:
    return models.build(
        ModelSpec(name=model), channels=1, image_size=(8, 8), num_classes=classes, seed=seed
    )


def _train_original(
    model: nn.Module, data: Dataset, members: Tensor, recipe: Recipe, log: UpdateLog | None = None
) -> None:
    everyone = _split("train", data, members, 0, Counter())
    train(model, everyone, recipe, seed=0, step=_silent, log=log)


def _split(name: str, data: Dataset, members: Tensor, seed: int, ledger: Counter[str]) -> Split:
    return Split(
        name, data.train, members, mean=data.mean, std=data.std, device=CPU,
        batch_size=RECIPE.batch_size, augment=RECIPE.augment, seed=seed, ledger=ledger,
    )  # fmt: skip


def _silent(text: str) -> None:
    """Nobody watches the training."""
