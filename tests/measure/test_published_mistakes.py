"""Twenty mistakes of published evaluations, each made impossible here; named after it."""

import copy
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.data import splits
from unlearn_bench.data.datasets import load
from unlearn_bench.execution import task as tasks
from unlearn_bench.execution.run import Runner
from unlearn_bench.measure import evaluate, metrics
from unlearn_bench.measure.lab import Lab
from unlearn_bench.measure.metrics.agreement import agreement
from unlearn_bench.measure.metrics.calibration import expected_calibration_error
from unlearn_bench.measure.metrics.crossfit import cross_fitted
from unlearn_bench.measure.metrics.damage import destinations
from unlearn_bench.measure.metrics.mia import auc, loss_attack
from unlearn_bench.measure.metrics.mia_fitted import fitted_attacks
from unlearn_bench.measure.metrics.scores import modified_entropy
from unlearn_bench.measure.metrics.zrf import zero_retrain_forgetting
from unlearn_bench.measure.outputs import (
    Evaluation,
    Observed,
    Outputs,
    Probed,
    Recovered,
    Relearned,
)
from unlearn_bench.measure.probes import relearn
from unlearn_bench.plugins import metric, registry
from unlearn_bench.plugins.metric import MetricInfo
from unlearn_bench.results.records import Record
from unlearn_bench.store.store import Store
from unlearn_bench.suite import config
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.spec import Suite

CPU = torch.device("cpu")
CLASSES = ("a", "b", "c", "d")
SIZES = {"forget": 150, "retain": 200, "test_forget": 120, "test_retain": 180}
SUITE = {
    "name": "tiny",
    "datasets": "digits",
    "models": "resnet4",
    "scenarios": "class:8",
    "methods": "finetune",
    "threads": 1,
    "recipe": {"epochs": 1, "lr": 4e-3, "augment": "crop"},
}


def model(seed, knows, fitted=0.0):
    """Outputs of a model that leans towards the label, more on what it was trained on."""
    generator, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(9)
    outputs = {}
    for split, size in SIZES.items():
        labels = torch.tensor([0, 1, 3])[torch.randint(3, (size,), generator=fixed)]
        labels = torch.full((size,), 2) if "forget" in split else labels
        logits = torch.randn(size, 4, generator=generator).double()
        logits[torch.arange(size), labels] += (knows if "forget" in split else 3) + (
            0 if "test" in split else fitted
        )
        outputs[split] = Outputs(split, logits, labels)
    renewed = {split: outputs[split] for split in ("forget", "test_forget")}

    def noisy(logits):
        copies = logits.repeat(5, 1)
        return copies + 3 * torch.randn(copies.shape, generator=generator)

    copies = {
        split: Outputs(split, noisy(part.logits), part.labels.repeat(5))
        for split, part in renewed.items()
    }
    probed = Probed(
        Relearned(3 + seed, False),
        Relearned(9 + seed, False),
        recall=0.5 + seed / 100,
        recall_of=120,
        renewed=renewed,
        copies=copies,
        recovered=Recovered(seed / 10, "blurred", 40),
        layers={"stem": seed % 7 / 10, "block": seed % 7 / 10, "head": seed / 10},
        heads=("head",),
    )
    return Observed(outputs, probed)


@pytest.fixture
def evaluation():
    generator = torch.Generator().manual_seed(5)
    untrained = tuple(torch.randn(150, 4, generator=generator).double() for _ in range(2))
    return Evaluation(
        model(1, 0.0), model(2, 3.0, 2.0), model(3, -3.0), CLASSES, untrained, forget_classes=(2,)
    )


def values(records):
    return {(r.metric, r.split): (r.value, r.low, r.high) for r in records}


def divided(forget):
    data = load("digits")
    indices = splits.make(
        Forget.model_validate(forget),
        data.train.labels,
        data.test.labels,
        data.classes,
        validation=0.1,
        seed=0,
    )
    return data, indices


@pytest.fixture
def plan():
    return {r.method: r for r in config.expand(Suite.model_validate(SUITE), device="cpu").runs}


@pytest.fixture
def tiny_runner(home):
    return Runner(Store(home), CPU)


