"""Forgetting quality against trying every threshold, and at the level of chance."""

import math

import numpy as np
import pytest

from unlearn_bench.population.quality import forgetting_quality, privacy_loss


def slow_privacy_loss(u, g):
    positive, negative = (g, u) if np.median(u) < np.median(g) else (u, g)
    grid = np.linspace(min(*u, *g), max(*u, *g), 100)
    rules = [lambda s, t=t: s > t for t in grid]
    rules += [
        lambda s, low=low, high=high: (s > low) & ~(s > high)
        for i, low in enumerate(grid)
        for high in grid[i + 1 :]
    ]
    best = 0.0
    for rule in rules:
        fpr, fnr = rule(negative).mean(), 1 - rule(positive).mean()
        if fpr < 1e-12 and fnr < 1e-12:
            return 50.0
        if fpr < 1e-12 or fnr < 1e-12:
            continue  # so few models do not show a rate to be zero
        for a, b in ((fpr, fnr), (fnr, fpr)):
            if 1 - 1e-5 - a > 0:
                best = max(best, math.log(1 - 1e-5 - a) - math.log(b))
    return best


def test_the_loss_is_that_of_the_best_threshold():
    rng = np.random.default_rng(0)
    u, g = rng.normal(0.7, 1, (20, 6)), rng.normal(size=(20, 6))
    expected = [slow_privacy_loss(u[:, i], g[:, i]) for i in range(6)]
    assert privacy_loss(u, g) == pytest.approx(expected)


def test_arms_that_a_threshold_separates_and_arms_that_collapsed_lose_all():
    rng = np.random.default_rng(1)
    g = rng.normal(size=(20, 1))
    assert privacy_loss(g + 100, g).tolist() == [50.0]
    assert privacy_loss(0.001 * g, g).tolist() == [50.0]
    assert forgetting_quality(g + 100, g)[0] == 2.0 ** -(math.ceil(math.log(19)) / 0.5)


def test_points_halve_with_every_half_of_loss():
    rng = np.random.default_rng(2)
    u, g = rng.normal(size=(20, 50)), rng.normal(size=(20, 50))
    eps = privacy_loss(u, g)
    most = math.ceil(math.log(19)) * 2
    expected = [2.0 ** -min(math.floor(e / 0.5), most) for e in eps]
    assert forgetting_quality(u, g) == pytest.approx(expected)


@pytest.mark.parametrize(("models", "level"), [(16, 0.153), (64, 0.104)])
def test_exact_unlearning_is_at_the_stated_level_and_shifts_lie_below(models, level):
    rng = np.random.default_rng(models)
    means = [
        forgetting_quality(
            s + rng.normal(size=(models, 200)), rng.normal(size=(models, 200))
        ).mean()
        for s in (0, 1, 2)
    ]
    assert means[0] == pytest.approx(level, abs=0.025)
    assert means[0] > 1.4 * means[1] > 1.4 * 1.5 * means[2]


def test_no_examples_have_no_points():
    assert forgetting_quality(np.empty((4, 0)), np.empty((4, 0))).shape == (0,)


def test_few_models_have_a_floor():
    u, g = np.zeros((16, 1)), np.ones((16, 1))
    assert forgetting_quality(u, g).tolist() == [2.0**-6]
