"""Controls are what they say: fakes that hide, another retraining, nothing at all."""

import pytest
import torch

from unlearn_bench.api import Access, method
from unlearn_bench.core.errors import PluginError
from unlearn_bench.plugins import registry


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", ["original", "logit_mask", "uniform_on_forget"])
def test_fakes_and_the_original_leave_the_weights_alone(class_world, name):
    assert equal(class_world.unlearn(name), class_world.original)


def test_a_mask_hides_the_classes_and_stays_finite():
    logits = torch.tensor([[5.0, 1.0, 9.0], [-3.0, 2.0, 0.0]], dtype=torch.float64)
    hidden = registry.get("logit_mask").outputs(logits, (2,))
    assert hidden.tolist() == [[5.0, 1.0, -19.0], [-3.0, 2.0, -23.0]]
    assert logits[0, 2] == 9.0, "the caller's logits are changed"
    assert registry.get("logit_mask").outputs(logits, (0, 2)).argmax(1).tolist() == [1, 1]


def test_only_rows_that_name_a_forgotten_class_are_levelled():
    logits = torch.tensor([[5.0, 1.0, 9.0], [-3.0, 2.0, 0.0]], dtype=torch.float64)
    levelled = registry.get("uniform_on_forget").outputs(logits, (2,))
    assert levelled.tolist() == [[0.0, 0.0, 0.0], [-3.0, 2.0, 0.0]]


@pytest.mark.thorough
def test_the_other_retraining_is_another_one(class_world):
    assert not equal(class_world.unlearn("retrain_other_seed"), class_world.original)
    # The harness derives the seed from the method's name; with one seed both are alike.
    assert equal(class_world.unlearn("retrain_other_seed"), class_world.unlearn("retrain"))


def test_a_new_model_is_neither_the_original_nor_trained(class_world):
    model = class_world.unlearn("random_init")
    assert not equal(model, class_world.original)
    x, y = next(iter(class_world.split("retain").batches(1000)))
    with torch.no_grad():
        assert float((model(x).argmax(1) == y).float().mean()) < 0.4


def test_a_method_may_not_hide_behind_its_outputs(own_registry):
    with pytest.raises(PluginError, match='kind="control"'):

        @method("cheat", access=Access.NONE, outputs=lambda logits, classes: logits)
        def cheat(model, ctx):
            return model
