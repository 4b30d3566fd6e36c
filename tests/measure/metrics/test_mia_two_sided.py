"""Two-sided attacks see members on either side of the unseen examples, and nothing in noise."""

import numpy as np
import pytest
import torch

from unlearn_bench.measure.metrics.mia import loss_attack
from unlearn_bench.measure.metrics.mia_two_sided import two_sided_attacks
from unlearn_bench.measure.metrics.ranks import label_rank
from unlearn_bench.measure.metrics.scores import rank_of_label
from unlearn_bench.measure.outputs import Observed, Outputs
from unlearn_bench.measure.scores import phi

from .conftest import invented

NAMES = ("mia_loss_two_sided_auc", "mia_loss_density_auc")


def with_logit(seen, split, given):
    """Give the true label log-odds of ``given``."""
    part = seen[split]
    logits = torch.zeros_like(part.logits)
    rest = torch.tensor(logits.shape[1] - 1.0).log().double()
    logits[torch.arange(len(part)), part.labels] = torch.as_tensor(given) + rest
    return {split: Outputs(split, logits, part.labels)}


def model(member, other):
    seen = invented(0, 0.0)
    return Observed(
        seen.outputs | with_logit(seen, "forget", member) | with_logit(seen, "test_forget", other),
        seen.probed,
    )


def values(evaluation, seen):
    records = two_sided_attacks(evaluation(seen)) + loss_attack(evaluation(seen))
    return {r.metric: r for r in records}


def test_half_flipped_members_are_seen_from_both_sides_alone(evaluation):
    rng = np.random.default_rng(0)
    # Half memorised, half taught a wrong label.
    member = rng.normal(0, 1, 60) + np.repeat([5.0, -5.0], 30)
    found = values(evaluation, model(member, rng.normal(0, 1, 120)))
    assert found["mia_loss_auc"].low < 0.5 < found["mia_loss_auc"].high
    assert found["mia_loss_two_sided_auc"].low > 0.95
    assert found["mia_loss_density_auc"].low > 0.95


def test_members_are_seen_where_accuracy_and_the_loss_attack_are_those_of_retraining(evaluation):
    rng = np.random.default_rng(0)
    # A tenth wrong, as unseen examples are; half of the others surer than those, half less sure.
    member = np.concatenate([np.full(6, -4.0), np.full(26, 0.3), np.full(28, 9.0)])
    other = np.concatenate([rng.uniform(-3, -1.3, 12), rng.uniform(0.5, 8, 108)])
    seen = model(member + rng.normal(0, 0.1, 60), other)
    assert seen["forget"].accuracy() == seen["test_forget"].accuracy() == 0.9
    found = values(evaluation, seen)
    assert found["mia_loss_auc"].low < 0.5 < found["mia_loss_auc"].high
    assert all(found[name].low > 0.7 for name in NAMES)


def test_members_that_are_all_alike_are_seen_as_well(evaluation):
    rng = np.random.default_rng(0)
    found = values(evaluation, model(rng.normal(0, 0.1, 60), rng.normal(0, 1, 120)))
    # Nearer to the median than unseen examples: told apart, below chance.
    assert found["mia_loss_two_sided_auc"].high < 0.3
    assert found["mia_loss_density_auc"].low > 0.7


def test_overfitted_members_are_still_seen(evaluation):
    rng = np.random.default_rng(0)
    found = values(evaluation, model(rng.normal(3, 1, 60), rng.normal(0, 1, 120)))
    assert all(found[name].low > 0.85 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_noise_gives_chance(evaluation, name):
    rng = np.random.default_rng(1)
    found = [
        values(evaluation, model(rng.normal(0, 1, 60), rng.normal(0, 1, 120)))[name].value
        for _ in range(16)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.035)


def test_log_odds_are_exact_where_probabilities_round_to_one():
    outputs = Outputs("forget", torch.tensor([[90.0, 0.0, 0.0]]).double(), torch.tensor([0]))
    assert float(phi(outputs)) == pytest.approx(90 - np.log(2))


def test_ranks_count_from_one_and_share_ties(evaluation):
    logits = torch.tensor([[3.0, 2.0, 1.0], [0.0, 2.0, 1.0], [1.0, 1.0, 1.0], [2.0, 2.0, 0.0]])
    outputs = Outputs("forget", logits.double(), torch.tensor([0, 0, 1, 1]))
    assert rank_of_label(outputs).tolist() == [1, 3, 2, 1.5]
    seen = invented(0, 0.0)
    hidden = {"forget": Outputs("forget", logits[:2].double(), torch.tensor([1, 1]))}
    record = label_rank(evaluation(Observed(seen.outputs | hidden)))[0]
    assert record.value == 1.5 and 1 <= record.low < 1.5 < record.high
