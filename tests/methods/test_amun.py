"""AMUN: which adversarial examples are made, and what is trained on."""

import copy

import pytest
import torch
from unlearn_bench_methods import amun

from unlearn_bench.api import Pixels, l2_pgd
from unlearn_bench.plugins import registry


def inside(function):
    return getattr(amun, function)


@pytest.fixture(scope="module")
def attack(class_world):
    """F, its nearest adversarial examples, their labels and radii, and the pixels' space."""
    x, y = next(iter(class_world.split("forget").batches(1000)))
    space = class_world.context(registry.get("amun")).pixels
    model = copy.deepcopy(class_world.original)
    found = inside("nearest_adversarial")(model, x, y, space, 0.04, 10)
    for p, q in zip(
        model.state_dict().values(), class_world.original.state_dict().values(), strict=True
    ):
        assert torch.equal(p, q), "the attack changed the model"
    assert all(p.grad is None for p in model.parameters())
    return x, y, *found, space


def nearest(x, moved, space):
    """For each moved image the distance in pixels to the nearest clean one."""
    return torch.cdist(space.of(moved).flatten(1), space.of(x).flatten(1)).min(1).values


def test_all_labels_are_the_originals_and_wrong(class_world, attack):
    x, y, x_adv, y_adv, _, _ = attack
    assert len(x_adv) == len(x)
    assert (y_adv != y[0]).all()
    with torch.no_grad():
        assert torch.equal(class_world.original(x_adv).argmax(1), y_adv)


def test_radii_are_doublings_and_hold_the_examples(attack):
    x, _, x_adv, _, radii, space = attack
    doublings = (radii / 0.04).log2()
    assert torch.allclose(doublings, doublings.round(), atol=1e-4)
    assert (nearest(x, x_adv, space) <= radii + 1e-4).all()
    assert radii.unique().numel() > 1, "a fixed radius is not AMUN"


def test_it_stops_at_the_first_step_beyond_the_boundary():
    """Two classes apart by a plane of unit normal, at known distances from the images."""

    class Plane(torch.nn.Module):
        def forward(self, x):
            beyond = 4 * (x.flatten(1).sum(1) / 8 - 4.5)  # 64 pixels: all ones / 8 is a unit
            return torch.stack([-beyond, beyond], 1)

    space = Pixels(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    x = torch.tensor([0.5, 0.53, 0.56]).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    distance = 4.5 - x.flatten(1).sum(1) / 8  # 0.50, 0.26, 0.02
    found, labels, radii = inside("nearest_adversarial")(
        Plane(), x, torch.zeros(3).long(), space, 0.04, 50
    )
    assert (labels == 1).all()
    walked = (found - x[[2, 1, 0]]).flatten(1).norm(dim=1)  # the nearest is found first
    beyond = walked - distance[[2, 1, 0]]
    assert (beyond > 0).all() and (beyond <= radii / 10 + 1e-5).all()
    assert radii.tolist() == pytest.approx([0.04, 0.32, 0.64])


def test_half_the_radius_flips_few(class_world, attack):
    x, y, x_adv, _, radii, space = attack
    assert nearest(x, x_adv, space).max() > 0.04
    owners = torch.cdist(space.of(x_adv).flatten(1), space.of(x).flatten(1)).argmin(1)
    half = radii / 2
    moved = l2_pgd(
        class_world.original,
        x[owners],
        y[owners],
        space,
        radius=half,
        step=half / 10,
        iterations=10,
    )
    with torch.no_grad():
        assert (class_world.original(moved).argmax(1) == y[owners]).float().mean() > 0.8


def test_what_is_misclassified_already_stays_as_it_is(class_world, attack):
    x, y, *_, space = attack
    wrong = (y + 1) % 10
    found, labels, radii = inside("nearest_adversarial")(
        class_world.original, x[:4], wrong[:4], space, 0.04, 2
    )
    assert torch.equal(found, x[:4]) and (radii == 0).all()
    assert torch.equal(labels, class_world.original(x[:4]).argmax(1))


@pytest.mark.parametrize("scenario", ["classes:1,7", "classes:1,2,3,7,8"])
def test_no_forgotten_class_is_taught_for_another(worlds, scenario):
    world = worlds(scenario)
    context = world.context(registry.get("amun"))
    images, labels = inside("adversarial_set")(world.original, context, 0.04, 10)
    assert len(images) == len(world.indices.forget)
    assert not torch.isin(labels, torch.tensor(world.indices.forget_classes)).any()
    with torch.no_grad():
        assert torch.equal(world.original(images).argmax(1), labels)


def test_a_mistake_for_another_forgotten_class_does_not_stay(class_world, attack):
    x, _, *_, space = attack
    seen = class_world.original(x[:4]).argmax(1)
    true, others = (seen + 1) % 10, (8, 9)
    assert torch.isin(seen, torch.tensor(others)).all()
    _, labels, radii = inside("nearest_adversarial")(
        class_world.original, x[:4], true, space, 0.04, 10, others
    )
    assert (radii > 0).all() and not torch.isin(labels, torch.tensor(others)).any()


def test_an_example_that_nothing_flips_is_left_out(attack):
    x, y, *_, space = attack

    class Stubborn(torch.nn.Module):
        def forward(self, x):
            return x.mean((1, 2, 3))[:, None] * 0 + torch.eye(10)[8]

    found, labels, _ = inside("nearest_adversarial")(Stubborn(), x[:3], y[:3], space, 0.04, 1)
    assert len(found) == len(labels) == 0


SHORT = {"epochs": 1, "iterations": 5, "radius": 0.64}


@pytest.mark.parametrize(("world", "own_labels"), [("class_world", False), ("random_world", True)])
def test_forgotten_classes_are_not_taught_again(world, own_labels, request):
    world = request.getfixturevalue(world)
    size = len(world.indices.forget)
    world.unlearn("amun", **SHORT)
    # One pass for the attack, and one for training where F keeps its labels.
    assert (world.ledger["forget"] > 1.5 * size) is own_labels
    world.unlearn("amun", keep_forget=not own_labels, **SHORT)
    assert (world.ledger["forget"] > 1.5 * size) is not own_labels


def test_without_retain_nothing_of_it_is_read(class_world):
    for keep in (True, False):
        class_world.unlearn("amun", use_retain=False, keep_forget=keep, **SHORT)
        assert class_world.ledger["retain"] == 0


def test_batches_keep_their_size_with_adversarial_examples_among_them(class_world):
    method = registry.get("amun")
    context = class_world.context(method)
    params = method.resolve({"batch_size": 27, **SHORT})
    method.function(copy.deepcopy(class_world.original), context, **params)
    total = len(class_world.indices.retain) + len(class_world.indices.forget)
    assert abs(len(context.log_entries) - total / 27) <= 1
