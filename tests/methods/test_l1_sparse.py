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
