"""Every method runs on a windowed transformer, a depthwise network and one without norms.

Twenty images of noise in five classes and a network that has seen them once are enough to see that.
On a plain transformer the conformance checks run every method.
"""

import pytest
import torch

from unlearn_bench.conformance.world import World
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.data.images import Part, TensorImages
from unlearn_bench.plugins import registry
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec

# Two stages of its four and a quarter as wide as it usually is: windows, shifted, and merged. A
# suite cannot say the depths: it passes on single numbers only.
SWIN = ModelSpec(name="swin_tiny_patch4_window7_224").model_copy(
    update={
        "args": {"embed_dim": 24, "window_size": 4, "depths": (2, 2), "num_heads": (3, 6)},
    }
)
ARCHITECTURES = [
    SWIN,
    # Depthwise convolutions with squeeze and excitation, as in MobileNets, in five blocks.
    pytest.param(ModelSpec(name="test_efficientnet"), marks=pytest.mark.thorough),
    ModelSpec(name="lenet"),
    pytest.param(ModelSpec(name="mobilenetv3_small_050"), marks=pytest.mark.heavy),
]
METHODS = [name for name, entry in registry.methods().items() if entry.kind == "method"]


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda model: model.name)
def world(request, worlds) -> World:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 1, 16, 16), generator=generator, dtype=torch.uint8)
    part = Part(TensorImages(images), torch.arange(20) % 5)
    data = Dataset("noise", part, part, tuple("abcde"), (0.5,), (0.25,), "test")
    return worlds(
        "class:3",
        data=data,
        architecture=request.param,
        recipe=Recipe(epochs=1, batch_size=10, augment="none"),
    )


@pytest.mark.parametrize("name", METHODS)
def test_it_runs_and_gives_back_a_moved_model_of_the_same_make(world, name):
    entry = registry.get(name)
    start = world.of(entry, entry.check.quick).original
    before = {key: tensor.clone() for key, tensor in start.state_dict().items()}
    model = world.unlearn(name, **entry.check.quick)
    after = model.state_dict()
    assert {key: tensor.shape for key, tensor in after.items()} == {
        key: tensor.shape for key, tensor in before.items()
    }
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert entry.check.may_rest or any(not torch.equal(after[key], before[key]) for key in before)
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["cfw", "msg"])
def test_surgery_reaches_matrices_of_every_architecture(world, name):
    model = world.unlearn(name, epochs=1, targets="matrix")
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
