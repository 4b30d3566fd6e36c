"""Attacks by many models: chance where nothing is to be found, power where something is."""

import numpy as np
import pytest
from scipy.stats import beta, norm, t

from unlearn_bench.population.shadow import (
    ATTACKS,
    Arms,
    auc,
    bootstrapped,
    clopper_pearson,
    scored,
    tpr_at,
)


def invented(shift, each, targets=300, seed=0, spread=3.0):
    """Scores of ``each`` models an arm whose members are ``shift`` standard deviations higher."""
    rng = np.random.default_rng(seed)
    role = np.stack([rng.permuted(np.repeat([0, 1, 2], each)) for _ in range(targets)], 1)
    phi = rng.normal(size=role.shape) + spread * rng.normal(size=targets)
    members = np.where(role == 2, phi + shift, np.nan)
    return Arms(members, np.where(role == 1, phi, np.nan), np.zeros(targets, dtype=int))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("each", [4, 8])
def test_models_that_do_not_differ_are_at_chance(attack, each):
    found = [auc(*scored(invented(0.0, each, seed=seed), attack)) for seed in range(4)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize(("each", "expected"), [(4, 0.70), (8, 0.64), (32, 0.57)])
def test_scores_that_a_distribution_was_fitted_to_look_like_members(each, expected):
    # What leaving models out avoids: means that the judged score itself has moved.
    arms = invented(0.0, each)
    mean_in, mean_out = np.nanmean(arms.members, 0), np.nanmean(arms.others, 0)

    def in_sample(phi):
        return (phi - mean_out) ** 2 - (phi - mean_in) ** 2

    assert auc(in_sample(arms.members), in_sample(arms.others)) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("each", "expected"), [(8, 0.73), (16, 0.745)])
def test_pooled_variance_has_nearly_the_power_that_there_is(each, expected):
    # One standard deviation apart: Phi(1 / sqrt 2) = 0.76.
    assert auc(*scored(invented(1.0, each), "lira")) == pytest.approx(expected, abs=0.015)
    assert auc(*scored(invented(1.0, each), "student")) == pytest.approx(expected, abs=0.02)


def test_examples_that_differ_hide_from_one_threshold_and_not_from_many_models():
    arms = invented(1.0, 8)
    assert auc(*scored(arms, "loss")) < 0.62 < 0.69 < auc(*scored(arms, "rmia"))


def slow(arms, attack):
    """Judge one score after the other, each by the models that are left."""
    variance_squares, freedom = 0.0, 0
    for scores in (arms.members, arms.others):
        for x in range(scores.shape[1]):
            own = scores[~np.isnan(scores[:, x]), x]
            variance_squares += ((own - own.mean()) ** 2).sum()
            freedom += len(own) - 1
    variance = variance_squares / freedom
    found = np.full((2, *arms.members.shape), np.nan)
    for side, (mine, theirs) in enumerate(
        ((arms.members, arms.others), (arms.others, arms.members))
    ):
        for x in range(mine.shape[1]):
            own = mine[~np.isnan(mine[:, x]), x]
            other = theirs[~np.isnan(theirs[:, x]), x]
            for turn, k in enumerate(np.flatnonzero(~np.isnan(mine[:, x]))):
                left = np.delete(own, turn), np.delete(other, turn % len(other))
                inside, outside = left if side == 0 else left[::-1]
                phi = mine[k, x]
                if attack == "lira":
                    parts = [norm.logpdf(phi, a.mean(), variance**0.5) for a in (inside, outside)]
                else:
                    parts = []
                    for a in (inside, outside):
                        df = 8 + len(a) - 1
                        spread = (8 * variance + ((a - a.mean()) ** 2).sum()) / df
                        scale = (spread * (1 + 1 / len(a))) ** 0.5
                        parts.append(t.logpdf(phi, df, a.mean(), scale))
                found[side, k, x] = parts[0] - parts[1]
    return found


@pytest.mark.parametrize("attack", ["lira", "student"])
def test_scores_are_those_of_fitting_anew_for_every_model(attack):
    arms = invented(1.0, 3, targets=5)
    assert np.stack(scored(arms, attack)) == pytest.approx(slow(arms, attack), nan_ok=True)


# Defects of published code, each with what it would change.


def test_unseen_scores_are_those_of_their_role_and_not_the_smaller_ones():
    # Sorting all scores and calling the lower half unseen would find members here.
    assert auc(*scored(invented(-2.0, 8, spread=0.1), "loss")) < 0.2


@pytest.mark.parametrize("attack", ["lira", "student", "loss"])
def test_densities_follow_the_scale_of_the_scores(attack):
    # A kernel of bandwidth 1 sees nothing in scores that differ by hundredths.
    arms = invented(1.0, 4)
    small = Arms(arms.members / 100, arms.others / 100, arms.classes)
    assert auc(*scored(small, attack)) == pytest.approx(auc(*scored(arms, attack)))


