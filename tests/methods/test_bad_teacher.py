"""Bad teaching: each example has its own teacher, and neither teacher learns."""

import copy
from dataclasses import replace

import pytest
import torch
from unlearn_bench_methods import bad_teacher

from unlearn_bench.api import kl_divergence
from unlearn_bench.plugins import registry

METHOD = registry.get("bad_teacher")


@pytest.fixture
def run(class_world, monkeypatch):
    """Run on some of F and R; return the model, the log and the two teachers."""

    def go(*, forget=None, retain=None, **params):
        teachers, before = [], []
        copied = bad_teacher.frozen_copy

        def watched(model):
            teachers.append(copied(model))
            before.append(copy.deepcopy(teachers[-1].state_dict()))
            return teachers[-1]

        monkeypatch.setattr(bad_teacher, "frozen_copy", watched)
        indices = class_world.indices
        fewer = replace(indices, forget=indices.forget[:forget], retain=indices.retain[:retain])
        world = replace(class_world, task=replace(class_world.task, indices=fewer))
        ctx = world.context(METHOD)
        model = copy.deepcopy(class_world.original)
        METHOD.function(model, ctx, **METHOD.resolve(params))
        for teacher, state in zip(teachers, before, strict=True):
            after = teacher.state_dict()
            assert all(torch.equal(state[name], after[name]) for name in state)
            assert not any(module.training for module in teacher.modules())
        original, untrained = teachers
        return model, ctx.log_entries, original, untrained

    return go


def test_without_forgotten_examples_there_is_nothing_to_learn(run, class_world):
    model, log, *_ = run(forget=0, batch_norm="eval", epochs=2)
    assert log[0]["divergence"] < 1e-6
    # Adam divides rounding errors by their own size, so that the weights creep.
    assert max(float(entry["divergence"]) for entry in log) < 1e-3
    x, _ = next(iter(class_world.split("retain").batches(50)))
    with torch.no_grad():
        assert kl_divergence(class_world.original(x), model(x)) < 1e-2


def test_without_a_retain_set_it_becomes_its_bad_teacher(run, class_world):
    model, _, original, untrained = run(retain=0, batch_norm="eval", epochs=30, lr=3e-3)
    x, _ = next(iter(class_world.split("forget").batches(1000)))
    with torch.no_grad():
        assert kl_divergence(untrained(x), model(x)) < 0.1 * kl_divergence(
            untrained(x), original(x)
        )


def test_the_first_loss_agrees_with_slow_code(run, class_world):
    _, log, original, untrained = run(batch_norm="eval", batch_size=1000, temperature=2.0)
    ctx = class_world.context(METHOD)
    total, count = 0.0, 0
    with torch.no_grad():
        for split, teacher in ((ctx.forget, untrained), (ctx.retain, original)):
            x, _ = next(iter(split.batches(1000)))
            p, q = (teacher(x) / 2).softmax(1), (class_world.original(x) / 2).softmax(1)
            total += float((p * (p / q).log()).sum())
            count += len(x)
    assert float(log[0]["divergence"]) == pytest.approx(total / count, rel=1e-4)


def test_the_bad_teacher_has_weights_of_its_own(run, class_world):
    _, log, original, untrained = run()
    theirs, mine = untrained.state_dict(), class_world.original.state_dict()
    assert not torch.equal(theirs["classifier.weight"], mine["classifier.weight"])
    assert torch.equal(original.classifier.weight, class_world.original.classifier.weight)
    assert log[0]["bad_teacher_spread"] > 0


def test_it_reads_30_percent_of_the_retain_set(class_world):
    class_world.unlearn("bad_teacher")
    share = class_world.ledger["retain"] / len(class_world.indices.retain)
    assert share == pytest.approx(0.3, abs=0.01)


def test_the_bad_teacher_is_untrained_where_the_recipe_starts_from_pretrained_weights(
    class_world, monkeypatch
):
    asked = []
    ctx = class_world.context(METHOD)
    build = ctx.new_model

    def watched(pretrained=True):
        asked.append(pretrained)
        return build(pretrained)

    monkeypatch.setattr(ctx, "new_model", watched)
    METHOD.function(copy.deepcopy(class_world.original), ctx, **METHOD.resolve({}))
    assert asked == [False]
