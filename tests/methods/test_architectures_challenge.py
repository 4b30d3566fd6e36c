"""Challenge winners, adversarial and masked methods run on transformers, mobile nets and LeNet."""

import copy
from collections import Counter

import pytest
import torch

from unlearn_bench import models, registry
from unlearn_bench.data.images import Part, TensorImages
from unlearn_bench.spec import ModelSpec

ARCHITECTURES = ["test_vit", "mobilenetv3_small_050", "lenet"]
METHODS = ["amun", "cfw", "ct", "fcs", "kde", "l2ul", "msg", "prmq", "rni", "sfron"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def world(request, class_world):
    """40 noise images of 16 x 16 pixels, which LeNet can take; class 3 is to be forgotten."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, 1, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.arange(40) % 5
    everything = torch.arange(40)
    forget, held_out = everything[labels == 3], everything[labels == 4]
    world = copy.copy(class_world)
    world.data = copy.copy(class_world.data)
    object.__setattr__(world.data, "train", Part(TensorImages(images), labels))
    world.ledger = Counter()
    world.indices = copy.copy(class_world.indices)
    for name, value in {
        "forget": forget, "retain": everything[labels < 3], "validation": held_out,
        "forget_classes": (3,),
    }.items():  # fmt: skip
        object.__setattr__(world.indices, name, value)
    world.build = lambda seed: models.build(
        ModelSpec(name=request.param), channels=1, image_size=(16, 16), num_classes=10, seed=seed
    )
    world.original = world.build(0).eval()
    return world


@pytest.mark.parametrize("name", METHODS)
def test_it_moves_the_weights_and_keeps_them_finite(world, name):
    entry = registry.get(name)
    model = world.unlearn(name, **entry.quick)
    before, after = world.original.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert any(not torch.equal(after[key], before[key]) for key in after)
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["cfw", "msg"])
def test_surgery_reaches_matrices_of_every_architecture(world, name):
    params = {"epochs": 1, "targets": "matrix"}
    model = world.unlearn(name, **params)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
