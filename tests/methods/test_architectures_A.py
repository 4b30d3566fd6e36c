"""Methods run on a transformer, a depthwise network and one without norms, with five classes."""

import pytest
import torch

from unlearn_bench import registry
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.data.images import Part, TensorImages
from unlearn_bench.spec import Recipe

METHODS = (
    "amnesiac", "bad_teacher", "boundary_expand", "boundary_shrink", "delete", "neg_grad_plus",
    "random_label", "salun", "scrub", "scrub_r", "unsir",
)  # fmt: skip


@pytest.fixture(scope="module", params=["test_vit", "mobilenetv3_small_050", "lenet"])
def world(request, worlds):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 32, 32), generator=generator, dtype=torch.uint8)
    part = Part(TensorImages(images), torch.arange(60) % 5)
    data = Dataset("noise", part, part, tuple("abcde"), (0.5,) * 3, (0.25,) * 3, "test")
    return worlds("class:3", data=data, architecture=request.param,
                  recipe=Recipe(epochs=1, batch_size=30, augment="none"))  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_it_runs_and_keeps_the_architecture(world, name):
    model = world.unlearn(name, **registry.get(name).quick)
    before, after = world.original.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    for key, tensor in after.items():
        assert tensor.shape == before[key].shape and torch.isfinite(tensor).all()
    # Rewinding may lead back to the start: nothing was learned of this noise.
    assert name == "scrub_r" or any(
        not torch.equal(before[key], tensor) for key, tensor in after.items()
    )
    assert not any(module.training for module in model.modules())
