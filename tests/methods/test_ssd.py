"""SSD, LFSSD and ASSD against their formulas, and in the corners where nothing may change."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from unlearn_bench_methods import ssd

from unlearn_bench.core.errors import MethodError
from unlearn_bench.plugins import registry

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


def bound(world):
    """How many times more a weight can matter to F than to all, by their sizes."""
    return 1 + len(world.indices.retain) / len(world.indices.forget)


BY_BATCHES = [("ssd", {"importance": "batch"}), ("lfssd", {})]


@pytest.mark.parametrize(("name", "params"), BY_BATCHES)
def test_an_alpha_that_none_exceeds_changes_nothing(class_world, name, params):
    model = class_world.unlearn(name, alpha=1e30, **params)
    assert torch.equal(flat(model), flat(class_world.original))


@pytest.mark.parametrize("name", NAMES)
def test_a_large_lambda_changes_nothing(class_world, name):
    model = class_world.unlearn(name, dampening=1e30)
    assert torch.equal(flat(model), flat(class_world.original))


@pytest.mark.parametrize(
    ("name", "params"),
    [("ssd", {}), ("ssd", {"importance": "batch", "batch_size": 5}), ("lfssd", {"batch_size": 5})],
)
def test_no_weight_matters_more_to_a_tenth_than_ten_times_as_much_as_to_all(
    class_world, monkeypatch, name, params
):
    # F has 25 examples and R 245: batches of five divide both.
    assert len(class_world.indices.forget) % 5 == len(class_world.indices.retain) % 5 == 0
    seen = []
    monkeypatch.setattr(ssd, "dampen", lambda model, ctx, ratio, *rest: seen.append(ratio))
    class_world.unlearn(name, **params)
    ratios = torch.cat([ratio.flatten() for ratio in seen[0].values()])
    largest = ratios[ratios.isfinite()].max()
    assert 0.5 * bound(class_world) < largest <= 1.001 * bound(class_world)


@pytest.mark.parametrize("alpha", [1.0, 1e30])
def test_an_alpha_out_of_reach_is_refused(class_world, alpha):
    with pytest.raises(MethodError, match="no weight can matter to F more than n_D / n_F = 10.8"):
        class_world.unlearn("ssd", alpha=alpha * bound(class_world))


@pytest.mark.parametrize(("name", "params"), BY_BATCHES)
def test_the_bound_is_logged_where_batches_may_pass_it(class_world, name, params):
    method = registry.get(name)
    ctx = class_world.context(method)
    model = copy.deepcopy(class_world.original)
    method.function(model, ctx, **method.resolve({"alpha": 20, **params}))
    log = {name: float(value) for entry in ctx.log_entries for name, value in entry.items()}
    assert log["bound"] == pytest.approx(bound(class_world)) and log["alpha"] == 20


@pytest.mark.parametrize("world", ["class_world", "classes_world", "random_world"])
@pytest.mark.parametrize("name", ["ssd", "lfssd"])
def test_alpha_is_the_published_one_as_far_as_it_can_select_anything(request, world, name):
    world = request.getfixturevalue(world)
    ctx = world.context(registry.get(name))
    chosen = ssd.threshold(ctx, None, exact=True)
    assert chosen == pytest.approx(min(10, bound(world) / 2))
    hundredth = SimpleNamespace(forget=range(1), retain=range(99), log=lambda **scalars: None)
    assert ssd.threshold(hundredth, None, exact=True) == 10


@pytest.mark.parametrize(("name", "params"), [("ssd", {}), *BY_BATCHES])
def test_two_classes_of_ten_are_dampened_by_default(classes_world, name, params):
    model = classes_world.unlearn(name, **params)
    assert not torch.equal(flat(model), flat(classes_world.original))


def test_any_alpha_is_taken_where_the_forget_set_is_everything():
    everything = SimpleNamespace(forget=range(9), retain=(), log=lambda **scalars: None)
    assert ssd.threshold(everything, 10.0, exact=True) == 10


@pytest.mark.parametrize(("name", "params"), BY_BATCHES)
def test_batches_go_class_by_class_where_whole_classes_are_forgotten(
    classes_world, random_world, monkeypatch, name, params
):
    seen = []
    like = dict(classes_world.original.named_parameters())
    ones = {name: torch.ones_like(p) for name, p in like.items()}

    def measured(model, batches, *rest, **_):
        read = batches.batches(64) if hasattr(batches, "batches") else batches
        seen.append(torch.cat([y for _, y in read]).tolist())
        return ones

    measure = {"ssd": "squared_gradients", "lfssd": "output_sensitivity"}[name]
    monkeypatch.setattr(ssd, measure, measured)
    classes_world.unlearn(name, **params)
    forget, everything = seen
    assert forget == sorted(forget) and set(forget) == {1, 7}
    retain = everything[: -len(forget)]
    assert retain == sorted(retain) and everything[-len(forget) :] == forget
    seen.clear()
    random_world.unlearn(name, **params)
    stored = random_world.split("forget").labels.tolist()
    assert seen[0] == stored != sorted(stored)


def test_the_order_by_class_keeps_the_stored_order_within_a_class(classes_world):
    split = classes_world.split("retain")
    by_class = ssd.batches_by_class(split)
    same = by_class.indices[by_class.labels == 3]
    assert torch.equal(same, split.indices[split.labels == 3])


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
    ssd.dampen(model, class_world.context(registry.get("ssd")), ratio, 1.0, 0.1)
    assert torch.equal(flat(model), flat(class_world.original))


def test_batches_of_one_give_the_per_example_importance(class_world):
    split = class_world.split("forget")
    one = ssd.squared_gradients(class_world.original, split, "batch", 1)
    exact = ssd.squared_gradients(class_world.original, split, "fisher", 64)
    total = torch.cat([exact[name].flatten() for name in exact]).norm()
    difference = torch.cat([(one[name] - exact[name]).flatten() for name in exact]).norm()
    assert difference < 1e-3 * total
    mixed = ssd.squared_gradients(class_world.original, split, "batch", 16)
    assert any(not torch.allclose(mixed[n], exact[n], rtol=0.1) for n in exact)


def test_the_adaptive_share_is_the_published_one():
    ratios = torch.randperm(20_000).double()
    for share in (0.01, 0.1, 0.5):
        alpha = ssd.adaptive_alpha([ratios[:7000], ratios[7000:]], share)
        assert int((ratios > alpha).sum()) == round(math.log(1 + 100 * share) / 100 * 20_000)


def test_ratios_that_are_not_finite_do_not_count():
    ratios = torch.cat([torch.arange(10_000.0), torch.tensor([math.nan, math.inf] * 5000)])
    assert ssd.adaptive_alpha([ratios], 0.1) == 9999 - round(math.log(11) / 100 * 10_000)


def test_a_weight_that_no_example_reaches_stays(class_world):
    model = copy.deepcopy(class_world.original)
    ratio = {n: torch.full_like(p, math.nan) for n, p in model.named_parameters()}
    ssd.dampen(model, class_world.context(registry.get("ssd")), ratio, 0.5, 0.1)
    assert torch.equal(flat(model), flat(class_world.original))


def test_labels_do_not_matter_without_labels(class_world):
    x, y = next(iter(class_world.split("forget").batches(16)))
    one = ssd.output_sensitivity(class_world.original, [(x, y)])
    other = ssd.output_sensitivity(class_world.original, [(x, (y + 1) % 10)])
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_sensitivity_is_the_absolute_gradient_of_the_squared_norm():
    model = torch.nn.Linear(2, 1, bias=False)
    x = torch.tensor([[1.0, -2.0]])
    found = ssd.output_sensitivity(model, [(x, torch.zeros(1)), (2 * x, torch.zeros(1))])["weight"]
    # |d (w.x)^2 / dw| = 2 |w.x| |x|, and for 2x four times that.
    expected = 2 * model(x).abs() * x.abs() * (1 + 4) / 2
    assert torch.allclose(found, expected)
