"""The same function, written down otherwise: every probe finds what it found before."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from unlearn_bench.measure import evaluate
from unlearn_bench.measure.probes import canonical, linear, relearn

from .conftest import CPU

SCALES = (1e-3, 1e3)


def layers(net):
    """Return the layers of a plain network in order."""
    return [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def mixed(net, place, mix, back):
    """Multiply a layer's outputs by ``mix``, and undo it by ``back`` in what reads them."""
    net = copy.deepcopy(net)
    here, after = layers(net)[place], layers(net)[place + 1]
    with torch.no_grad():
        here.weight.copy_(torch.einsum("oi,i...->o...", mix, here.weight))
        here.bias.copy_(mix @ here.bias)
        # Behind a flattening each channel is read by several columns.
        read = after.weight.view(after.weight.shape[0], len(mix), -1)
        after.weight.copy_(torch.einsum("nik,io->nok", read, back).reshape(after.weight.shape))
    return net


def scaled(net, place, factors):
    return mixed(net, place, factors.diag(), (1 / factors).diag())


def width(net, place):
    return layers(net)[place].weight.shape[0]


def uneven(net, place):
    """Scale every channel by another factor between 1e-3 and 1e3."""
    generator = torch.Generator().manual_seed(place)
    return scaled(net, place, 10 ** (6 * torch.rand(width(net, place), generator=generator) - 3))


def permuted(net, place):
    generator = torch.Generator().manual_seed(place)
    mix = torch.eye(width(net, place))[torch.randperm(width(net, place), generator=generator)]
    return mixed(net, place, mix, mix.T)


def turned(net):
    """Fold an invertible map into the classifier: nothing lies between it and the last layer."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.eye(32) + 0.1 * torch.randn(32, 32, generator=generator)
    return mixed(net, 3, mix, torch.linalg.inv(mix))


def norms(net):
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def scaled_before_norm(net, factor):
    """Scale every convolution whose output BatchNorm normalises."""
    net = copy.deepcopy(net)
    block = net.features[3]
    convolutions = (net.features[0], block.conv1, block.conv2)
    with torch.no_grad():
        for convolution, norm in zip(convolutions, norms(net), strict=True):
            convolution.weight.mul_(factor)
            norm.running_mean.mul_(factor)
            norm.running_var.mul_(factor**2)
    return net


def affine_lowered(net, factor):
    """Lower the affine weights before a ReLU, and raise what reads them."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        norm, block = net.features[1], net.features[3]
        norm.weight.mul_(factor)
        norm.bias.mul_(factor)
        for reader in (block.conv1, block.shortcut):
            reader.weight.div_(factor)
    return net


