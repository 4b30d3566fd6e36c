"""Methods of editing, partial retraining and fine-tuning on other architectures than ResNets."""

from collections import Counter

import pytest
import torch

from unlearn_bench import models, registry
from unlearn_bench.data import splits
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.data.images import Part, TensorImages
from unlearn_bench.spec import Forget, ModelSpec

NAMES = [
    "ssd", "lfssd", "assd", "fisher_forgetting", "influence", "l1_sparse", "cf_k", "eu_k", "jit",
    "neg_merge", "damp", "uam", "mu_mis",
]  # fmt: skip
CLASSES = 4  # nothing may depend on there being ten


ARCHITECTURES = {
    "test_vit": {}, "mobilenetv3_small_050": {}, "lenet": {},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "window_size": 4},  # a quarter as wide
}  # fmt: skip


@pytest.fixture(scope="module", params=ARCHITECTURES)
def world(request, class_world):
    """40 images of noise, an untrained network: enough to see that a method runs."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, 1, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.arange(40) % CLASSES
    names = tuple("abcd")
    data = Dataset("noise", Part(TensorImages(images), labels), class_world.data.test, names,
                   (0.5,), (0.25,), "test")  # fmt: skip
    indices = splits.make(Forget.model_validate("class:2"), labels, labels, names,
                          validation=0.2, seed=0)  # fmt: skip

    class Other(type(class_world)):
        def build(self, seed):
            spec = ModelSpec(name=request.param, args=ARCHITECTURES[request.param])
            return models.build(spec, channels=1, image_size=(16, 16), num_classes=CLASSES,
                                seed=seed)  # fmt: skip

        def context(self, method, seed=0):
            context = super().context(method, seed)
            context.num_classes = CLASSES
            return context

    built = Other(data, indices, torch.nn.Identity(), Counter())
    built.original = built.build(0)
    return built


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_gives_back_a_model_of_the_same_make(world, name):
    before = {n: t.clone() for n, t in world.original.state_dict().items()}
    model = world.unlearn(name, **registry.get(name).quick)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(after[n].shape == before[n].shape for n in before)
    assert all(torch.isfinite(after[n]).all() for n in before)
    assert any(not torch.equal(after[n], before[n]) for n in before)
    assert not any(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
