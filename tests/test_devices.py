"""Everything runs on a device of its own: no tensor is left on the CPU, and nothing waits for it.

There is no GPU here; :mod:`standin` pretends that there is one. Tests on a real one are marked
``gpu``.
"""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from standin import DEVICE, DeviceMistakeError, StandIn, without_waiting
from torch import nn
from torch.nn.functional import cross_entropy

from unlearn_bench.conformance.world import make_world
from unlearn_bench.data import splits
from unlearn_bench.data.datasets import load
from unlearn_bench.fisher import fisher_diagonal
from unlearn_bench.measure import metrics
from unlearn_bench.measure.lab import Lab
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.plugins import registry
from unlearn_bench.store.store import Store
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.toolkit.context import Split
from unlearn_bench.training import models
from unlearn_bench.training.loop import LossWatch, train

# One of each way to work: plain steps, an optimised mask, Fisher, attacks, searches, surgery.
TRIED_BY_DEFAULT = {"bad_teacher", "boundary_shrink", "cfw", "damp", "pbu", "salun", "ssd"}


@pytest.fixture
def standin():
    with StandIn() as pretended:
        yield pretended


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)).to(DEVICE)


def labels_left_behind():
    x, y = torch.randn(6, 4, device=DEVICE), torch.randint(3, (6,))
    cross_entropy(net()(x), y).backward()


def a_mask_made_without_a_device():
    model = net()
    mask = torch.ones(8, 4)
    model[0].weight.data.mul_(mask)


def a_generator_of_the_cpu():
    torch.randn(3, device=DEVICE, generator=torch.Generator().manual_seed(0))


def numpy_on_the_device():
    net()[0].weight.detach().numpy()


def batches_joined_across_devices():
    torch.cat([torch.zeros(2, 4, device=DEVICE), torch.zeros(2, 4)])


def a_buffer_kept_from_before_the_move():
    model = net()
    before = [p.detach().cpu().clone() for p in model.parameters()]
    sum(((p - q) ** 2).sum() for p, q in zip(model.parameters(), before, strict=True)).backward()


def a_constant_within_per_example_gradients():
    model, scale = net().eval(), torch.ones(3)

    def loss(parameters, x):
        return (torch.func.functional_call(model, parameters, x) * scale).sum()

    per_example = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))
    per_example(dict(model.named_parameters()), torch.randn(5, 4, device=DEVICE))


@pytest.mark.parametrize(
    "mistake",
    [
        labels_left_behind,
        a_mask_made_without_a_device,
        a_generator_of_the_cpu,
        numpy_on_the_device,
        batches_joined_across_devices,
        a_buffer_kept_from_before_the_move,
        a_constant_within_per_example_gradients,
    ],
)
def test_the_stand_in_finds_a_planted_mistake(standin, mistake):
    with pytest.raises(DeviceMistakeError, match=f"at {__file__.rpartition('/')[2]}:"):
        mistake()


def test_what_a_gpu_allows_the_stand_in_allows(standin):
    model, x = net(), torch.randn(6, 4).to(DEVICE)
    y = torch.randint(3, (6,)).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    (cross_entropy(model(x), y) * torch.tensor(2.0)).backward()
    optimizer.step()
    assert x[torch.arange(3)].device == DEVICE, "indices may lie on the CPU"
    target = torch.zeros(6, 4)
    assert target.copy_(x).device.type == "cpu"
    again = copy.deepcopy(model)
    again.load_state_dict({name: t.cpu() for name, t in model.state_dict().items()})
    assert {p.device for p in again.parameters()} == {DEVICE}
    assert torch.equal(again[0].weight.cpu(), model[0].weight.cpu())


def test_results_are_those_of_the_cpu(standin):
    on_device = net().eval()
    x = torch.randn(6, 4)
    plain = copy.deepcopy(on_device).to("cpu")
    assert torch.equal(on_device(x.to(DEVICE)).cpu(), plain(x))


def test_waiting_for_the_device_is_noted_with_its_place(standin):
    x = torch.ones(3, device=DEVICE)
    for wait in (
        x.tolist,
        lambda: x.sum().item(),
        x.cpu,
        lambda: float(x[0]),
        lambda: bool(x[0] > 0),
    ):
        with pytest.raises(AssertionError, match="waits for the device at test_devices.py"):
            with without_waiting(standin):
                wait()
    with without_waiting(standin):
        torch.ones(3).sum().item()
        x.sum().mul(2)


@pytest.fixture(scope="module")
def world():
    return make_world("class:8")


@pytest.mark.parametrize(
    "name",
    [
        name if name in TRIED_BY_DEFAULT else pytest.param(name, marks=pytest.mark.heavy)
        for name, entry in registry.methods().items()
        if entry.kind == "method"
    ],
)
def test_a_method_keeps_everything_on_the_device(world, standin, name):
    original = copy.deepcopy(world.original).to(DEVICE)
    there = replace(world, task=replace(world.task, device=DEVICE), original=original)
    model = there.unlearn(name, **registry.get(name).check.quick)
    assert {tensor.device for tensor in model.state_dict().values()} == {DEVICE}


RECIPE = Recipe(epochs=2, batch_size=20, lr=1e-3, augment="crop")


def built(data, seed=0):
    spec = ModelSpec(name="test_resnet")
    return models.build(spec, channels=1, image_size=(8, 8), num_classes=10, seed=seed)


def test_training_waits_for_the_device_only_to_look_at_the_loss(standin):
    data, chosen = load("digits"), torch.arange(120)
    split = Split("train", data, chosen, RECIPE, device=DEVICE, seed=0, ledger=Counter())
    model = built(data).to(DEVICE)
    before = len(standin.waits)
    train(model, split, RECIPE, seed=0, step=lambda text: None)
    waits = [place for place in standin.waits[before:] if "_values" not in place]
    assert waits == []
    looks = len(standin.waits) - before
    assert looks == RECIPE.epochs * -(-6 // LossWatch.STEPS_ON_GPU)


@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_the_fisher_diagonal_stays_on_the_device(standin, kind):
    model = net().eval()
    batches = [(torch.randn(6, 4, device=DEVICE), torch.randint(3, (6,)).to(DEVICE))]
    found = fisher_diagonal(model, batches, kind=kind)
    assert {tensor.device for tensor in found.values()} == {DEVICE}


@pytest.mark.thorough
def test_every_probe_and_metric_runs_on_the_device(standin, tmp_path):
    data = load("digits")
    indices = splits.make(
        Forget.model_validate("class:8"),
        data.train.labels[:400],
        data.test.labels,
        data.classes,
        validation=0.1,
        seed=0,
    )
    lab = Lab(
        Store(tmp_path),
        data,
        indices,
        DEVICE,
        blank=lambda: built(data),
        build=lambda seed: built(data, seed),
        identity={"model": "test_resnet"},
        seed=0,
        relearn_steps=4,
    )
    kept = [
        lab.store.get_or_build("model", {"seed": s}, lambda s=s: (built(data, s).state_dict(), {}))
        for s in range(3)
    ]
    seen = [lab.observe(weights, kept[0]) for weights in kept]
    evaluation = Evaluation(*seen, data.classes, lab.random_logits(), forget_classes=(8,))
    records, _ = metrics.compute(evaluation)
    assert {record.status for record in records} <= {"ok", "unresolved", "not_applicable"}
    assert sum(record.status == "ok" for record in records) > 60
