"""NegMerge: what counts as agreement, and that nothing else than it is subtracted."""

import pytest
import torch
from unlearn_bench_methods import neg_merge

from unlearn_bench.plugins import registry

SHORT = {"models": 2, "epochs": 2, "batch_size": 16}


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_one_fine_tuning_is_task_negation():
    change = {"w": torch.tensor([1.0, -2.0, 0.0])}
    assert torch.equal(neg_merge.consensus([change])["w"], change["w"])


def test_opposite_changes_cancel_and_agreed_ones_are_averaged():
    one = {"w": torch.tensor([1.0, -2.0, 3.0, 0.0])}
    other = {"w": torch.tensor([3.0, 2.0, 0.0, 1.0])}
    assert neg_merge.consensus([one, other])["w"].tolist() == [2.0, 0.0, 0.0, 0.0]
    assert not neg_merge.consensus([one, {"w": -one["w"]}])["w"].any()


def test_a_sign_that_once_differed_never_agrees_again():
    values = [1.0, -1.0, 1.0, 1.0]
    assert not neg_merge.consensus({"w": torch.tensor([v])} for v in values)["w"].any()


def test_the_inputs_are_left_alone():
    changes = [{"w": torch.ones(2)}, {"w": torch.ones(2)}]
    neg_merge.consensus(changes)
    assert all(torch.equal(change["w"], torch.ones(2)) for change in changes)


def test_subtracting_nothing_changes_nothing(class_world):
    assert torch.equal(
        flat(class_world.unlearn("neg_merge", scale=0, **SHORT)), flat(class_world.original)
    )


def test_the_scale_stretches_one_and_the_same_change(class_world):
    start = flat(class_world.original)
    one = flat(class_world.unlearn("neg_merge", scale=1, **SHORT)) - start
    ten = flat(class_world.unlearn("neg_merge", scale=10, **SHORT)) - start
    assert torch.allclose(ten, 10 * one, atol=1e-6) and one.any()


def test_statistics_stay_the_originals(class_world):
    model = class_world.unlearn("neg_merge", batch_norm="train", **SHORT)
    for mine, theirs in zip(model.buffers(), class_world.original.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def scales_tried(forget, retain, keep=0.95):
    tried = []

    def judge(scale):
        tried.append(scale)
        return forget(scale), retain(scale)

    return neg_merge.best_scale(judge, keep), tried


def test_lambda_is_looked_for_on_21_points_from_0_to_1():
    _, tried = scales_tried(lambda s: 1 - s, lambda s: 1.0)
    assert tried == [k / 20 for k in range(21)]


@pytest.mark.parametrize(
    ("forget", "retain", "found"),
    [
        (lambda s: 1 - s, lambda s: 1.0, 1.0),
        (lambda s: 1 - s, lambda s: 1 - s / 10, 0.5),  # 0.95 of before is left at 0.5
        (lambda s: max(0, 0.3 - s), lambda s: 1.0, 0.3),  # the smallest that forgets all
        (lambda s: (s - 0.4) ** 2, lambda s: 1.0, 0.4),
        (lambda s: 1 - s, lambda s: float(s == 0), 0.0),  # none keeps
        (lambda s: 1 - s, lambda s: 1 - 0.5 * (0.1 < s < 0.6), 1.0),  # it falls and comes back
    ],
)
def test_lambda_forgets_most_of_those_that_keep(forget, retain, found):
    assert scales_tried(forget, retain)[0] == pytest.approx(found)


def test_forgetting_is_measured_on_validation_or_where_examples_go_on_themselves(
    class_world, random_world
):
    for world in (class_world, random_world):
        context = world.context(registry.get("neg_merge"))
        found = neg_merge.grid_accuracies(world.original, context)
        gone = set(world.indices.forget_classes)
        x, y = next(iter(context.validation.batches(1000)))
        with torch.no_grad():
            hits = world.original(x).argmax(1) == y
        forgotten = torch.tensor([int(label) in gone for label in y])
        xf, yf = next(iter(context.forget.batches(1000)))
        with torch.no_grad():
            on_forget = (world.original(xf).argmax(1) == yf).float().mean()
        expected = hits[forgotten].float().mean() if gone else on_forget
        assert found[0] == pytest.approx(float(expected))
        assert found[1] == pytest.approx(float(hits[~forgotten].float().mean()))


def test_the_pool_combines_epochs_decay_and_smoothing():
    pool = [neg_merge.member(index, 50, 5e-5, 0.1) for index in range(27)]
    assert len(set(pool)) == 27
    assert {m.epochs for m in pool} == {40, 50, 60}
    assert sorted({m.weight_decay for m in pool}) == pytest.approx([1e-5, 5e-5, 1e-4])
    assert sorted({m.label_smoothing for m in pool}) == pytest.approx([0, 0.05, 0.1])
    for pair in ((0, 1), (0, 2), (1, 2)):
        assert len({tuple(m[k] for k in pair) for m in pool[:9]}) == 9
