"""How sure a gap to retraining is, from examples that both models answer."""

import numpy as np
import pytest
import torch

from unlearn_bench.measure.metrics.accuracy import accuracies
from unlearn_bench.measure.metrics.mia import attack_records, auc, loss_attack
from unlearn_bench.measure.metrics.shares import paired_error, share

from .conftest import invented


def test_models_that_agree_on_every_example_have_a_gap_without_error():
    right = torch.tensor([True, False] * 30)
    record = share("forget_accuracy", "forget", right, right)
    assert record.value == 0.5 and record.high - record.low > 0.2
    assert record.gap_error == 0


def test_the_error_of_a_share_is_the_hand_worked_one():
    # Differences 1, 0, 0, 0: variance 1/4, and 1/4 of that for the mean of four.
    ours = torch.tensor([True, True, False, True])
    theirs = torch.tensor([False, True, False, True])
    assert share("x", "forget", ours, theirs).gap_error == pytest.approx(0.25)


@pytest.mark.parametrize("count", [1, 3])
def test_what_cannot_be_paired_has_no_error(count):
    right = torch.ones(count).bool()
    assert share("x", "forget", right).gap_error is None
    other = torch.ones(1).bool()
    assert share("x", "forget", right, other).gap_error is None


def test_the_interval_of_a_gap_covers_the_true_gap_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered, wider = [], []
    for _ in range(2000):
        # Both are right on the same nine tenths, and differ on some of the rest.
        easy = generator.random(300) < 0.9
        ours = np.where(easy, 1.0, generator.random(300) < 0.6)
        theirs = np.where(easy, 1.0, generator.random(300) < 0.3)
        error = paired_error([(ours, theirs)])
        covered.append(abs(ours.mean() - theirs.mean() - 0.1 * 0.3) <= 1.96 * error)
        wider.append(np.sqrt((ours.var() + theirs.var()) / 300) > 1.3 * error)
    assert 0.92 <= np.mean(covered) <= 0.97
    assert np.mean(wider) > 0.3  # two independent samples would be less sure of it


def test_the_error_of_a_difference_of_areas_is_the_spread_over_drawn_examples():
    generator = np.random.default_rng(1)

    def drawn():
        """Return scores of the same 80 members and 120 others by two models."""
        member, other = generator.normal(0.7, 1, 80), generator.normal(0, 1, 120)
        noisy = [scores + generator.normal(0, 0.5, len(scores)) for scores in (member, other)]
        return (member, other), noisy

    differences, errors = [], []
    for _ in range(400):
        ours, theirs = drawn()
        differences.append(auc(*ours)[0] - auc(*theirs)[0])
        errors.append(attack_records("mia_loss", ours, tuple(theirs))[0].gap_error)
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.1)


def test_records_of_a_run_carry_the_error_of_their_gap(evaluation):
    unlearned = invented(1, 1.0)
    found = {
        r.metric: r for compute in (accuracies, loss_attack) for r in compute(evaluation(unlearned))
    }
    same = {
        r.metric: r
        for compute in (accuracies, loss_attack)
        for r in compute(evaluation(unlearned, retrained=unlearned))
    }
    for name in ("forget_accuracy", "test_retain_accuracy", "mia_loss_auc"):
        assert found[name].gap_error > 0
        assert same[name].gap_error == 0