def test_a_score_far_below_both_arms_is_no_member():
    # A test of distance from the unseen mean, two-sided, would accuse it.
    arms = invented(3.0, 4, targets=50)
    x = 0
    k = np.flatnonzero(~np.isnan(arms.others[:, x]))[0]
    arms.others[k, x] = np.nanmean(arms.others[:, x]) - 20
    _, others = scored(arms, "lira")
    assert others[k, x] < 0


def test_the_variance_is_that_of_both_arms_about_their_own_means():
    # Members' spread taken for both arms, as one published switch does, is a ninth of the others'.
    arms = invented(1.0, 3, targets=5)
    arms = Arms(arms.members, 3 * arms.others, arms.classes)
    assert np.stack(scored(arms, "lira")) == pytest.approx(slow(arms, "lira"), nan_ok=True)


def test_rmia_is_its_definition_written_out():
    arms = invented(1.0, 3, targets=12)
    arms.classes[6:] = 1
    ratios = np.full((2, *arms.members.shape), np.nan)
    sides = (arms.members, arms.others)
    for side, mine in enumerate(sides):
        for x in range(mine.shape[1]):
            own, other = (a[~np.isnan(a[:, x]), x] for a in (mine, sides[1 - side]))
            for turn, k in enumerate(np.flatnonzero(~np.isnan(mine[:, x]))):
                rest = np.delete(own, turn), np.delete(other, turn % len(other))
                prior = np.mean([(1 / (1 + np.exp(-a))).mean() for a in rest])
                ratios[side, k, x] = 1 / (1 + np.exp(-mine[k, x])) / prior
    expected = np.full_like(ratios, np.nan)
    for side, k, x in np.argwhere(~np.isnan(ratios)):
        same = (arms.classes == arms.classes[x]) & ~np.isnan(ratios[1, k])
        same[x] = False
        if (same.sum() + (side == 1)) > 1:
            expected[side, k, x] = (ratios[side, k, x] > ratios[1, k, same]).mean()
    assert np.stack(scored(arms, "rmia")) == pytest.approx(expected, nan_ok=True)


def test_an_example_with_one_model_of_an_arm_is_not_judged():
    arms = invented(0.0, 3, targets=4)
    arms.members[np.flatnonzero(~np.isnan(arms.members[:, 0]))[1:], 0] = np.nan
    members, others = scored(arms, "lira")
    assert np.isnan(members[:, 0]).all() and np.isnan(others[:, 0]).all()
    assert not np.isnan(members[:, 1]).all()


def test_likelihood_is_compared_within_a_class():
    # The second class has scores out of reach of the first: compared with it, all would lose.
    arms = invented(0.0, 4, targets=100)
    arms.classes[50:] = 1
    for scores in (arms.members, arms.others):
        scores[:, 50:] += 50
    members, others = scored(arms, "rmia")
    assert auc(members[:, :50], others[:, :50]) == pytest.approx(0.5, abs=0.06)


def test_auc_and_rates_by_hand():
    assert auc(np.array([1.0, 2.0, np.nan]), np.array([0.0, 2.0])) == pytest.approx(0.625)
    assert np.isnan(auc(np.array([np.nan]), np.array([1.0])))
    others = np.arange(100.0)
    assert tpr_at(np.array([98.5, 99.5, 50.0]), others, 0.01) == (1 + 1, 3)
    assert tpr_at(np.array([89.5, 88.0]), others, 0.1) == (1, 2)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10)])
def test_intervals_of_shares_are_exact(hits, n):
    low, high = clopper_pearson(hits, n)
    assert low == pytest.approx(0.0 if hits == 0 else beta.ppf(0.025, hits, n - hits + 1))
    assert high == pytest.approx(1.0 if hits == n else beta.ppf(0.975, hits + 1, n - hits))


def test_the_interval_over_models_holds_the_value_and_narrows_with_more():
    rng = np.random.default_rng(0)
    few, many = (bootstrapped(*scored(invented(1.0, n), "lira"), rng) for n in (4, 16))
    assert few[0] < auc(*scored(invented(1.0, 4), "lira")) < few[1]
    assert many[1] - many[0] < few[1] - few[0]


@pytest.mark.parametrize("attack", ["lira", "student", "loss"])
@pytest.mark.parametrize("shift_of_models", [0.0, 0.3])
def test_the_interval_of_models_that_do_not_differ_holds_chance_level(attack, shift_of_models):
    # Each source of chance alone is not enough: models for lira, targets for loss.
    held = []
    for suite in range(40):
        arms, rng = invented(0.0, 4, targets=100, seed=suite), np.random.default_rng(suite)
        moved = arms.members + shift_of_models * rng.normal(size=(12, 1))
        arms = Arms(moved, arms.others, arms.classes)
        low, high = bootstrapped(*scored(arms, attack), rng, draws=60)
        held.append(low <= 0.5 <= high)
    assert np.mean(held) >= 0.9  # 95 % less what 40 suites may miss
