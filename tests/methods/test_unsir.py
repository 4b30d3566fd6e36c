"""UNSIR's noise, what it is mixed with, and whom it cannot forget."""

import copy
import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from unlearn_bench_methods import unsir

from unlearn_bench.core.errors import MethodError
from unlearn_bench.plugins import registry

METHOD = registry.get("unsir")


@pytest.mark.parametrize("penalty", ["norm", "square"])
def test_noise_raises_the_loss_of_its_class_and_leaves_the_model_alone(class_world, penalty):
    model = class_world.original
    before = copy.deepcopy(model.state_dict())
    start = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.full((8,), 8)
    frozen = copy.deepcopy(model).requires_grad_(False)
    noise = unsir.learned(frozen, 8, start, 20, 0.1, penalty, 0.1)
    with torch.no_grad():
        assert cross_entropy(model(noise), labels) > cross_entropy(model(start), labels) + 1
    for state in (model.state_dict(), frozen.state_dict()):
        assert all(torch.equal(before[name], state[name]) for name in before)


def test_the_penalty_is_the_mean_over_images_of_norm_or_square():
    class Flat(torch.nn.Module):
        def forward(self, x):
            return 0 * x.flatten(1)[:, :3]

    start = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]]).view(2, 1, 1, 3)
    # One Adam step tells the sign alone; two tell that the gradient shrinks with the square.
    for penalty in ("norm", "square"):
        moved = unsir.learned(Flat(), 0, start, 30, 0.1, penalty, 1.0)
        assert moved.norm() < start.norm() - 1
    still = unsir.learned(Flat(), 0, start, 30, 0.1, "norm", 0.0)
    assert torch.equal(still, start)


def test_every_retained_class_and_no_forgotten_one_is_represented(classes_world):
    ctx = classes_world.context(METHOD)
    some = unsir.per_class(ctx.retain, 5, ctx.rng)
    counts = some.labels.bincount(minlength=10).tolist()
    assert counts == [0 if label in (1, 7) else 5 for label in range(10)]
    assert torch.isin(some.indices, ctx.retain.indices).all()
    assert torch.equal(classes_world.data.train.labels[some.indices], some.labels)
    everything = unsir.per_class(ctx.retain, 10**6, ctx.rng)
    assert torch.equal(everything.indices, ctx.retain.indices)


def test_noise_keeps_its_label_and_is_spread_over_the_pass(classes_world):
    ctx = classes_world.context(METHOD)
    x = torch.stack([torch.full((1, 8, 8), 100.0 + label) for label in (1, 1, 1, 7, 7, 7)])
    y = torch.tensor([1, 1, 1, 7, 7, 7])
    retain = ctx.retain.subset(40, ctx.rng)
    batches = list(unsir.noisy_batches(retain, x, y, unsir.noise_rows(5, 3, 40, 2), 14, ctx.rng))
    assert len(batches) == math.ceil(40 / 8)
    for images, labels in batches:
        noisy = images[:, 0, 0, 0] >= 100
        assert torch.equal(images[noisy][:, 0, 0, 0] - 100, labels[noisy].float())
        assert not torch.isin(labels[~noisy], torch.tensor([1, 7])).any()
        assert noisy.sum() == 6 and len(images) == 14
    given = torch.cat([labels for _, labels in batches]).bincount(minlength=10)
    assert given[1] == given[7] == 15


def test_each_forgotten_class_gets_noise_of_its_own(classes_world, monkeypatch):
    asked = []
    learned = unsir.learned

    def watched(original, label, start, *rest):
        asked.append((label, float(start.sum())))
        return learned(original, label, start, *rest)

    monkeypatch.setattr(unsir, "learned", watched)
    classes_world.unlearn("unsir", **METHOD.check.quick)
    assert [label for label, _ in asked] == [1, 7]
    assert asked[0][1] != asked[1][1]


def test_single_examples_cannot_be_forgotten(random_world):
    with pytest.raises(MethodError, match="whole classes"):
        random_world.unlearn("unsir", **METHOD.check.quick)


def test_both_phases_are_run_each_with_its_own_step_size(class_world):
    quick = dict(METHOD.check.quick)
    plain = class_world.unlearn("unsir", **quick)
    for change in ({"impair_lr": 1e-3}, {"repair_lr": 1e-3}, {"repair_epochs": 0}, {"copies": 3}):
        other = class_world.unlearn("unsir", **quick | change)
        assert not torch.equal(plain.classifier.weight, other.classifier.weight), change


def test_batches_stay_within_their_size_where_images_are_few(classes_world):
    ctx = classes_world.context(METHOD)
    x = torch.randn(6, *next(ctx.retain.batches(1))[0].shape[1:])
    few = ctx.retain.at(torch.arange(4))
    rows = unsir.noise_rows(20, 6, 4, 1)
    batches = list(unsir.noisy_batches(few, x, torch.ones(6, dtype=torch.long), rows, 8, ctx.rng))
    assert max(len(labels) for _, labels in batches) == 9  # 124 examples in 16 batches
    assert sum(len(labels) for _, labels in batches) == 4 + 20 * 6


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_no_batch_is_empty_whose_loss_would_be_nan(batch_size, classes_world):
    ctx = classes_world.context(METHOD)
    x = torch.randn(6, *next(ctx.retain.batches(1))[0].shape[1:])
    few, rows = ctx.retain.at(torch.arange(4)), unsir.noise_rows(1, 6, 4, 1)
    batches = unsir.noisy_batches(
        few, x, torch.ones(6, dtype=torch.long), rows, batch_size, ctx.rng
    )
    assert min(len(labels) for _, labels in batches) > 0


def test_by_default_noise_keeps_its_published_share_of_the_images():
    rows = unsir.noise_rows
    # At the published size, nine classes of 1000 images, these are the official 20 copies of 256.
    full = rows(None, 256, 9000, 1)
    assert len(full) == 20 * 256 and set(full.bincount().tolist()) == {20}
    few = rows(None, 256, 245, 2)
    assert len(few) == 2 * 139
    assert (few < 256).sum() == 139, "the classes have unequal shares"
    assert torch.equal(rows(3, 4, 245, 1).bincount(), torch.full((4,), 3))


def test_by_default_most_of_a_small_impair_epoch_is_real(class_world):
    model = copy.deepcopy(class_world.original)
    ctx = class_world.context(METHOD)
    params = {"noise_steps": 2, "batch_size": 64, "repair_epochs": 0}
    METHOD.function(model, ctx, **METHOD.resolve(params))
    impaired = [entry for entry in ctx.log_entries if "impair_loss" in entry]
    assert len(impaired) <= 7  # 20 copies of 256 would make it 84
