"""Convolutions of tiny maps as products: the convolution's own numbers, wherever it is used."""

import copy
import itertools

import pytest
import torch
from torch import nn

from unlearn_bench.measure.probes import small_maps


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
        quick = small_maps.quicken(copy.deepcopy(plain))
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
    assert [type(small_maps.quicken(layer)) for layer in kept] == [type(layer) for layer in kept]
    plain = nn.Conv2d(4, 4, 3, padding=1)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(small_maps.quicken(copy.deepcopy(plain))(x), plain(x))
    assert torch.equal(plain(x[0]), small_maps.quicken(copy.deepcopy(plain))(x[0]))
