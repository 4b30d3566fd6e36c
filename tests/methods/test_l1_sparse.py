"""l1-sparse unlearning: fine-tuning plus a penalty that fades."""

import pytest
import torch
from unlearn_bench_methods import l1_sparse

SHORT = {"epochs": 2, "batch_size": 64}


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_without_penalty_it_is_finetuning_to_the_bit(class_world):
    sparse = class_world.unlearn("l1_sparse", l1=0, **SHORT)
    tuned = class_world.unlearn("finetune", **SHORT)
    for mine, theirs in zip(sparse.state_dict().values(), tuned.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_penalty_falls_linearly():
    weights = [l1_sparse.penalty(2.0, epoch, 10) for epoch in range(10)]
    assert weights == pytest.approx([2.0 * (1 - t / 10) for t in range(10)])
    assert weights[-1] == pytest.approx(0.2)


def test_the_last_passes_can_be_free_of_it():
    assert [l1_sparse.penalty(1.0, epoch, 2) for epoch in range(4)] == [1.0, 0.5, 0.0, 0.0]
    assert [l1_sparse.penalty(1.0, epoch, -1) for epoch in range(2)] == [0.0, 0.0]


def test_weights_get_smaller_than_by_finetuning(class_world):
    sparse = flat(class_world.unlearn("l1_sparse", l1=0.01, **SHORT))
    tuned = flat(class_world.unlearn("finetune", **SHORT))
    assert sparse.abs().sum() < 0.97 * tuned.abs().sum()


@pytest.mark.parametrize(("steps", "scale"), [(1760, 1.0), (50_000, 1.0), (176, 10.0), (1, 1760.0)])
def test_shorter_runs_than_the_published_one_get_more_penalty(steps, scale):
    assert l1_sparse.scale(steps) == pytest.approx(scale)


def test_by_default_weights_fade_however_few_the_steps(class_world):
    short = flat(class_world.unlearn("l1_sparse", **SHORT))
    fixed = flat(class_world.unlearn("l1_sparse", l1=5e-4, **SHORT))
    scaled = flat(class_world.unlearn("l1_sparse", l1=5e-4 * 1760 / 8, **SHORT))
    assert torch.equal(short, scaled)  # 2 epochs of 4 batches
    assert short.abs().sum() < 0.9 * fixed.abs().sum()