def shifted(net):
    """Keep false statistics, and affine weights that make up for them."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for norm in norms(net):
            spread = (norm.running_var + norm.eps).sqrt()
            norm.bias.add_(norm.weight * 3)
            norm.running_mean.add_(3 * spread)
            norm.weight.mul_(5)
            norm.running_var.copy_(25 * spread**2 - norm.eps)
    return net


def outputs(lab, net):
    return evaluate.logits(net, lab.data, lab.data.test, CPU)


def found(lab, net):
    """Return what the probes find in a network."""
    options = {"target": 0.9, "seed": 0, "device": CPU, "cap": 60}
    options |= {"retained": lab.examples.estimated}
    args, chosen = (net, lab.data), lab.examples
    rows = {
        name: linear.features(net, lab.data, part, indices, CPU)
        for name, part, indices in (
            ("fit", lab.data.train, chosen.fit),
            ("tested", lab.data.test, chosen.tested),
        )
    }
    return SimpleNamespace(
        own=relearn.relearn(*args, chosen.relearned, chosen.watched, **options).steps,
        fresh=relearn.relearn(
            *args,
            chosen.balanced,
            chosen.watched,
            fresh_head=True,
            others=chosen.others,
            forget_classes=(8,),
            **options,
        ).steps,
        recall=linear.recall(
            rows["fit"],
            lab.data.train.labels[chosen.fit],
            rows["tested"],
            lab.data.test.labels[chosen.tested],
        ),
    )


@pytest.fixture(scope="session")
def before(lab, plain):
    """What the probes find in networks as they are."""
    nets = {"plain": plain, "normed": lab}
    return {
        (kind, which): found(lab, getattr(nets[kind], which))
        for kind in nets
        for which in ("original", "retrained")
    }


def same(lab, net, changed, expected, steps=1):
    torch.testing.assert_close(outputs(lab, changed), outputs(lab, net), rtol=1e-3, atol=1e-3)
    after = found(lab, changed)
    assert abs(after.own - expected.own) <= steps
    assert abs(after.fresh - expected.fresh) <= steps
    assert after.recall == pytest.approx(expected.recall, abs=0.03)


def test_the_probes_have_power_on_these_networks(before):
    for kind in ("plain", "normed"):
        o, g = before[kind, "original"], before[kind, "retrained"]
        assert o.own == 0 and g.own >= 5
        assert o.fresh < 0.7 * g.fresh


@pytest.mark.parametrize(("place", "factor"), list(enumerate(SCALES * 2)))
def test_a_layer_scaled_up_or_down_changes_no_probe(lab, plain, before, place, factor):
    changed = scaled(plain.retrained, place, torch.full((width(plain.retrained, place),), factor))
    same(lab, plain.retrained, changed, before["plain", "retrained"])


@pytest.mark.parametrize("which", ["original", "retrained"])
@pytest.mark.parametrize("change", [uneven, permuted])
def test_channels_scaled_apart_or_moved_change_no_probe(lab, plain, before, change, which):
    net = changed = getattr(plain, which)
    for place in range(4):
        changed = change(changed, place)
    same(lab, net, changed, before["plain", which])


@pytest.mark.parametrize("which", ["original", "retrained"])
def test_a_map_folded_into_the_classifier_keeps_the_probes_within_the_band(
    lab, plain, before, which
):
    net, expected = getattr(plain, which), before["plain", which]
    # Steps are taken along other axes: as near as another retraining, not the same.
    same(lab, net, turned(net), expected, steps=max(1, round(0.3 * expected.fresh)))


# The other way round, the norm's eps would change the function.
@pytest.mark.parametrize(("change", "factor"), [(scaled_before_norm, 1e3), (affine_lowered, 1e-3)])
def test_what_a_norm_undoes_changes_no_probe(lab, before, change, factor):
    same(lab, lab.retrained, change(lab.retrained, factor), before["normed", "retrained"])


@pytest.mark.parametrize("which", ["original", "retrained"])
def test_false_statistics_that_are_made_up_for_change_no_probe(lab, before, which):
    net, expected = getattr(lab, which), before["normed", which]
    same(lab, net, shifted(net), expected, steps=max(1, round(0.3 * expected.fresh)))


def test_units_follow_the_scale_of_their_channels(plain, lab):
    x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    net, changed = plain.original, uneven(plain.original, 1)
    units = [canonical.units(n, x) for n in (net, changed)]
    for a, b, v, w in zip(*units, net.parameters(), changed.parameters(), strict=True):
        torch.testing.assert_close(v / a, w / b, rtol=1e-3, atol=1e-4)


def test_silent_channels_and_constant_features_get_a_finite_unit():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(-1)
    units = canonical.units(net, torch.rand(8, 4))
    assert all(unit.isfinite().all() and (unit > 0).all() for unit in units)
    rows = torch.cat([torch.ones(6, 1), torch.arange(6.0)[:, None]], dim=1)
    standardised = canonical.Standardiser.of(rows[:4], rows)(rows)
    assert standardised[:, 0].tolist() == [0.0] * 6
    assert standardised[:4, 1].std(correction=0) == pytest.approx(1)


def test_norms_without_weights_and_grouped_convolutions_have_units():
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6, affine=False), nn.GroupNorm(2, 6)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.LayerNorm(24), nn.Linear(24, 3)).eval()
    units = canonical.units(net, torch.rand(8, 4, 4, 4))
    assert [unit.shape for unit in units] == [p.shape for p in net.parameters()]
    assert all(unit.isfinite().all() and (unit > 0).all() for unit in units)
    assert len(units[-1].unique()) == 1, "logits are not scaled apart"


def test_a_parameter_of_another_kind_is_measured_in_its_own_size():
    layer = nn.Linear(3, 2).eval()
    layer.gain = nn.Parameter(torch.tensor([[3.0], [4.0]]))
    units = canonical.units(nn.Sequential(layer), torch.rand(8, 3))
    assert units[-1].flatten().tolist() == pytest.approx([12.5**0.5] * 2)


def test_one_example_far_out_does_not_flatten_the_others():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(100, 3, generator=generator)
    forgotten = torch.cat([rows, torch.full((1, 3), 1e9)])
    standardise = canonical.Standardiser.of(rows, forgotten)
    assert standardise(rows).std() == pytest.approx(1, abs=0.1)
    assert standardise(forgotten).max() == canonical.MOST_DEVIATIONS


def test_adam_in_units_of_one_is_adam():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    plain = copy.deepcopy(net)
    ours = canonical.AdamInUnits(net, [torch.ones_like(p) for p in net.parameters()], 0.01)
    theirs = torch.optim.Adam(plain.parameters(), lr=0.01)
    for _ in range(5):
        x = torch.randn(8, 3)
        for model, optimizer in ((net, ours), (plain, theirs)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(net.weight, plain.weight)
