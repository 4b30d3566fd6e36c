"""Convolutions of tiny maps as products: the convolution's own numbers, wherever it is used."""

import copy
import itertools
import unittest.mock

import pytest
import torch
from torch import nn

from unlearn_bench.core import small_maps
from unlearn_bench.fisher import fisher_diagonal


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 4), (3, 1)])
def test_logits_and_gradients_are_those_of_the_convolution(size):
    torch.manual_seed(0)
    settings = itertools.product((1, 3, (3, 1)), (1, 2), (0, 1, 2), (1, 2), (True, False))
    tried = 0
    for kernel, stride, padding, dilation, bias in settings:
        plain = nn.Conv2d(5, 7, kernel, stride, padding, dilation, bias=bias).double()
        x = torch.randn(4, 5, *size, dtype=torch.float64)
        try:
            expected = plain(x)
        except RuntimeError:  # the kernel is larger than the padded map
            continue
        quick = small_maps.multiply(copy.deepcopy(plain))
        found = quick(x)
        assert torch.allclose(found, expected, atol=1e-12)
        weights = torch.randn_like(expected)
        for out in (found, expected):
            (out * weights).sum().backward()
        for ours, theirs in zip(quick.parameters(), plain.parameters(), strict=True):
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-12)
        tried += 1
    assert tried > 20


def test_other_convolutions_and_larger_maps_are_left_as_they_are():
    class Own(nn.Conv2d):
        pass

    kept = [
        Own(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.ConvTranspose2d(4, 4, 3),
    ]
    for layer in kept:
        before = dict(vars(layer))
        assert vars(small_maps.multiply(layer)) == before
    plain = nn.Conv2d(4, 4, 3, padding=1)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(small_maps.multiply(copy.deepcopy(plain))(x), plain(x))
    assert torch.equal(plain(x[0]), small_maps.multiply(copy.deepcopy(plain))(x[0]))


def test_inside_the_block_a_model_convolves_and_copies_go_on_multiplying():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    x, convolve = torch.ones(2, 3, 1, 1), nn.Conv2d._conv_forward
    expected = model(x)
    small_maps.multiply(model)
    seen = []

    def noted(layer, *given):
        seen.append(layer)
        return convolve(layer, *given)

    with unittest.mock.patch.object(nn.Conv2d, "_conv_forward", noted):
        with small_maps.convolving(model):
            assert torch.equal(model(x), expected)
        assert seen == [model[0], model[2]]
        changed = copy.deepcopy(model)
        changed[2].bias.data += 1
        assert torch.allclose(model(x), expected, atol=1e-6)
        assert torch.allclose(changed(x), expected + 1, atol=1e-6)
        assert len(seen) == 2


def test_the_fisher_diagonal_reads_the_graph_of_the_convolutions():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4, 3))
    batches = [(torch.randn(5, 3, 1, 1), torch.arange(5) % 3)]
    expected = fisher_diagonal(model, batches, kind="true")
    found = fisher_diagonal(small_maps.multiply(model), batches, kind="true")
    assert found.routes == expected.routes
    assert all(torch.equal(found[name], expected[name]) for name in expected)