def lab(store, indices, data, build):
    made = {"blank": lambda: build(0), "build": build}
    return Lab(store, data, indices, CPU, **made, identity={"model": "m"}, seed=0)


@pytest.mark.parametrize("forget", ["class:3", "classes:1,7", "random:0.1"])
def test_01_attack_sets_do_not_overlap(forget):
    data, indices = divided(forget)
    # "Logits" that name the example: training examples count from 0, test examples below it.
    named = {
        "train": indices.train.double()[:, None],
        "test": -1 - torch.arange(len(data.test.labels)).double()[:, None],
    }
    seen = evaluate.split_outputs(named, data, indices)
    sets = {split: set(part.logits[:, 0].tolist()) for split, part in seen.items()}
    assert all(len(sets[split]) == len(seen[split]) for split in seen), "an example stands twice"
    assert not sets["forget"] & sets["retain"]
    assert not (sets["forget"] | sets["retain"]) & (sets["test_forget"] | sets["test_retain"])


def test_02_an_attack_is_not_scored_on_what_it_was_fitted_to():
    rng = np.random.default_rng(0)
    # As many features as examples: in sample this noise is separated perfectly.
    found = [
        auc(*(s[0] for s in cross_fitted(*rng.normal(size=(2, 25, 50)), [seed])))[0]
        for seed in range(12)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("forget", ["class:3", "classes:1,7", "random:0.2"])
def test_03_non_members_are_of_the_classes_of_the_members(forget):
    data, indices = divided(forget)
    member = data.train.labels[indices.forget].bincount(minlength=10).double()
    other = data.test.labels[indices.test_forget].bincount(minlength=10).double()
    assert torch.equal(member > 0, other > 0)
    if forget.startswith("random"):
        torch.testing.assert_close(other / other.sum(), member / member.sum(), atol=0.01, rtol=0)


def test_04_outputs_are_those_of_eval_mode():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10)).train()
    data, _ = divided("class:3")
    statistics = net[1].running_mean.clone()
    first, second = (evaluate.logits(net, data, data.test, CPU) for _ in range(2))
    assert torch.equal(first, second), "dropout is active"
    assert torch.equal(net[1].running_mean, statistics), "BatchNorm has learned from test images"


def test_05_retraining_uses_the_recipe_of_the_original(plan, tiny_runner, monkeypatch):
    calls = []

    def note(model, split, recipe, **rest):
        calls.append((recipe, split.batch_size, split.augment, len(split)))

    monkeypatch.setattr(tasks, "train", note)
    tiny_runner.run(plan["retrain"], lambda text: None)
    (original, *first), (retrained, *second) = calls
    assert original == retrained == plan["retrain"].recipe
    assert first[:2] == second[:2] == [128, "crop"]
    assert second[2] < first[2], "retraining saw the forget set"


@pytest.mark.parametrize(("classes", "expected"), [(10, 0.24), (100, 0.04)])
def test_06_divergences_sum_over_classes_in_bits_and_survive_zeros(evaluation, classes, expected):
    sure = torch.zeros(5, classes, dtype=torch.float64)
    sure[:, 1] = 2000  # every other probability is exactly 0
    part = Observed({"forget": Outputs("forget", sure, torch.ones(5, dtype=torch.long))})
    found = replace(evaluation, unlearned=part, random_logits=(torch.zeros_like(sure),))
    assert zero_retrain_forgetting(found)[0].value == pytest.approx(expected, abs=0.005)


def test_07_a_score_does_not_depend_on_the_batch(evaluation):
    part = evaluation.original["retain"]
    alone = [
        modified_entropy(Outputs("retain", part.logits[i : i + 1], part.labels[i : i + 1]))
        for i in range(20)
    ]
    torch.testing.assert_close(torch.cat(alone), modified_entropy(part)[:20])


