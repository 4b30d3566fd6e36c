"""What a caller may rely on: the model untouched, bounded streaming, honest refusals."""

import copy

import pytest
import timm
import torch
from torch import nn

from unlearn_bench.core.errors import ModelError
from unlearn_bench.fisher import FisherDiagonal, fisher_diagonal, reference_diagonal
from unlearn_bench.fisher.reference import disagreement
from unlearn_bench.fisher.timing import randomised


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)
    return randomised(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)).double())


def data(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 2, 4, 4, dtype=torch.float64, generator=generator)
    return x, torch.arange(n) % 3


@pytest.mark.parametrize("kind", ["true", "empirical", "monte_carlo", "batch"])
def test_the_model_is_given_back_as_it_was(kind: str) -> None:
    model = net().train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    calls: list[int] = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(model.state_dict())
    objects = [id(p) for p in model.parameters()]
    x, y = data(4)
    x_before, rng = x.clone(), torch.get_rng_state()
    with torch.no_grad():
        got = fisher_diagonal(model, [(x, y)], kind)  # type: ignore[arg-type]
    assert [id(p) for p in model.parameters()] == objects
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert [m.training for m in model] == [True, False, True, True, True, True]
    assert [p.requires_grad for p in model.parameters()] == [True, False] + [True] * 4
    assert torch.equal(model[5].weight.grad, torch.ones_like(model[5].weight))
    assert model[5].bias.grad is None and model[0].weight.grad is None
    assert len(model[0]._forward_hooks) == 1
    assert not any(m._forward_hooks for m in model[1:])
    assert torch.equal(torch.get_rng_state(), rng) and torch.equal(x, x_before)
    assert not any(t.requires_grad for t in got.values())
    # Frozen parameters count, and dropout was off.
    assert float(got["0.bias"].norm()) > 0
    expected = reference_diagonal(model, [(x, y)], kind)
    assert disagreement(got, expected) < 1e-10


def test_the_model_is_given_back_also_after_an_error() -> None:
    model = net().train()
    with pytest.raises(RuntimeError):
        fisher_diagonal(model, [(torch.zeros(2, 5, 4, 4).double(), torch.zeros(2).long())])
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_caches_of_attention_biases_survive() -> None:
    model = timm.create_model("levit_128s", img_size=32, num_classes=3).eval()
    x = torch.randn(2, 3, 32, 32)
    model(x)
    caches = {
        n: m.attention_bias_cache
        for n, m in model.named_modules()
        if hasattr(m, "attention_bias_cache")
    }
    held = {n: list(cache.values()) for n, cache in caches.items()}
    assert any(held.values())
    fisher_diagonal(model, [(x, torch.tensor([0, 1]))], "empirical")
    for n, m in model.named_modules():
        if n in caches:
            assert m.attention_bias_cache is caches[n]
            assert all(
                a is b for a, b in zip(m.attention_bias_cache.values(), held[n], strict=True)
            )


@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_batches_add_up_whatever_their_sizes(kind: str) -> None:
    model, (x, y) = net(), data(8)
    whole = fisher_diagonal(model, [(x, y)], kind)  # type: ignore[arg-type]
    done: list[int] = []
    parts = ((x[a:b], y[a:b]) for a, b in ((0, 1), (1, 4), (4, 4), (4, 6), (6, 8)))
    pieces = fisher_diagonal(model, parts, kind, progress=done.append)  # type: ignore[arg-type]
    assert disagreement(pieces, whole) < 1e-12
    assert done == [1, 4, 6, 8] and pieces.examples == 8


def test_chosen_parameters_alone_are_computed_and_equal() -> None:
    model, batch = net(), data(5)
    whole = fisher_diagonal(model, [batch])
    some = fisher_diagonal(model, [batch], params=["5.bias", "1.weight"])
    assert list(some) == ["1.weight", "5.bias"]
    assert disagreement(some, {name: whole[name] for name in some}) < 1e-12


def test_means_take_the_type_asked_for() -> None:
    model, (x, y) = net().float(), data(4)
    x = x.float()
    whole = fisher_diagonal(model, [(x, y)], dtype=torch.float64)["0.weight"]
    assert whole.dtype == torch.float64
    # Rounded once, at the end: a sum of 300 equal terms in bfloat16 would stand still at 256.
    rounded = fisher_diagonal(model, [(x, y)] * 300, dtype=torch.bfloat16)["0.weight"]
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.double(), whole, rtol=2**-8, atol=0)


def test_monte_carlo_depends_on_the_seed_alone() -> None:
    model, batch = net(), data(5)

    def draw(seed: int) -> FisherDiagonal:
        return fisher_diagonal(model, [batch], "monte_carlo", samples=3, seed=seed)

    first = draw(1)
    torch.manual_seed(99)
    assert all(torch.equal(draw(1)[name], t) for name, t in first.items())
    assert disagreement(draw(2), first) > 1e-3


def test_a_model_whose_examples_influence_each_other_is_refused() -> None:
    mixing = nn.BatchNorm2d(4, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), mixing, nn.Flatten(), nn.Linear(16, 3)).double()
    with pytest.raises(ModelError, match="depends on the others"):
        fisher_diagonal(model, [data(4)])


def test_a_model_without_logits_is_refused() -> None:
    with pytest.raises(ModelError, match=r"returns \(4, 3, 2, 2\) for 4 inputs"):
        fisher_diagonal(nn.Conv2d(2, 3, 3).double(), [data(4)])


def test_gradient_checkpointing_is_refused_with_a_remedy() -> None:
    model = timm.create_model("test_resnet", num_classes=3)
    model.set_grad_checkpointing(True)
    batch = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    with pytest.raises(ModelError, match="switch it off"):
        fisher_diagonal(model, [batch])
    model.set_grad_checkpointing(False)
    assert fisher_diagonal(model, [batch]).examples == 2
