"""The training loop: schedule, determinism, divergence."""

from collections import Counter

import pytest
import torch
from torch import nn

from unlearn_bench.core.errors import MethodError, ParameterError
from unlearn_bench.data.datasets import load
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.toolkit.context import Split
from unlearn_bench.training.loop import LossWatch, UpdateLog, train
from unlearn_bench.training.numerics import computing

CPU = torch.device("cpu")


def digits(n=200):
    data = load("digits")
    return Split(
        "train",
        data,
        torch.arange(n),
        Recipe(batch_size=32, augment="none"),
        device=CPU,
        seed=0,
        ledger=Counter(),
    )


def net(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 10)
    )


def run(recipe, model=None, seed=0, steps=None):
    model = model or net()
    train(model, digits(), recipe, seed=seed, step=(steps if steps is not None else []).append)
    return model


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimizer_learns(optimizer):
    recipe = Recipe(
        epochs=20, batch_size=32, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 5e-3
    )
    model = run(recipe)
    x, y = next(iter(digits().batches(200)))
    assert not model.training
    assert (model(x).argmax(1) == y).float().mean() > 0.9


def test_the_learning_rate_warms_up_and_falls_to_zero(monkeypatch):
    rates = []
    step = torch.optim.SGD.step

    def spy(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    run(Recipe(epochs=2, batch_size=20, optimizer="sgd", lr=1.0, warmup=0.25))
    assert len(rates) == 20
    assert rates[:5] == sorted(rates[:5]) and rates[0] == pytest.approx(0.2)
    assert rates[5:] == sorted(rates[5:], reverse=True) and 0 < rates[-1] < 0.01


def test_a_constant_schedule_is_constant(monkeypatch):
    rates = set()
    step = torch.optim.SGD.step

    def spy(self, *args, **kwargs):
        rates.add(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    run(Recipe(epochs=2, optimizer="sgd", lr=0.01, schedule="constant"))
    assert rates == {0.01}


def test_the_seed_decides_dropout():
    recipe = Recipe(epochs=1)
    same = [run(recipe, net(0.5), seed=1)[1].weight for _ in range(2)]
    other = run(recipe, net(0.5), seed=2)[1].weight
    assert torch.equal(*same) and not torch.equal(same[0], other)


def test_epochs_are_reported():
    steps = []
    run(Recipe(epochs=3), steps=steps)
    assert steps == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


def test_divergence_is_an_error_that_says_what_to_lower():
    recipe = Recipe(epochs=3, optimizer="sgd", lr=1e20)
    with pytest.raises(MethodError, match=r"diverged.*lower recipe\.lr"):
        run(recipe)


def conv_net():
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 4, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(288, 10))


@pytest.mark.parametrize(
    "how", [{"precision": "bf16"}, {"memory_format": "channels_last"}], ids=["bf16", "channels"]
)
def test_precision_and_layout_change_training_by_rounding_and_leave_nothing_behind(how):
    seen = []
    plain, other = (conv_net() for _ in range(2))
    other[0].register_forward_hook(lambda _, given, output: seen.append((given[0], output)))
    run(Recipe(epochs=1, batch_size=32, lr=1e-3), plain)
    run(Recipe(epochs=1, batch_size=32, lr=1e-3, **how), other)
    x, output = seen[0]
    if "precision" in how:
        assert output.dtype == torch.bfloat16
    else:
        assert output.is_contiguous(memory_format=torch.channels_last)
    for ours, theirs in zip(other.parameters(), plain.parameters(), strict=True):
        assert ours.dtype == torch.float32 and ours.is_contiguous()
        assert torch.allclose(ours, theirs, atol=5e-3)
    assert not torch.is_autocast_enabled("cpu")


def test_a_compiled_forward_pass_is_what_training_calls(monkeypatch):
    compiled = []

    def compile(model):
        return lambda x: compiled.append(len(x)) or model(x)

    monkeypatch.setattr(torch, "compile", compile)
    run(Recipe(epochs=1, batch_size=32, compile=True))
    assert sum(compiled) == 200


def test_tf32_is_refused_where_there_is_none():
    with pytest.raises(ParameterError, match="tf32.*cpu device.*bf16"):
        run(Recipe(precision="tf32"))


def settings():
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    both = cuda.allow_tf32, cudnn.allow_tf32
    return both, (cuda.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision)


@pytest.mark.parametrize(
    ("how", "tf32", "last"),
    [
        ({}, True, True),
        ({"precision": "fp32"}, False, True),
        ({"precision": "bf16", "memory_format": "contiguous"}, False, False),
    ],
)
def test_a_gpu_trains_by_its_defaults_unless_the_recipe_says_otherwise(how, tf32, last):
    model, before = conv_net(), settings()
    layout = torch.channels_last if last else torch.contiguous_format
    # The model stays on the CPU: whatever the device decides is decided by its name.
    with computing(model, Recipe(**how), torch.device("cuda")):
        assert settings()[0] == (tf32, tf32)
        assert model[2].weight.is_contiguous(memory_format=layout)
    assert settings() == before
    assert all(p.is_contiguous() for p in model.parameters())


def test_a_cpu_trains_contiguous_images_in_fp32_unless_the_recipe_says_otherwise():
    model, before = conv_net(), settings()
    with computing(model, Recipe(), torch.device("cpu")):
        assert settings() == before and model[2].weight.is_contiguous()


def test_channels_last_leaves_alone_what_has_no_channels_or_one_dimension_more():
    model = nn.Sequential(nn.Linear(4, 3), nn.Conv3d(1, 1, 1))
    x = torch.ones(2, 4)
    with computing(model, Recipe(), torch.device("cuda")) as forward:
        model.forward = lambda given: given
        assert torch.equal(forward(x), x)


def test_how_a_recipe_is_computed_is_part_of_it_unless_it_is_as_it_always_was():
    assert not {"precision", "memory_format", "compile"} & Recipe().model_dump().keys()
    changed = Recipe(precision="bf16", compile=True).model_dump()
    assert changed["precision"] == "bf16" and changed["compile"] is True
    assert Recipe.model_validate(changed) == Recipe(precision="bf16", compile=True)


class Snapshots(UpdateLog):
    """Keeps the weights before every step and who was in its batch: the slow way."""

    def __init__(self, model, forgotten):
        super().__init__(model, forgotten)
        self.model, self.before, self.members = model, [], []

    def watch(self, members):
        self.before.append([p.detach().clone() for p in self.model.parameters()])
        self.members.append(members.clone())
        return super().watch(members)


def logged(forgotten, epochs=2):
    model = net()
    log = Snapshots(model, torch.as_tensor(forgotten))
    recipe = Recipe(epochs=epochs, batch_size=32, lr=5e-3)
    train(model, digits(), recipe, seed=0, step=lambda text: None, log=log)
    return model, log


def taken_back(model, log):
    return [p.detach().double() - log.change[name] for name, p in model.named_parameters()]


def test_taking_back_every_step_gives_the_initial_weights():
    model, log = logged(range(200))
    assert log.hits == log.steps == 2 * 7
    for ours, initial in zip(taken_back(model, log), net().parameters(), strict=True):
        assert torch.allclose(ours, initial.double(), atol=1e-5)
    assert not torch.allclose(model[1].weight, net()[1].weight, atol=1e-3)


def test_taking_back_what_no_batch_held_changes_nothing():
    model, log = logged([500, 900])
    assert (log.hits, log.steps) == (0, 14)
    for ours, trained in zip(taken_back(model, log), model.parameters(), strict=True):
        assert torch.equal(ours, trained.double())


def test_taking_back_the_last_step_gives_the_weights_before_it():
    _, watched = logged([500], epochs=1)
    last = watched.members[-1]
    model, log = logged(last, epochs=1)
    assert log.hits == 1 and len(last) == 200 - 6 * 32
    for ours, before in zip(taken_back(model, log), log.before[-1], strict=True):
        assert torch.allclose(ours, before.double(), atol=1e-7)


def test_updates_are_summed_over_the_steps_that_held_an_example():
    model, log = logged([17])
    assert log.hits == 2, "once a pass"
    after = [*log.before[1:], [p.detach() for p in model.parameters()]]
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for members, old, new in zip(log.members, log.before, after, strict=True):
        if 17 in members.tolist():
            expected = [e + b - a for e, a, b in zip(expected, old, new, strict=True)]
    for ours, slow in zip(log.change.values(), expected, strict=True):
        assert torch.allclose(ours, slow.double(), atol=1e-7)


def test_watching_does_not_change_the_training():
    plain = run(Recipe(epochs=2, batch_size=32, lr=5e-3))
    model, _ = logged(range(200))
    assert torch.equal(plain[1].weight, model[1].weight)


def test_the_mean_loss_of_every_epoch_is_told():
    told = []
    recipe = Recipe(epochs=12, batch_size=32, lr=5e-3)
    train(net(), digits(), recipe, seed=0, step=lambda text: None, losses=told.append)
    values = [float(loss) for loss in told]
    assert len(values) == 12 and not told[0].requires_grad
    # The first epoch starts near log(10), the loss of a guess, and it falls from there.
    assert 1.5 < values[0] < 2.6 and values[-1] < 0.5 * values[0]


class Spoiled(torch.nn.Module):
    """Says NaN from its n-th training batch on, and counts how often it is asked."""

    def __init__(self, at):
        super().__init__()
        self.inner, self.at, self.asked = net(), at, 0

    def forward(self, x):
        self.asked += 1
        return self.inner(x) * (float("nan") if self.asked >= self.at else 1.0)


def test_a_loss_that_is_no_number_ends_the_training_at_once_and_is_placed():
    model = Spoiled(at=10)
    with pytest.raises(MethodError, match=r"the loss is nan in epoch 2, step 3; lower recipe\.lr"):
        train(model, digits(), Recipe(epochs=9, batch_size=32), seed=0, step=lambda text: None)
    assert model.asked == 10


def test_losses_on_a_gpu_are_looked_at_now_and_then_and_placed_all_the_same():
    watch = LossWatch(torch.device("cuda"), Recipe(), epoch=4)
    for number in range(1, 50):
        watch.see(torch.tensor(float("inf") if number == 31 else 0.5))
    with pytest.raises(MethodError, match="the loss is inf in epoch 5, step 31"):
        watch.see(torch.tensor(0.5))
