"""DAMP: what the projection removes, what it leaves, and what a convolution's mean patch is."""

import copy
from dataclasses import replace

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.nn.functional import unfold
from unlearn_bench_methods import damp

from unlearn_bench.core.errors import MethodError
from unlearn_bench.plugins import registry
from unlearn_bench.suite.spec import ModelSpec

METHOD = registry.get("damp")


@pytest.fixture
def means():
    return torch.randn(6, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("forgotten", [(2,), (0, 5)])
def test_full_strength_removes_forget_directions_and_keeps_retained_answers(means, forgotten):
    weight = torch.randn(4, 20, dtype=torch.float64)
    basis = damp.directions(means, forgotten, 0.01)
    assert basis.shape == (20, len(forgotten))
    edited = damp.project(weight, basis, 1.0)
    retained = means[[c for c in range(6) if c not in forgotten]]
    assert torch.allclose(edited @ retained.T, weight @ retained.T, atol=1e-10)
    for c in forgotten:
        spanned = retained.T @ torch.linalg.pinv(retained.T) @ means[c]
        assert (edited @ (means[c] - spanned)).norm() < 1e-10
        assert (weight @ (means[c] - spanned)).norm() > 0.1


def test_strength_zero_changes_nothing_and_one_twice_is_once(means):
    weight = torch.randn(4, 20, dtype=torch.float64)
    basis = damp.directions(means, (2,), 0.01)
    assert torch.equal(damp.project(weight, basis, 0.0), weight)
    once = damp.project(weight, basis, 1.0)
    assert torch.allclose(damp.project(once, basis, 1.0), once, atol=1e-12)


def test_no_direction_is_left_where_retained_classes_span_everything(means):
    assert damp.directions(means[:, :4], (2,), 0.01).shape == (4, 0)


def test_classes_without_examples_are_left_out(means):
    means[3] = float("nan")
    basis = damp.directions(means, (2,), 0.01)
    assert basis.shape == (20, 1) and torch.isfinite(basis).all()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, (3, 1), dilation=2),
        nn.Conv2d(4, 6, 1, stride=2),
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.Conv2d(4, 6, 3, padding="valid"),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        Conv2dSame(4, 6, 3, stride=2),
    ],
    ids=str,
)
def test_the_mean_input_of_a_convolution_gives_its_mean_output(conv):
    x = torch.randn(3, 4, 7, 6)
    seen = damp.mean_inputs(conv, x, 3)
    rows = conv.weight.double().flatten(1).chunk(conv.groups)
    outputs = [seen[:, g] @ part.T for g, part in enumerate(rows)]
    found = torch.cat(outputs, 1) + conv.bias.double()
    assert torch.allclose(found, conv(x).double().mean((2, 3)), atol=1e-6)


def test_patches_are_laid_out_as_the_weight_is():
    conv, x = nn.Conv2d(4, 6, 3, padding=1), torch.randn(2, 4, 5, 5)
    slow = unfold(x.double(), 3, padding=1).mean(2)
    assert torch.allclose(damp.mean_inputs(conv, x, 2)[:, 0], slow)


@pytest.mark.parametrize("layer", [nn.Linear(4, 6), nn.Conv2d(4, 6, 3, padding=1, groups=2)])
def test_the_windows_of_an_example_count_as_one(layer):
    shape = (3, 5, 7, 4) if isinstance(layer, nn.Linear) else (3, 5, 4, 7, 6)
    x = torch.randn(shape)  # of each of 3 examples 5 windows
    seen = damp.mean_inputs(layer, x.flatten(0, 1), 3)
    slow = torch.stack([damp.mean_inputs(layer, windows, 5).mean(0) for windows in x])
    assert torch.allclose(seen, slow) and not torch.allclose(seen[0], seen[1], atol=1e-3)


def test_a_layer_whose_rows_are_no_examples_is_refused_by_name():
    model = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 2))
    with (
        pytest.raises(MethodError, match=r"apart in 1: it takes 10 rows for a batch of 3"),
        damp.watching(model, 3, lambda *_: None),
    ):
        model(torch.randn(2, 5, 4))


def test_weights_that_a_layer_standardises_are_refused(class_world):
    task = replace(class_world.task, model=ModelSpec(name="test_nfnet"))
    world = replace(class_world, task=task, original=task.build(0).eval())
    with pytest.raises(MethodError, match="is a ScaledStdConv2d.*standardises"):
        world.unlearn("damp")


def test_strength_zero_leaves_the_model_alone(class_world):
    model = class_world.unlearn("damp", amount=0)
    for mine, theirs in zip(model.parameters(), class_world.original.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_deep_layers_are_edited_more_and_biases_not_at_all(class_world):
    context = class_world.context(METHOD)
    model = copy.deepcopy(class_world.original)
    METHOD.function(model, context, **METHOD.resolve({}))
    strengths = [float(e["strength"]) for e in context.log_entries if "strength" in e]
    assert all(0 <= s <= 1 for s in strengths)
    assert strengths[0] < 0.1 and strengths[-1] > 0.9
    assert torch.equal(model.get_classifier().bias, class_world.original.get_classifier().bias)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_examples_of_no_class_are_refused(random_world):
    assert METHOD.forgets == ("class", "classes")
    with pytest.raises(MethodError, match="whole classes"):
        random_world.unlearn("damp")