def test_08_the_order_of_examples_changes_no_metric(evaluation):
    generator = torch.Generator().manual_seed(0)
    order = {split: torch.randperm(size, generator=generator) for split, size in SIZES.items()}

    def shuffled(seen):
        moved = {
            s: Outputs(s, p.logits[order[s]], p.labels[order[s]]) for s, p in seen.outputs.items()
        }
        return replace(seen, outputs=moved)

    moved = replace(
        evaluation,
        unlearned=shuffled(evaluation.unlearned),
        original=shuffled(evaluation.original),
        retrained=shuffled(evaluation.retrained),
        random_logits=tuple(logits[order["forget"]] for logits in evaluation.random_logits),
    )
    straight, other = (values(metrics.compute(e)[0]) for e in (evaluation, moved))
    assert straight.keys() == other.keys()
    for name, expected in straight.items():
        for a, b in zip(expected, other[name], strict=True):
            assert (a is None and b is None) or a == pytest.approx(b, abs=1e-6), name


def test_09_constant_scores_give_chance_and_no_nan(evaluation):
    flat = {
        split: Outputs(split, torch.zeros_like(part.logits), part.labels)
        for split, part in evaluation.unlearned.outputs.items()
    }
    found = replace(evaluation, unlearned=replace(evaluation.unlearned, outputs=flat))
    for record in loss_attack(found) + fitted_attacks(found):
        if record.metric.endswith("_auc"):
            assert record.value == 0.5, record.metric
    # Nor are scores reduced to right and wrong: equal answers still differ in their loss.
    part = model(1, 9.0)["forget"]
    assert part.correct().all() and len(part.nll().unique()) == len(part)


def test_10_an_attack_without_unseen_examples_is_refused(evaluation):
    with pytest.raises(ParameterError, match="each side"):
        auc(np.ones(5), np.ones(0))
    part = evaluation.unlearned["test_forget"]
    one = Outputs("test_forget", part.logits[:1], part.labels[:1])
    seen = replace(
        evaluation.unlearned, outputs={**evaluation.unlearned.outputs, "test_forget": one}
    )
    records = {r.metric: r for r in loss_attack(replace(evaluation, unlearned=seen))}
    assert records["mia_loss_auc"].status == "unresolved"


def test_11_an_overfitted_model_scores_above_chance(evaluation):
    found = replace(evaluation, unlearned=model(1, 1.0, fitted=3.0))
    for record in loss_attack(found) + fitted_attacks(found):
        if record.metric.endswith("_auc"):
            assert record.value > 0.7, record.metric


def test_12_bins_and_shares_count_every_example(evaluation):
    sure = torch.tensor([[0.0, 40.0]], dtype=torch.float64)  # confidence 1: the upper edge
    assert expected_calibration_error(Outputs("test_retain", sure, torch.tensor([0]))) == 1.0
    assert sum(r.value for r in destinations(evaluation)) == pytest.approx(1)
    last = torch.zeros(150, 4, dtype=torch.float64)
    last[:, 3] = 1
    seen = Observed({"forget": Outputs("forget", last, torch.full((150,), 2))})
    shares = {r.split: r.value for r in destinations(replace(evaluation, unlearned=seen))}
    assert shares["d"] == 1


def test_13_divergence_is_taken_from_retraining(evaluation):
    u = torch.tensor([[0.9, 0.1]], dtype=torch.float64).log()
    g = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    label = torch.tensor([0])
    seen = [Observed({s: Outputs(s, z, label) for s in ("forget", "test_retain")}) for z in (u, g)]
    found = values(agreement(replace(evaluation, unlearned=seen[0], retrained=seen[1])))
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)  # KL(G || U), not 0.368
    assert found["kl_divergence", "forget"][0] == pytest.approx(expected)


