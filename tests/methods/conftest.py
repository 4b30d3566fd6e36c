"""A small world for methods: 300 digits, a small network trained on them, a context."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from unlearn_bench import models, registry
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


class Unreadable:
    """Images that nobody may look at."""

    shape = (1, 8, 8)

    def __len__(self) -> int:
        return 20

    def fetch(self, indices: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a method read test images")


@dataclass
class World:
    data: Dataset
    indices: Indices
    original: nn.Module
    log: TrainingLog | None = None
    architecture: str = "test_resnet"
    recipe: Recipe = RECIPE
    ledger: Counter[str] = field(default_factory=Counter)

    def build(self, seed: int) -> nn.Module:
        return models.build(
            ModelSpec(name=self.architecture), channels=self.data.channels,
            image_size=self.data.image_size, num_classes=self.data.num_classes, seed=seed,
        )  # fmt: skip

    def split(self, name: str, seed: int = 0, share: float = 1.0) -> Split:
        indices = getattr(self.indices, name)
        return Split(
            name, self.data.train, indices[: round(share * len(indices))], mean=self.data.mean,
            std=self.data.std, device=CPU, batch_size=32, augment="none",
            seed=derive(seed, name), ledger=self.ledger,
        )  # fmt: skip

    def context(self, method: registry.Method, seed: int = 0) -> Context:
        names = [n for n in ("forget", "retain", "validation") if getattr(method.access, n)]
        shares = {"retain": method.access.retain_fraction}
        return Context(
            method.name, method.access,
            {name: self.split(name, seed, shares.get(name, 1.0)) for name in names},
            device=CPU, seed=seed, num_classes=self.data.num_classes,
            forget_classes=self.indices.forget_classes,
            training_log=self.log if method.access.log else None,
            build=self.build, clock=Clock(CPU),
            trainer=lambda model, split, only: train(
                model, split, self.recipe, seed=seed, step=print, only=only
            ),
            pixels=Pixels(torch.tensor(self.data.mean).view(-1, 1, 1),
                          torch.tensor(self.data.std).view(-1, 1, 1)),
        )  # fmt: skip

    def unlearn(self, name: str, seed: int = 0, **params: Any) -> nn.Module:
        method = registry.get(name)
        self.ledger.clear()
        model = copy.deepcopy(self.original)
        seed_everything(seed)
        return method.function(model, self.context(method, seed), **method.resolve(params))


def some_digits(count: int = 300) -> Dataset:
    digits = load("digits")
    keep = torch.arange(count)
    train_part = Part(TensorImages(digits.train.images.fetch(keep)), digits.train.labels[keep])
    hidden = Part(Unreadable(), digits.test.labels[:20])
    return Dataset("digits", train_part, hidden, digits.classes, digits.mean, digits.std, "test")


def make_world(
    forget: str, *, data: Dataset | None = None, architecture: str = "test_resnet",
    recipe: Recipe = RECIPE, seed: int = 0,
) -> World:  # fmt: skip
    """Train an original, with a log of what the batches that held F did to it."""
    torch.set_num_threads(1)
    data = data or some_digits()
    indices = splits.make(
        Forget.model_validate(forget), data.train.labels, data.test.labels, data.classes,
        validation=0.1, seed=seed,
    )  # fmt: skip
    world = World(data, indices, nn.Identity(), architecture=architecture, recipe=recipe)
    model = world.build(seed)
    split = Split("train", data.train, indices.train, mean=data.mean, std=data.std, device=CPU,
                  batch_size=32, augment="none", seed=seed, ledger=Counter())  # fmt: skip
    updates = UpdateLog(model, indices.forget)
    train(model, split, recipe, seed=seed, step=print, log=updates)
    world.original = model.eval()
    world.log = TrainingLog(updates.change, updates.hits, updates.steps)
    return world


@pytest.fixture(scope="session")
def worlds() -> Callable[..., World]:
    """``worlds(forget, data=..., architecture=..., recipe=..., seed=...)`` makes another."""
    return make_world


@pytest.fixture(scope="session")
def class_world() -> World:
    return make_world("class:8")


@pytest.fixture(scope="session")
def classes_world() -> World:
    return make_world("classes:1,7")


@pytest.fixture(scope="session")
def random_world() -> World:
    return make_world("random:0.1")
