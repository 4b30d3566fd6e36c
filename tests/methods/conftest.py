"""Small worlds for methods: 300 digits, a small network trained on them, a context."""

import pytest

from unlearn_bench.conformance.world import World, make_world


@pytest.fixture(scope="session")
def class_world() -> World:
    return make_world("class:8")


@pytest.fixture(scope="session")
def classes_world() -> World:
    return make_world("classes:1,7")


@pytest.fixture(scope="session")
def random_world() -> World:
    return make_world("random:0.1")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """More threads than such small tensors can feed wait for each other."""
    import torch

    torch.set_num_threads(1)
