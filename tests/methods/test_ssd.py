"""SSD, LFSSD and ASSD against their formulas, and in the corners where nothing may change."""

import copy
import math

import pytest
import torch

from unlearn_bench import registry

PARTS = registry.get("ssd").function.__globals__
NAMES = ["ssd", "lfssd", "assd"]


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def importance(model, x, y):
    """The mean of squared gradients, one example after another."""
    total = [torch.zeros_like(p) for p in model.parameters()]
    for i in range(len(x)):
        # Twice the same example: BatchNorm's backward pass is unreliable for a single one.
        log_p = torch.log_softmax(model(torch.stack([x[i], x[i]])), 1)[:, y[i]].mean()
        for sums, g in zip(total, torch.autograd.grad(log_p, [*model.parameters()]), strict=True):
            sums += g.square() / len(x)
    return torch.cat([sums.flatten() for sums in total])


def test_weights_are_dampened_by_the_ratio_of_per_example_importances(class_world):
    forget = next(iter(class_world.split("forget").batches(1000)))
    retain = next(iter(class_world.split("retain").batches(1000)))
    both = [torch.cat(pair) for pair in zip(forget, retain, strict=True)]
    model = copy.deepcopy(class_world.original)
    i_f, i_d = importance(model, *forget), importance(model, *both)
    expected = flat(model) * torch.where(i_f > 3 * i_d, (0.5 * i_d / i_f).clamp(max=1), 1)
    found = flat(class_world.unlearn("ssd", alpha=3, dampening=0.5))
    # In float32 a few weights at the very threshold may fall on the other side.
    close = torch.isclose(found, expected, rtol=1e-3, atol=1e-7)
    assert close.float().mean() > 0.999
    assert (found != flat(model)).float().mean() > 0.01


@pytest.mark.parametrize("name", ["ssd", "lfssd"])
def test_an_alpha_that_none_exceeds_changes_nothing(class_world, name):
    assert torch.equal(flat(class_world.unlearn(name, alpha=1e30)), flat(class_world.original))


@pytest.mark.parametrize("name", NAMES)
def test_a_large_lambda_changes_nothing(class_world, name):
    model = class_world.unlearn(name, dampening=1e30)
    assert torch.equal(flat(model), flat(class_world.original))


def test_no_weight_matters_more_to_a_tenth_than_ten_times_as_much_as_to_all(class_world):
    share = len(class_world.indices.forget) / (
        len(class_world.indices.forget) + len(class_world.indices.retain)
    )
    at_bound = class_world.unlearn("ssd", alpha=1.001 / share)
    assert torch.equal(flat(at_bound), flat(class_world.original))


@pytest.mark.parametrize("name", NAMES)
def test_weights_only_shrink_and_keep_their_signs(class_world, name):
    params = {} if name == "assd" else {"alpha": 1.5}
    before, after = flat(class_world.original), flat(class_world.unlearn(name, **params))
    assert (after.abs() <= before.abs()).all()
    assert ((after == 0) | (after.sign() == before.sign())).all()
    assert (after != before).any()


@pytest.mark.parametrize("name", NAMES)
def test_buffers_are_left_alone(class_world, name):
    after = class_world.unlearn(name)
    for mine, theirs in zip(after.buffers(), class_world.original.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def test_nothing_changes_where_the_forget_set_is_everything(class_world):
    ratio = {n: torch.ones_like(p) for n, p in class_world.original.named_parameters()}
    model = copy.deepcopy(class_world.original)
    PARTS["dampen"](model, class_world.context(registry.get("ssd")), ratio, 1.0, 0.1)
    assert torch.equal(flat(model), flat(class_world.original))


def test_batches_of_one_give_the_per_example_importance(class_world):
    split = class_world.split("forget")
    one = PARTS["_fisher"](class_world.original, split, "batch", 1)
    exact = PARTS["_fisher"](class_world.original, split, "fisher", 64)
    total = torch.cat([exact[name].flatten() for name in exact]).norm()
    difference = torch.cat([(one[name] - exact[name]).flatten() for name in exact]).norm()
    assert difference < 1e-3 * total
    mixed = PARTS["_fisher"](class_world.original, split, "batch", 16)
    assert any(not torch.allclose(mixed[n], exact[n], rtol=0.1) for n in exact)


def test_the_adaptive_share_is_the_published_one():
    ratios = torch.randperm(20_000).double()
    for share in (0.01, 0.1, 0.5):
        alpha = PARTS["adaptive_alpha"]([ratios[:7000], ratios[7000:]], share)
        assert int((ratios > alpha).sum()) == round(math.log(1 + 100 * share) / 100 * 20_000)


def test_ratios_that_are_not_finite_do_not_count():
    ratios = torch.cat([torch.arange(10_000.0), torch.tensor([math.nan, math.inf] * 5000)])
    assert PARTS["adaptive_alpha"]([ratios], 0.1) == 9999 - round(math.log(11) / 100 * 10_000)


def test_a_weight_that_no_example_reaches_stays(class_world):
    model = copy.deepcopy(class_world.original)
    ratio = {n: torch.full_like(p, math.nan) for n, p in model.named_parameters()}
    PARTS["dampen"](model, class_world.context(registry.get("ssd")), ratio, 0.5, 0.1)
    assert torch.equal(flat(model), flat(class_world.original))


def test_labels_do_not_matter_without_labels(class_world):
    x, y = next(iter(class_world.split("forget").batches(16)))
    one = PARTS["_sensitivity"](class_world.original, [(x, y)])
    other = PARTS["_sensitivity"](class_world.original, [(x, (y + 1) % 10)])
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_sensitivity_is_the_absolute_gradient_of_the_squared_norm():
    model = torch.nn.Linear(2, 1, bias=False)
    x = torch.tensor([[1.0, -2.0]])
    found = PARTS["_sensitivity"](model, [(x, torch.zeros(1)), (2 * x, torch.zeros(1))])["weight"]
    # |d (w.x)^2 / dw| = 2 |w.x| |x|, and for 2x four times that.
    expected = 2 * model(x).abs() * x.abs() * (1 + 4) / 2
    assert torch.allclose(found, expected)
