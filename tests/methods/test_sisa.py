"""SISA: exact to the bit, the published steps against a transcription, and what stays untouched."""

import copy
import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from unlearn_bench.conformance.world import make_world
from unlearn_bench.core.seeds import derive
from unlearn_bench.execution.task import Unlearning
from unlearn_bench.plugins import registry
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.sharding import Sharding
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training.sharded import division, first_hits

from .conftest import followed

SHARDING = Sharding(shards=3, slices=2)
RECIPE = Recipe(epochs=3, batch_size=16, lr=4e-3, warmup=0.2, augment="none")
MODEL = ModelSpec(name="resnet4", args={"width": 8}, sharding=SHARDING)
FEW = "indices:3,14"


def world_of(scenario):
    return make_world(scenario, examples=120, architecture=MODEL, recipe=RECIPE)


@pytest.fixture(scope="module")
def few():
    return world_of(FEW)


def unlearned(world, **params):
    given = {"shards": SHARDING.shards, "slices": SHARDING.slices} | params
    return world.unlearn("sisa", **given)


def trained_without(world):
    """Train the ensemble on R from the start, with the original's seeds and division."""
    model, task = world.task.new_original(), world.task
    retained = task.split("retain", task.indices.retain, "another reading")
    task.train(model, retained, seed=task.original_seed, step=lambda text: None)
    return model.state_dict()


def cells(world):
    return division(SHARDING, world.task.original_seed, len(world.data.train.labels))


@pytest.mark.parametrize("scenario", [FEW, "class:3", "random:0.3"])
def test_it_gives_the_weights_of_training_without_the_forgotten_to_the_bit(scenario):
    world = world_of(scenario)
    model = unlearned(world).state_dict()
    expected = trained_without(world)
    assert model.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(model[name], tensor), name


def test_shards_without_forgotten_examples_keep_their_weights(few):
    hits = first_hits(SHARDING, cells(few), few.indices.forget)
    assert 0 < len(hits) < SHARDING.shards
    model = unlearned(few)
    for shard, (before, after) in enumerate(zip(few.original.members, model.members, strict=True)):
        same = [
            torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)
        ]
        assert all(same) == (shard not in hits), shard


def test_only_the_stages_from_the_first_hit_on_are_repeated(few):
    method = registry.get("sisa")
    unlearning = few.unlearning(method)
    unlearning.run(copy.deepcopy(few.original), {"shards": 3, "slices": 2})
    own, retained = cells(few), few.indices.retain
    read = 0
    for shard, first in first_hits(SHARDING, own, few.indices.forget).items():
        for stage, epochs in enumerate(SHARDING.epochs(RECIPE.epochs)):
            here = (own[retained] >= 2 * shard) & (own[retained] <= 2 * shard + stage)
            read += epochs * int(here.sum()) * (stage >= first)
    touched = unlearning.costs.ledger
    # A left-over single example is not trained on.
    assert touched.keys() == {"retain"} and read - 12 <= touched["retain"] <= read
    assert unlearning.costs.passes.examples["forward"] == touched["retain"]


def transcription(world):
    """Yield the mean loss of every epoch of every stage that is repeated, in plain torch."""
    shard_of, slice_of = cells(world) // 2, cells(world) % 2
    images = world.images.data.double() / 255
    mean, std = (torch.tensor(v).double().view(-1, 1, 1) for v in (world.data.mean, world.data.std))
    for shard in range(3):
        hit = [int(slice_of[i]) for i in world.indices.forget if shard_of[i] == shard]
        if not hit:
            continue
        member = copy.deepcopy(world.original.members[shard])
        member.load_state_dict(world.kept[shard, min(hit)])
        for stage in range(min(hit), 2):
            left = [
                i
                for i in sorted(world.indices.retain.tolist())
                if shard_of[i] == shard and slice_of[i] <= stage
            ]
            epochs = int((stage + 1) * 2 * 3 / 3) - int(stage * 2 * 3 / 3)  # 2E / (R + 1) each
            steps = math.ceil(len(left) / 16)
            adam, done = torch.optim.Adam(member.parameters(), lr=1.0), 0
            seed = derive(world.task.original_seed, "shard", shard, "slice", stage)
            reading = world.split("retain").read_by(seed, places_of(world, left))
            member.train()
            for _ in range(epochs):
                total = 0.0
                for _, _, places in reading.traced(1, 16):
                    rise = min(1.0, (done + 1) / max(1, round(0.2 * epochs * steps)))
                    fall = (1 + math.cos(math.pi * done / (epochs * steps))) / 2
                    adam.param_groups[0]["lr"] = 4e-3 * rise * fall
                    chosen = [left[int(place)] for place in places]
                    logits = member((images[chosen] - mean) / std)
                    loss = cross_entropy(logits, world.data.train.labels[chosen])
                    adam.zero_grad()
                    loss.backward()
                    adam.step()
                    done += 1
                    total += loss.item()
                yield total / steps


def places_of(world, members):
    """Return where examples stand in R."""
    return torch.tensor([world.indices.retain.tolist().index(member) for member in members])


@pytest.mark.parametrize("scenario", [FEW, "class:3"])
def test_the_steps_agree_with_a_transcription(scenario):
    world = world_of(scenario).exactly()
    log, _, _ = followed(world, "sisa", shards=3, slices=2)
    slow = list(transcription(world))
    fast = [entry["training_loss"] for entry in log if "training_loss" in entry]
    assert len(fast) == len(slow) >= 4
    assert fast == pytest.approx(slow, rel=1e-4)


def test_another_unlearning_of_the_same_original_draws_otherwise(few):
    method = registry.get("sisa")
    first, second = (
        Unlearning(few.task, method, checkpoints=few.checkpoints, draw=draw).run(
            copy.deepcopy(few.original), {"shards": 3, "slices": 2}
        )
        for draw in (0, 1)
    )
    hits = first_hits(SHARDING, cells(few), few.indices.forget)
    for shard, (one, other) in enumerate(zip(first.members, second.members, strict=True)):
        same = torch.equal(one.get_classifier().weight, other.get_classifier().weight)
        assert same == (shard not in hits)


def test_the_ensemble_answers_by_the_mean_of_its_members(few):
    model = few.original
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        mean = torch.stack([member(x).softmax(1) for member in model.members]).mean(0)
        assert torch.allclose(model(x).softmax(1), mean, atol=1e-6)
        by_head = model.forward_head(model.forward_features(x))
        assert torch.allclose(by_head, model(x), atol=1e-6)
        features = model.forward_head(model.forward_features(x), pre_logits=True)
    assert features.shape == (5, model.num_features) == (5, 3 * model.members[0].num_features)
    assert len(model.get_classifier()) == 3
