"""What every registered method must keep to, whatever it does."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearn_bench import registry

METHODS = sorted(registry.methods())
CHANGING = [name for name, entry in registry.methods().items() if entry.kind != "control"]

# Enough to move every weight, few enough for a test.
SHORT = {"epochs": 1, "min_steps": 0, "stop_accuracy": None}


# One-shot edits that draw nothing: another seed gives the same weights.
WITHOUT_CHANCE = {"ssd", "lfssd", "assd", "damp"}
# Edits and partial trainings that leave some weights as they are, as they should.
PARTIAL = {"ssd", "lfssd", "assd", "damp", "cf_k", "eu_k", "neg_merge"}
PARTIAL |= {"mu_mis"}  # the input gradient of a network of ReLUs does not know its biases


def short(name: str) -> dict[str, Any]:
    entry = registry.get(name)
    known = entry.schema.model_fields
    return {key: value for key, value in SHORT.items() if key in known} | dict(entry.quick)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def results(class_world):
    """Each method run once, with the state before and after."""
    cache: dict[str, Any] = {}

    def run(name: str):
        if name not in cache:
            before = state(class_world.original)
            model = class_world.unlearn(name, **short(name))
            assert equal(before, state(class_world.original)), "the original was changed"
            cache[name] = (before, model, dict(class_world.ledger))
        return cache[name]

    return run


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_gives_same_weights(name, results, class_world):
    _, model, _ = results(name)
    torch.rand(7)  # what others draw in between must not matter
    again = class_world.unlearn(name, **short(name))
    assert equal(state(model), state(again))


@pytest.mark.parametrize("name", CHANGING)
def test_another_seed_gives_other_weights(name, results, class_world):
    _, model, _ = results(name)
    again = class_world.unlearn(name, seed=1, **short(name))
    assert equal(state(model), state(again)) is (name in WITHOUT_CHANCE)


@pytest.mark.parametrize("name", CHANGING)
def test_parameters_really_change(name, results):
    before, model, _ = results(name)
    parameters = dict(model.named_parameters())
    moved = [p for p in parameters if not torch.equal(before[p], parameters[p].detach())]
    if name in PARTIAL:
        assert moved
    else:
        assert len(moved) == len(parameters), f"unmoved: {sorted(set(parameters) - set(moved))}"


@pytest.mark.parametrize("name", METHODS)
def test_shapes_and_dtypes_are_kept_and_all_is_finite(name, results):
    before, model, _ = results(name)
    after = state(model)
    assert after.keys() == before.keys()
    for key, tensor in after.items():
        assert tensor.shape == before[key].shape and tensor.dtype == before[key].dtype
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", METHODS)
def test_modes_and_flags_are_restored(name, results):
    _, model, _ = results(name)
    assert not any(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    assert norms and all(norm.track_running_stats for norm in norms)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", METHODS)
def test_only_declared_splits_are_read_and_declared_ones_matter(name, results):
    _, _, touched = results(name)
    access = registry.get(name).access
    declared = {n for n in ("forget", "retain", "validation") if getattr(access, n)}
    assert set(touched) == declared


@pytest.mark.parametrize("name", METHODS)
def test_no_storage_is_shared_with_the_original(name, results, class_world):
    _, model, _ = results(name)
    theirs = {tensor.data_ptr() for tensor in class_world.original.state_dict().values()}
    assert not theirs & {tensor.data_ptr() for tensor in model.state_dict().values()}


@pytest.mark.parametrize("world", ["classes_world", "random_world"])
@pytest.mark.parametrize("name", METHODS)
def test_several_classes_and_random_examples_can_be_forgotten(name, world, request):
    if world.partition("_")[0] not in registry.get(name).forgets:
        pytest.skip(f"{name} is not made for this")
    model = request.getfixturevalue(world).unlearn(name, **short(name))
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_is_documented(name):
    for parameter in registry.get(name).parameters():
        assert len(parameter.meaning) > 10, f"{name}.{parameter.name} is not explained"


def test_a_method_that_reads_test_images_would_be_caught(class_world):
    with pytest.raises(AssertionError, match="test images"):
        class_world.data.test.images.fetch(torch.arange(1))


def test_a_method_that_changes_nothing_would_be_caught(class_world):
    model = copy.deepcopy(class_world.original)
    assert equal(state(model), state(class_world.original))
