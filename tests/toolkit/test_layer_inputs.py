"""The inputs of a weight, times the weight, are the layer's output."""

import pytest
import torch
from timm.layers import create_conv2d
from timm.layers.std_conv import StdConv2d
from torch import nn

from unlearn_bench.toolkit.layer_inputs import layer_inputs, standardised

CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1, bias=False),
    "strided, which leaves a row over": nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
    "dilated and oblong": nn.Conv2d(4, 6, (3, 1), dilation=2, padding=(2, 0), bias=False),
    "in groups": nn.Conv2d(4, 6, 3, groups=2, bias=False),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4, padding=1, bias=False),
    "padded by name": nn.Conv2d(4, 6, 4, padding="same", bias=False),
    "padded as TensorFlow does": create_conv2d(4, 6, 3, stride=2, padding="same"),
}


@pytest.mark.parametrize("layer", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_patches_times_the_kernel_are_the_output(layer):
    x = torch.randn(2, 4, 8, 7, generator=torch.Generator().manual_seed(0))
    output = layer(x).detach()
    seen = layer_inputs(layer, x, output)
    weight = layer.weight.detach().flatten(1).view(layer.groups, -1, seen.shape[2])
    made = torch.einsum("rgi,goi->rgo", seen, weight).flatten(1)
    torch.testing.assert_close(made, output.flatten(2).transpose(1, 2).flatten(0, 1))


def test_every_token_is_an_input_of_a_linear_layer():
    layer, x = nn.Linear(5, 3, bias=False), torch.randn(2, 7, 5)
    seen = layer_inputs(layer, x, layer(x))
    assert seen.shape == (14, 1, 5) and torch.equal(seen[8, 0], x[1, 1])


def test_a_layer_that_standardises_its_weight_is_named():
    assert standardised(nn.Sequential(nn.Conv2d(1, 1, 1), StdConv2d(1, 1, 1))) == "1"
    assert standardised(nn.Sequential(nn.Conv2d(1, 1, 1))) is None