def test_14_what_is_kept_is_keyed_by_weights_and_by_every_parameter(plan, tiny_runner, home):
    data, indices = divided("class:8")
    nets = {}

    def net(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    store = Store(home)
    for seed in (0, 1):
        nets[seed] = store.get_or_build(
            "test", {"seed": seed}, lambda s=seed: (net(s).state_dict(), {})
        )
    place = lab(store, indices, data, net)
    first, second = (place.logits(nets[seed])["test"] for seed in (0, 1))
    assert not torch.equal(first, second)
    torch.testing.assert_close(second, evaluate.logits(net(1), data, data.test, CPU))
    spec = plan["finetune"]
    for name in registry.get("finetune").resolve({}):
        changed = spec.model_copy(update={"params": spec.params | {name: 0.123}})
        assert tiny_runner.key(changed) != tiny_runner.key(spec), name


def test_15_a_probe_that_changes_the_model_is_caught(home, monkeypatch):
    data, indices = divided("class:8")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x):
            return self.layer(x.flatten(1))

    store = Store(home)
    weights = store.get_or_build("test", {}, lambda: (Net().state_dict(), {}))
    place = replace(lab(store, indices, data, lambda seed: Net()), relearn_steps=1)
    monkeypatch.setattr(relearn, "WITHIN", 0.0)
    honest = place._probe(weights, 0.0)[1]
    assert honest["relearn_time"] == {"steps": 0, "censored": False}
    monkeypatch.setattr(copy, "deepcopy", lambda given: given)
    with pytest.raises(RuntimeError, match="copy"):
        place._probe(weights, 1.1)


def test_16_every_model_sees_the_same_unaugmented_images(plan, tiny_runner, monkeypatch):
    seen = []
    real = evaluate.iterate

    def watched(part, indices, **options):
        seen.append((options.get("augment", "none"), options.get("generator")))
        return real(part, indices, **options)

    monkeypatch.setattr(evaluate, "iterate", watched)
    assert plan["original"].recipe.augment == "crop"
    tiny_runner.run(plan["original"], lambda text: None)
    assert len(seen) >= 4 and set(seen) == {("none", None)}


def test_17_a_missing_metric_and_an_error_in_one_are_loud(evaluation, monkeypatch):
    metrics.load_built_in()
    monkeypatch.setattr(metrics, "ENTRIES", {})
    monkeypatch.setattr(metric, "REGISTERED", {})

    @metrics.measures(MetricInfo("here", "."), MetricInfo("gone", "."))
    def forgetful(evaluation):
        return [Record("here", "", 1.0)]

    with pytest.raises(RuntimeError, match="gone"):
        metrics.compute(evaluation)

    metrics.ENTRIES.clear()

    @metrics.measures(MetricInfo("here", "."))
    def broken(evaluation):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        metrics.compute(evaluation)


def test_18_every_example_of_a_split_is_measured(evaluation):
    data, indices = divided("class:9")
    sizes = {"train": len(indices.train), "test": len(data.test.labels)}
    parts = {part: torch.zeros(size, 10).double() for part, size in sizes.items()}
    sizes = {s: len(o) for s, o in evaluate.split_outputs(parts, data, indices).items()}
    assert sizes == {split: len(getattr(indices, split)) for split in sizes}
    assert sizes["retain"] > 1000, "the case must be large enough to be cut short"
    # The last example counts as much as the first.
    part = evaluation.unlearned["retain"]
    flipped = part.logits.clone()
    flipped[-1] = -flipped[-1]
    moved = Outputs("retain", flipped, part.labels)
    assert abs(moved.accuracy() - part.accuracy()) == pytest.approx(1 / len(part))


def test_19_every_metric_changes_with_the_model(evaluation):
    other = replace(evaluation, unlearned=model(7, 2.0, fitted=1.5))
    before, after = (values(metrics.compute(e)[0]) for e in (evaluation, other))
    by_name = {}
    for (name, split), value in before.items():
        if value[0] is not None:
            by_name.setdefault(name, []).append(value != after[name, split])
    unmoved = {name for name, moved in by_name.items() if not any(moved)}
    assert unmoved == {"mia_loss_resolvable_fpr"}, "the one that describes the test alone"


def test_20_no_metric_changes_what_it_is_given(evaluation):
    def everything(e):
        tensors = list(e.random_logits)
        for seen in (e.unlearned, e.original, e.retrained):
            probed = seen.probed
            for part in chain(*map(dict.values, (seen.outputs, probed.renewed, probed.copies))):
                tensors += [part.logits, part.labels]
        return tensors

    before = [tensor.clone() for tensor in everything(evaluation)]
    metrics.compute(evaluation)
    assert all(torch.equal(a, b) for a, b in zip(before, everything(evaluation), strict=True))
