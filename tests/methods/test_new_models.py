"""Where the recipe begins with pre-trained weights, reinitialised layers hold none of them."""

from dataclasses import replace

import pytest
from torch import nn

from unlearn_bench.api import heads
from unlearn_bench.execution.task import Task
from unlearn_bench.suite.recipe import Recipe

# Steps of such length leave every weight as it is.
STILL = {"epochs": 1, "lr": 1e-30, "weight_decay": 0.0, "momentum": 0.0}
PUBLISHED = 7.0  # every weight of what stands in for a download


@pytest.fixture
def unlearn(class_world):
    """Run a method where new models are pre-trained and training does nothing."""

    still = Recipe(epochs=1, lr=1e-30, augment="none")
    task = Pretrained(**vars(class_world.task) | {"recipe": still})
    return replace(class_world, task=task).unlearn


class Pretrained(Task):
    """A task whose recipe begins with weights that stand in for a download."""

    def build(self, seed, pretrained=True):
        model = super().build(seed)
        for parameter in model.parameters() if pretrained else ():
            nn.init.constant_(parameter, PUBLISHED)
        return model


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("kde", {"warmup_epochs": 0, **STILL}),
        ("rni", {"fine_epochs": 0, "drawn": 1, **STILL}),
        ("msg", {"targets": "matrix", **STILL}),
        ("random_init", {}),
    ],
)
def test_a_fresh_initialisation_holds_no_pretrained_weights(unlearn, name, params):
    assert not any((p == PUBLISHED).any() for p in unlearn(name, **params).parameters())


@pytest.mark.parametrize("name", ["retrain", "retrain_other_seed", "eu_k"])
def test_what_follows_the_recipe_begins_with_its_pretrained_weights(unlearn, name):
    assert (heads(unlearn(name))[0].weight == PUBLISHED).all()
