"""Scores of single examples: logits of the true class, and of the same examples every time."""

import torch

from unlearn_bench.data.splits import Indices
from unlearn_bench.measure.outputs import Observed, Outputs
from unlearn_bench.measure.scores import phi, score_curves

NONE = torch.empty(0, dtype=torch.int64)


def outputs(split, count):
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    return Outputs(split, logits, torch.arange(count) % 4)


def world(forget, retain, **more):
    indices = Indices(forget, retain, NONE, torch.arange(5), torch.arange(5, 40), (), **more)
    splits = ("forget", "retain", "test_forget", "test_retain", "unseen")
    seen = Observed({s: outputs(s, len(getattr(indices, s))) for s in splits})
    return seen, indices


def by_series(seen, indices):
    return {curve.series: curve for curve in score_curves(seen, indices)}


def test_a_score_is_the_logit_of_the_true_class_and_does_not_saturate():
    seen = outputs("forget", 12)
    p = seen.logits.softmax(1).gather(1, seen.labels[:, None]).squeeze(1)
    assert torch.allclose(phi(seen), p.logit())
    sure = Outputs("forget", torch.tensor([[500.0, 0.0]]).double(), torch.tensor([0]))
    assert phi(sure).tolist() == [500.0]


def test_a_sample_of_a_split_holds_the_same_examples_under_every_seed():
    everyone = torch.arange(5000)
    one = by_series(*world(everyone[::2], everyone[1::2]))
    other = by_series(*world(everyone[::2][everyone[::2] % 10 != 0], everyone[1::2]))
    assert len(one["forget"].x) == 1000 and len(one["retain"].x) == 300
    assert one["retain"].x == other["retain"].x
    stayed = {x for x in one["forget"].x if x % 10}
    assert stayed <= set(other["forget"].x)  # whom others' leaving lets in changes nobody's place
    assert list(one["forget"].x) == sorted(one["forget"].x)


def test_scores_belong_to_their_examples():
    seen, indices = world(torch.tensor([3, 8]), torch.tensor([1, 5, 6]))
    curve = by_series(seen, indices)["forget"]
    assert curve.x == (3.0, 8.0)
    assert curve.y == tuple(round(score, 4) for score in phi(seen["forget"]).tolist())


def test_targets_of_thirds_are_all_kept_by_role():
    retain = torch.arange(0, 3000, 2)
    found = by_series(
        *world(torch.tensor([1, 3]), retain, kept=retain[5:9], unseen=torch.tensor([7, 9, 11]))
    )
    assert found["target_kept"].x == (10.0, 12.0, 14.0, 16.0)
    assert found["target_unseen"].x == (7.0, 9.0, 11.0)
    assert found["target_forgotten"].x == (1.0, 3.0)
    assert found["target_class"].x == (1.0, 3.0, 7.0, 9.0, 10.0, 11.0, 12.0, 14.0, 16.0)
    assert found["target_class"].y[4] == 5 % 4  # the sixth of the retained
    whole = phi(outputs("retain", 1500))
    assert found["target_kept"].y == tuple(round(s, 4) for s in whole[5:9].tolist())
