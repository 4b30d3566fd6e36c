"""CF-k and EU-k: what is trained, what stays to the bit, and when EU-k is retraining."""

from dataclasses import fields, replace

import pytest
import torch
from torch import nn

from unlearn_bench.api import heads, last_layers, tail
from unlearn_bench.execution.task import Task
from unlearn_bench.plugins import registry

SHORT = {"epochs": 1, "lr": 0.01}
KEPT = SHORT | {"frozen": "eval"}


def differing(world, model):
    """Names of the tensors of the state that changed."""
    before = world.original.state_dict()
    return {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}


def freed(world, k):
    """Names of the state of the last k blocks and the head of a ResNet, from its structure."""
    prefixes = tuple(f"layer{4 - i}." for i in range(k)) + ("fc.",)
    return {name for name in world.original.state_dict() if name.startswith(prefixes)}


@pytest.mark.parametrize("name", ["cf_k", "eu_k"])
@pytest.mark.parametrize("k", [1, 2])
def test_only_the_last_blocks_and_the_head_change(staged_world, name, k):
    model = staged_world.unlearn(name, k=k, unit="blocks", **(KEPT if name == "cf_k" else {}))
    assert differing(staged_world, model) == freed(staged_world, k)


def test_eu_k_over_everything_is_retraining(class_world):
    mine = class_world.unlearn("eu_k", k=99).state_dict()
    theirs = class_world.unlearn("retrain").state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_eu_k_renews_batch_norm_statistics_which_hold_the_forget_set(staged_world):
    # Without training, the renewed part is that of an untrained model, buffers included.
    part = staged_world.unlearn("eu_k", unit="blocks", k=1).state_dict()
    statistics = [n for n in freed(staged_world, 1) if n.endswith("num_batches_tracked")]
    steps_per_pass = -(-len(staged_world.indices.retain) // 32)
    assert statistics
    for name in statistics:
        assert steps_per_pass - 1 <= int(part[name]) <= steps_per_pass


@pytest.mark.parametrize("name", ["cf_k", "eu_k"])
def test_dropout_of_the_freed_part_is_at_work_and_that_of_the_frozen_part_is_not(
    staged_world, name
):
    class Dropping(Task):
        def build(self, seed, pretrained=True):
            model = super().build(seed, pretrained)
            for part in (model.layer1, model.layer4, model.global_pool):
                part.add_module("dropped", nn.Dropout(0.1))
            return model

    task = Dropping(**{f.name: getattr(staged_world.task, f.name) for f in fields(Task)})
    original = task.build(0)
    original.load_state_dict(staged_world.original.state_dict())
    world = replace(staged_world, task=task, original=original)
    seen = []

    def look(module, inputs):
        frozen = [*module.layer1.modules(), *module.layer3.modules(), module.bn1]
        seen.append(
            (
                [m.training for m in (module.layer4.dropped, module.global_pool.dropped)],
                any(m.training for m in frozen),
            )
        )

    world.original.register_forward_pre_hook(look)
    world.unlearn(name, k=1, unit="blocks", **(KEPT if name == "cf_k" else {}))
    assert seen and all(freed == [True, True] and not frozen for freed, frozen in seen)


def test_cf_k_over_everything_is_finetuning(class_world):
    settings = {"epochs": 2, "batch_size": 64, "momentum": 0.9, "weight_decay": 5e-4, "lr": 0.01}
    constant = {"last_lr": 0.01, "max_norm": 1e9}
    mine = class_world.unlearn("cf_k", k=99, **settings, **constant).state_dict()
    theirs = class_world.unlearn("finetune", **settings).state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_the_head_can_be_frozen_too(staged_world):
    model = staged_world.unlearn("cf_k", k=1, unit="blocks", keep_head=True, **KEPT)
    assert differing(staged_world, model) == {
        name for name in freed(staged_world, 1) if not name.startswith("fc.")
    }


def test_a_pull_keeps_weights_near_the_original(class_world):
    def distance(pull):
        model = class_world.unlearn("cf_k", pull=pull, lr=0.05, epochs=4)
        return sum(
            float((p - q).detach().square().sum())
            for p, q in zip(model.parameters(), class_world.original.parameters(), strict=True)
        )

    assert distance(10.0) < 0.5 * distance(0.0)


def test_statistics_of_trained_norms_can_be_kept(class_world):
    model = class_world.unlearn("cf_k", batch_norm="eval", **KEPT)
    assert not [n for n in differing(class_world, model) if "running" in n]


def test_the_head_is_among_what_is_trained(class_world):
    model = class_world.original
    assert set(heads(model)) <= set(tail(model, 1))


def test_by_default_layers_are_counted_from_the_end(staged_world):
    model = staged_world.original
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    order = [name for name, _ in model.named_parameters()]
    for k in (1, 2, 3, 5):
        moved = differing(staged_world, staged_world.unlearn("cf_k", k=k, **KEPT))
        first = order.index(f"{layers[-k]}.weight")
        assert {n for n in moved if n in order} == set(order[first:])
    assert last_layers(model, len(layers)) == [model]


def test_by_default_frozen_batch_norm_follows_the_retain_set(staged_world):
    moved = differing(staged_world, staged_world.unlearn("cf_k", k=1, **SHORT))
    assert "bn1.running_mean" in moved and "bn1.weight" not in moved


def test_the_rate_restarts_in_cycles_of_doubling_length(class_world, monkeypatch):
    rates = []
    step = torch.optim.SGD.step

    def spy(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    class_world.unlearn("cf_k", epochs=8, batch_size=245)
    half = 0.005 + 0.095 / 2
    quarter, three = 0.005 + 0.095 * (2 + 2**0.5) / 4, 0.005 + 0.095 * (2 - 2**0.5) / 4
    assert rates == pytest.approx([0.1, 0.1, half, 0.1, quarter, half, three, 0.1])


def test_defaults_are_the_settings_of_the_authors():
    expected = {"lr": 0.1, "last_lr": 5e-3, "momentum": 0.9, "weight_decay": 5e-5, "epochs": 30}
    expected |= {"batch_size": 64, "max_norm": 10.0, "unit": "layers"}
    assert expected.items() <= registry.get("cf_k").resolve({}).items()
