"""A trained net and its scenario, small enough for probes to train copies of it."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from unlearn_bench.data import splits
from unlearn_bench.data.datasets import load
from unlearn_bench.measure import probes
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.toolkit.context import Split
from unlearn_bench.training import models
from unlearn_bench.training.loop import train
from unlearn_bench.training.small_nets import SmallNet

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=5, batch_size=32, lr=1e-2, warmup=0.2, augment="none")


def trained(build, data, chosen, seed):
    split = Split("train", data, chosen, RECIPE, device=CPU, seed=seed, ledger=Counter())
    model = build(seed)
    train(model, split, RECIPE, seed=seed, step=lambda text: None)
    return model.eval()


@pytest.fixture(scope="session")
def lab():
    """O, trained on all, and G, trained without class 8, both for five epochs."""
    torch.set_num_threads(1)
    data = load("digits")
    indices = splits.make(
        Forget.model_validate("class:8"),
        data.train.labels,
        data.test.labels,
        data.classes,
        validation=0.1,
        seed=0,
    )

    def build(seed):
        return models.build(
            ModelSpec(name="resnet4"), channels=1, image_size=(8, 8), num_classes=10, seed=seed
        )

    return SimpleNamespace(
        data=data,
        indices=indices,
        build=build,
        original=trained(build, data, indices.train, 0),
        retrained=trained(build, data, indices.retain, 1),
        examples=probes.choose(indices, data.train.labels, seed=0),
    )


def plain_net(seed):
    """A network with ReLU and without norms; its features are linear in its last hidden layer."""
    torch.manual_seed(seed)
    layers = [
        *(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(12, 24, 3), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(24 * 2 * 2, 48), nn.ReLU(), nn.Linear(48, 32)),
    ]
    return SmallNet(nn.Sequential(*layers), 32, 10)


@pytest.fixture(scope="session")
def plain(lab):
    """O and G of a network without norms."""
    return SimpleNamespace(
        original=trained(plain_net, lab.data, lab.indices.train, 0),
        retrained=trained(plain_net, lab.data, lab.indices.retain, 1),
    )
