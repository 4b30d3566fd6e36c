"""BatchNorm aligned with the original, and its running statistics moved along."""

import copy

import pytest
import torch
from torch import nn

from unlearn_bench.toolkit.alignment import aligned, realign, restore_statistics


@pytest.fixture
def original():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)
    )
    for _ in range(20):
        model(torch.randn(16, 1, 8, 8))
    return model.eval()


@pytest.fixture
def x():
    """Images of one kind, whose statistics are not the running ones."""
    return 2 * torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)) + 1


def test_aligning_a_model_with_itself_changes_nothing(original, x):
    model = copy.deepcopy(original)
    with aligned(model, original, x):
        assert torch.allclose(model(x), original(x), atol=1e-5)


def test_a_shift_and_a_scale_of_the_batch_are_taken_back(original, x):
    model = copy.deepcopy(original)
    with torch.no_grad():
        model[0].weight *= 3
        model[0].bias += torch.tensor([1.0, -2, 3, 0])
    assert not torch.allclose(model(x), original(x), atol=0.1)
    with aligned(model, original, x):
        assert torch.allclose(model(x), original(x), atol=1e-3)
        model(x)[:, 0].sum().backward()
    assert model[0].bias.grad.abs().max() < 1e-4


def test_realigned_statistics_give_alone_what_alignment_gives(original, x):
    model = copy.deepcopy(original)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
    with aligned(model, original, x):
        expected = model(x)
    realign(model, original, [(x, x)])
    assert torch.allclose(model(x), expected, atol=1e-4)
    again = [b.clone() for b in model.buffers()]
    restore_statistics(model, original)
    for mine, theirs in zip(model.buffers(), original.buffers(), strict=True):
        assert torch.equal(mine, theirs)
    realign(model, original, [(x, x)])
    for mine, theirs in zip(model.buffers(), again, strict=True):
        assert torch.equal(mine, theirs)


def test_models_are_as_they_were_after_the_block(original, x):
    model = copy.deepcopy(original).train()
    before, mode = model.state_dict(), [m.training for m in model.modules()]
    with aligned(model.eval(), original, x):
        model(x)
    model.train()
    assert [m.training for m in model.modules()] == mode
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in [*model.modules(), *original.modules()])


def test_nets_without_batch_norm_cost_no_further_pass(x):
    passes = []
    original = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    original.register_forward_hook(lambda *_: passes.append(1))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with aligned(model, original, x):
        model(x)
    assert not passes
