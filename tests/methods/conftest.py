"""Small worlds for methods: 300 digits, a small network trained on them, a context."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from unlearn_bench.conformance import world
from unlearn_bench.conformance.world import World
from unlearn_bench.plugins import registry
from unlearn_bench.toolkit.context import Context

# A quarter of the time of timm's smallest ResNet, though it needs more passes.
SMALL = {
    "architecture": "resnet4",
    "recipe": world.RECIPE.model_copy(update={"epochs": 12, "lr": 1e-2}),
}


def make_world(forget: str, **options: Any) -> World:
    return world.make_world(forget, **SMALL | options)


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


@pytest.fixture(scope="session")
def staged_world() -> World:
    """One whose network has four stages, for what depends on depth; hardly trained."""
    one_epoch = world.RECIPE.model_copy(update={"epochs": 1})
    return make_world("class:8", architecture="test_resnet", recipe=one_epoch)


def accuracies(world: World, model: nn.Module) -> tuple[float, float]:
    """Accuracy on F and on R."""

    def on(name: str) -> float:
        x, y = next(iter(world.split(name).batches(1000)))
        with torch.no_grad():
            return float((model(x).argmax(1) == y).float().mean())

    return on("forget"), on("retain")


def followed(
    world: World, name: str, **params: Any
) -> tuple[list[dict[str, float]], nn.Module, Context]:
    """Run a method and return its log, its model and a context that draws what it has drawn.

    From the context a transcription takes the same batches and random numbers; all else of it is
    its own code.
    """
    method = registry.get(name)
    context = world.context(method)
    model = copy.deepcopy(world.original)
    returned = method.function(model, context, **method.resolve(params))
    log = [{key: float(value) for key, value in entry.items()} for entry in context.log_entries]
    return log, returned, world.context(method)


@pytest.fixture(scope="session")
def exact_world(class_world) -> World:
    """The class world in float64, where a transcription agrees to far more digits."""
    return class_world.exactly()
