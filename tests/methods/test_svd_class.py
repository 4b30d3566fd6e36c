"""SVD class forgetting: against the singular value decomposition itself, and in its limits."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import unfold
from unlearn_bench_methods.svd_class import scaled

from unlearn_bench.core.errors import MethodError

from .conftest import followed


def transcription(world, alpha_r=100, alpha_f=3):
    """Yield name and weight of each layer, projected as published, by an SVD of all its inputs."""
    model = copy.deepcopy(world.original).eval()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    seen: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0].detach()}))

    def scaled_projections(split, alpha):
        x, _ = next(split.batches(1000))
        model(x)
        found = {}
        for name, layer in layers.items():
            rows = seen[name]
            if isinstance(layer, nn.Conv2d):
                rows = unfold(rows, layer.kernel_size, 1, layer.padding, layer.stride)
                rows = rows.transpose(1, 2).flatten(0, 1)
            u, s, _ = torch.linalg.svd(rows.T, full_matrices=False)
            share = s**2 / (s**2).sum()
            found[name] = u @ torch.diag(alpha * share / ((alpha - 1) * share + 1)) @ u.T
        return found

    m_r = scaled_projections(world.split("retain"), alpha_r)
    m_f = scaled_projections(world.split("forget"), alpha_f)
    for name, layer in layers.items():
        p = torch.eye(len(m_r[name])) - (m_f[name] - m_f[name] @ m_r[name])
        yield name, (layer.weight.flatten(1) @ p.T).view_as(layer.weight)


def test_every_weight_agrees_with_a_transcription(exact_world):
    everything = {"examples": 10_000, "patches": 10**6}
    _, model, _ = followed(exact_world, "svd_class", **everything)
    for name, weight in transcription(exact_world):
        torch.testing.assert_close(model.get_submodule(name).weight, weight, rtol=1e-6, atol=1e-9)


def test_what_both_fill_stays_and_what_only_the_forgotten_fill_goes():
    forget = torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    retain = torch.diag(torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    large = 1e9
    wanted, unwanted = scaled(retain[None], large)[0], scaled(forget[None], large)[0]
    removed = unwanted - unwanted @ wanted
    assert removed.diagonal().tolist() == pytest.approx([0, 1, 0], abs=1e-6)


def test_a_channel_that_is_never_on_has_no_direction():
    assert scaled(torch.zeros(1, 3, 3, dtype=torch.float64), 3.0).abs().max() == 0


def test_single_examples_are_refused(random_world):
    with pytest.raises(MethodError, match="whole classes"):
        random_world.unlearn("svd_class")
