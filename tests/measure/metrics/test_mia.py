"""The loss attack against hand-worked numbers, slow code and known tables."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.measure.metrics.mia import (
    auc,
    loss_attack,
    loss_roc,
    roc,
    true_positive_rate,
)
from unlearn_bench.measure.outputs import Evaluation, Observed, Outputs

scores = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


def test_auc_counts_pairs_and_halves_ties():
    value, low, high = auc(np.array([3.0, 1.0]), np.array([2.0, 1.0]))
    assert value == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert 0 <= low < value < high <= 1


@given(scores, scores)
def test_auc_equals_the_count_over_all_pairs(member, other):
    m, o = np.array(member, float), np.array(other, float)
    slow = np.mean([(a > b) + 0.5 * (a == b) for a in m for b in o])
    assert auc(m, o)[0] == pytest.approx(slow)
    reference = roc_auc_score([1] * len(m) + [0] * len(o), np.concatenate([m, o]))
    assert auc(m, o)[0] == pytest.approx(reference)


@pytest.mark.parametrize(("n", "half"), [(100, 0.080), (400, 0.040), (1000, 0.025), (5000, 0.011)])
def test_interval_at_chance_has_the_known_width(n, half):
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(20):
        _, low, high = auc(rng.normal(size=n), rng.normal(size=n))
        widths.append((high - low) / 2)
    assert np.mean(widths) == pytest.approx(half, abs=0.001)


def test_interval_covers_the_truth_at_its_stated_rate():
    rng = np.random.default_rng(1)
    truth = 0.7602499389065233  # Phi(1 / sqrt 2): two unit normals one apart
    covered = 0
    for _ in range(500):
        _, low, high = auc(rng.normal(1, 1, 80), rng.normal(0, 1, 60))
        covered += low <= truth <= high
    assert 0.92 <= covered / 500 <= 0.98


def test_true_positive_rate_by_hand():
    other = np.arange(10.0)  # at 10 %: one may pass, so the threshold is 8
    member = np.array([7.0, 8.0, 8.5, 9.0, 20.0])
    assert true_positive_rate(member, other, 0.1) == pytest.approx(3 / 5)
    assert true_positive_rate(member, other, 0.2) == pytest.approx(4 / 5)


@given(st.lists(st.integers(0, 5), min_size=10, max_size=40), st.sampled_from([0.1, 0.25, 0.3]))
def test_the_false_positive_rate_is_never_exceeded(values, fpr):
    other = np.array(values, float)
    assert true_positive_rate(other, other, fpr) <= fpr + 1e-9


def test_a_rate_that_the_sample_cannot_hold_is_refused():
    with pytest.raises(ParameterError, match="5 non-members"):
        true_positive_rate(np.ones(3), np.ones(5), 0.1)


def outputs(forget_logits, test_logits):
    def one(split, rows):
        z = torch.tensor(rows, dtype=torch.float64)
        return Outputs(split, z, torch.zeros(len(z), dtype=torch.long))

    parts = {"forget": one("forget", forget_logits), "test_forget": one("test_forget", test_logits)}
    return Evaluation(Observed(parts), Observed(parts), None, ())


def test_an_overfitted_model_scores_above_a_half():
    fitted = [[5.0, 0.0]] * 60
    unseen = [[1.0, 0.0]] * 60
    assert loss_attack(outputs(fitted, unseen))[0].value == 1.0
    assert loss_attack(outputs(unseen, fitted))[0].value == 0.0


def test_rates_without_enough_non_members_are_unresolved():
    rng = np.random.default_rng(0)
    records = {
        r.metric: r
        for r in loss_attack(
            outputs(rng.normal(size=(50, 2)).tolist(), rng.normal(size=(150, 2)).tolist())
        )
    }
    assert records["mia_loss_tpr_at_10pct"].status == "ok"
    for name in ("mia_loss_tpr_at_1pct", "mia_loss_tpr_at_0.1pct"):
        assert records[name].status == "unresolved" and records[name].value is None
    assert records["mia_loss_resolvable_fpr"].value == pytest.approx(10 / 150)


def test_the_order_of_examples_does_not_matter():
    rng = np.random.default_rng(0)
    forget, test = rng.normal(size=(120, 3)), rng.normal(size=(130, 3))
    shuffled = outputs(rng.permutation(forget).tolist(), rng.permutation(test).tolist())
    straight = outputs(forget.tolist(), test.tolist())
    for a, b in zip(loss_attack(straight), loss_attack(shuffled), strict=True):
        assert a.value == pytest.approx(b.value) and a.low == (b.low and pytest.approx(b.low))


def test_huge_logits_do_not_overflow():
    records = {r.metric: r.value for r in loss_attack(outputs([[1e6, -1e6]] * 20, [[0, 1e6]] * 20))}
    assert records["mia_loss_auc"] == 1.0


def test_the_roc_by_hand():
    curve = roc("mia_loss", np.array([3.0, 1.5, 0.5, 0.0]), np.array([2.0, 1.0, 0.0, -1.0]))
    assert curve.x == (0.0, 0.25, 0.5, 0.75, 1.0) and curve.n == 4
    assert curve.y == (0.25, 0.5, 0.75, 1.0, 1.0)  # of 0 against 0 no member is found


def test_the_roc_agrees_with_the_rates_and_the_area():
    rng = np.random.default_rng(0)
    member, other = rng.normal(0.7, 1, 900), rng.normal(0, 1, 1000)
    curve = roc("mia_loss", member, other)
    assert len(curve.x) <= 81 and list(curve.y) == sorted(curve.y)
    for x, y in zip(curve.x[1:-1], curve.y[1:-1], strict=True):
        assert y == true_positive_rate(member, other, x)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(auc(member, other)[0], abs=0.005)


def test_the_roc_of_the_loss_attack_takes_members_for_members():
    fitted, unseen = [[5.0, 0.0]] * 20, [[0.0, 0.0]] * 20
    assert loss_roc(outputs(fitted, unseen)).y[0] == 1.0
    assert loss_roc(outputs(unseen, fitted)).y[0] == 0.0
