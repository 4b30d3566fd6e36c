"""KLoM by hand, by a slow count, and at the levels that chance gives."""

import numpy as np
import pytest

from unlearn_bench.population.klom import klom, redivided


def slow_klom(u, g):
    low, high = min(*u, *g), max(*u, *g)
    bins = [0.0] * 20, [0.0] * 20
    for counts, scores in zip(bins, (u, g), strict=True):
        for score in scores:
            place = 0 if high == low else min(int((score - low) / (high - low) * 20), 19)
            counts[place] += 1 / len(scores)
    return sum(p * np.log(p / max(q, 1e-5)) for p, q in zip(*bins, strict=True) if p)


def test_it_is_the_divergence_of_two_histograms():
    rng = np.random.default_rng(0)
    u, g = rng.normal(0.5, 1, (30, 4)), rng.normal(size=(30, 4))
    assert klom(u, g) == pytest.approx([slow_klom(u[:, i], g[:, i]) for i in range(4)])
    assert klom(u, g) != pytest.approx(klom(g, u))  # the order of the arguments matters


def test_the_largest_score_belongs_to_the_last_bin():
    scores = np.linspace(0, 1, 21)[:, None]
    assert klom(scores, scores) == pytest.approx([0.0])
    # One model at the upper edge, all retrained ones at the lower: ln(1 / 1e-5) of its share.
    assert klom(np.array([[0.0], [1.0]]), np.zeros((2, 1))) == pytest.approx(
        [0.5 * np.log(0.5) + 0.5 * np.log(0.5 / 1e-5)]
    )


def test_equal_scores_diverge_by_nothing_and_huge_ones_are_clipped():
    assert klom(np.full((5, 2), 3.0), np.full((5, 2), 3.0)).tolist() == [0.0, 0.0]
    assert klom(np.full((5, 1), 1e9), np.full((5, 1), 200.0)).tolist() == [0.0]


@pytest.mark.parametrize(
    ("models", "mean", "high"),
    [(16, 3.83, 5.98), (32, 1.68, 3.04), (64, 0.62, 1.24), (100, 0.33, 0.65), (200, 0.14, 0.28)],
)
def test_chance_alone_gives_what_was_simulated_elsewhere(models, mean, high):
    rng = np.random.default_rng(models)
    found = klom(rng.normal(size=(models, 1000)), rng.normal(size=(models, 1000)))
    assert found.mean() == pytest.approx(mean, rel=0.08)
    assert np.percentile(found, 95) == pytest.approx(high, rel=0.1)


@pytest.mark.parametrize(("shift", "mean"), [(1, 1.15), (2, 3.6)])
def test_shifts_give_what_was_simulated_elsewhere(shift, mean):
    rng = np.random.default_rng(shift)
    found = klom(shift + rng.normal(size=(100, 1000)), rng.normal(size=(100, 1000)))
    assert found.mean() == pytest.approx(mean, rel=0.1)


def test_a_random_division_of_shifted_arms_is_at_the_level_of_chance():
    rng = np.random.default_rng(3)
    u, g = 2 + rng.normal(size=(64, 300)), rng.normal(size=(64, 300))
    assert klom(*redivided(u, g, rng)).mean() < 1 < 3 < klom(u, g).mean()
