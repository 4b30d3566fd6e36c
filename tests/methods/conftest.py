"""Small worlds for methods: 300 digits, a small network trained on them, a context."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from unlearn_bench.conformance.world import World, make_world


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


def accuracies(world: World, model: nn.Module) -> tuple[float, float]:
    """Accuracy on F and on R."""

    def on(name: str) -> float:
        x, y = next(iter(world.split(name).batches(1000)))
        with torch.no_grad():
            return float((model(x).argmax(1) == y).float().mean())

    return on("forget"), on("retain")
