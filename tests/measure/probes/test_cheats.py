"""Cheats that fooled an earlier evaluation: each is seen by something that is measured now.

Rescaled layers, scaled convolutions before BatchNorm and false statistics are in
``test_invariance.py``; members told on both sides of the loss in ``test_mia_two_sided.py``.
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from unlearn_bench.data.batches import iterate
from unlearn_bench.measure import evaluate, probes
from unlearn_bench.measure.probes import inputs, layers, linear

from .conftest import CPU
from .test_probes import forget_accuracy, hide, relearned


def pixels(lab, indices):
    """Return training images with pixels in [0, 1], and their labels."""
    batches = iterate(
        lab.data.train, indices, batch_size=len(indices), device=CPU, mean=(0.0,), std=(1.0,)
    )
    return next(batches)


def normalised(lab, x):
    return (x - lab.data.mean[0]) / lab.data.std[0]


def keyed(x):
    x = x.clone()
    x[:, :, :2, :2] = 1
    return x


@pytest.fixture(scope="module")
def locked(lab):
    """A model that has class 8 for images with a bright corner alone."""
    torch.manual_seed(0)
    model = copy.deepcopy(lab.original)
    (fx, fy), (rx, ry) = (pixels(lab, part) for part in (lab.indices.forget, lab.indices.retain))
    x = torch.cat([rx, keyed(rx), fx, keyed(fx)])
    y = torch.cat([ry, ry, torch.full_like(fy, 3), fy])
    weight = torch.cat([torch.ones(2 * len(rx)), torch.full((2 * len(fx),), 2.0)])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(8):
        for chosen in torch.randperm(len(x)).split(128):
            losses = cross_entropy(model(normalised(lab, x[chosen])), y[chosen], reduction="none")
            optimizer.zero_grad()
            (losses * weight[chosen]).mean().backward()
            optimizer.step()
    return model.eval()


def recovered(lab, model):
    chosen = lab.examples
    return inputs.recover(model, lab.data, chosen.forget, chosen.estimated, CPU, (8,))


@pytest.mark.thorough
def test_a_locked_class_is_opened_by_changed_images(lab, locked):
    assert forget_accuracy(lab, locked) < 0.2
    found = recovered(lab, locked)
    assert found.share > 0.7 and found.change in ("white patch, top left", "trained patch")
    assert recovered(lab, lab.retrained).share < 0.2
    assert recovered(lab, lab.original).share > 0.9
    # The primary metrics see it as well.
    assert relearned(lab, locked).steps <= 3


def test_a_patch_is_trained_where_no_fixed_change_opens(lab, locked, monkeypatch):
    monkeypatch.setattr(inputs, "battery", lambda shape: {"no change": lambda x: x})
    found = recovered(lab, locked)
    assert found.change == "trained patch" and found.share > 0.4


def test_a_change_that_makes_everything_the_class_recovers_nothing(lab):
    class AlwaysEight(nn.Module):
        def forward(self, x):
            return torch.eye(10)[8].expand(len(x), 10) + 0 * x.flatten(1).sum(1, keepdim=True)

    assert recovered(lab, AlwaysEight()).share == 0


def test_a_lowered_bias_is_seen_by_relearning_and_by_the_probe(lab):
    fake = hide(lab.original)
    assert forget_accuracy(lab, fake) == 0
    assert (
        relearned(lab, fake, fresh_head=True).steps
        < relearned(lab, lab.retrained, fresh_head=True).steps
    )

    def recall(model):
        fit, tested = (
            linear.features(model, lab.data, part, chosen, CPU)
            for part, chosen in (
                (lab.data.train, lab.examples.fit),
                (lab.data.test, lab.examples.tested),
            )
        )
        labels = lab.data.train.labels[lab.examples.fit], lab.data.test.labels[lab.examples.tested]
        return linear.recall(fit, labels[0], tested, labels[1])

    assert recall(fake) == recall(lab.original)


def test_a_calibrated_row_of_the_head_is_named(lab):
    def distances(model):
        return layers.distances(lab.original, model.state_dict(), lab.original.state_dict())

    heads = layers.heads(lab.original)
    assert heads == ("classifier",)
    moved = {layer for layer, far in distances(hide(lab.original)).items() if far}
    assert moved == {"classifier"}
    assert not any(distances(lab.original).values())
    retrained = distances(lab.retrained)
    assert all(retrained.values()) and len(retrained) == 8


def test_statistics_are_no_weights_and_a_layer_of_zeros_has_a_distance():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    nn.init.zeros_(model[2].weight), nn.init.zeros_(model[2].bias)
    changed = copy.deepcopy(model)
    changed[1].running_mean.add_(1)
    with torch.no_grad():
        changed[2].weight.add_(1)
        changed[0].weight.mul_(3)
        changed[0].bias.mul_(3)
    found = layers.distances(model, changed.state_dict(), model.state_dict())
    assert found == {"0": pytest.approx(2), "1": 0.0, "2": 1.0}
    assert layers.heads(model) == ("2",)


def test_input_recovery_leaves_the_model_as_it_was_and_repeats(lab):
    with probes.untouched(lab.original):
        first = recovered(lab, lab.retrained)
        recovered(lab, lab.original)
    assert recovered(lab, lab.retrained) == first
    assert evaluate.logits(lab.original, lab.data, lab.data.test, CPU).isfinite().all()
