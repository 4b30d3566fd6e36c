"""Intervals and claims against slow resampling, and their error rates by simulation."""

import numpy as np
import pytest

from unlearn_bench.analysis.statistics import (
    Gap,
    band,
    distinguishing,
    gap,
    holm,
    margin,
    outside_in_every_seed,
)


def cluster_bootstrap(groups, draws, rng):
    """Slow and obvious: draw seeds, then examples within each, and take the mean of means."""
    means = []
    for _ in range(draws):
        chosen = rng.integers(len(groups), size=len(groups))
        means.append(np.mean([rng.choice(groups[i], size=len(groups[i])).mean() for i in chosen]))
    return np.std(means)


def test_the_error_is_that_of_resampling_seeds_and_then_examples():
    rng = np.random.default_rng(0)
    groups = [rng.normal(shift, 2.0, size=60) for shift in rng.normal(0, 0.5, size=12)]
    errors = [group.std() / np.sqrt(len(group)) for group in groups]
    found = gap([group.mean() for group in groups], errors, margin=1.0)
    # Resampling n seeds divides by n where the sample variance divides by n - 1.
    between = np.var([g.mean() for g in groups], ddof=1) / 12
    biased = np.sqrt(found.error**2 - between / 12)
    assert biased == pytest.approx(cluster_bootstrap(groups, 3000, rng), rel=0.05)


def test_the_interval_covers_the_truth():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        seeds = 0.3 + rng.normal(0, 1, size=8)
        low, high = gap(seeds.tolist(), [0.0] * 8, 1.0).interval(0.9)
        covered += low <= 0.3 <= high
    assert covered / 1000 == pytest.approx(0.9, abs=0.03)


def test_equivalence_is_claimed_falsely_in_5_percent_at_the_margin():
    rng = np.random.default_rng(2)
    claimed = np.mean(
        [
            gap((1.0 + rng.normal(0, 0.5, size=8)).tolist(), [0.0] * 8, margin=1.0).equivalent
            for _ in range(2000)
        ]
    )
    assert claimed == pytest.approx(0.05, abs=0.015)
    clear = [
        gap(rng.normal(0, 0.5, size=8).tolist(), [0.0] * 8, 1.0).equivalent for _ in range(300)
    ]
    assert np.mean(clear) > 0.9


def test_a_difference_is_claimed_falsely_in_5_percent_at_the_margin():
    rng = np.random.default_rng(3)
    p_values = [
        gap((1.0 + rng.normal(0, 0.5, size=8)).tolist(), [0.0] * 8, 1.0).p_value
        for _ in range(2000)
    ]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.015)


def seven_metrics(rng, seeds, shift=0.0):
    """U and G as two retrainings of each seed, in seven independent metrics; U moved by shift."""
    gaps = {}
    for metric in range(7):
        g, u = rng.normal(size=seeds), rng.normal(size=seeds)
        u = u + (shift if metric == 0 else 0.0)
        gaps[str(metric)] = gap((u - g).tolist(), [0.0] * seeds, margin(g.tolist(), 0.0))
    return gaps


def test_two_retrainings_are_told_apart_in_less_than_5_percent_jointly():
    rng = np.random.default_rng(4)
    verdicts = [seven_metrics(rng, 8) for _ in range(1000)]
    assert np.mean([bool(distinguishing(gaps)) for gaps in verdicts]) < 0.05
    # The price of seven metrics: chance alone leaves most pairs undecided at 8 seeds (60 %).
    same = np.mean([all(g.equivalent for g in gaps.values()) for gaps in verdicts])
    assert 0.33 < same < 0.45


def test_a_real_difference_is_found_and_named():
    rng = np.random.default_rng(5)
    named = [distinguishing(seven_metrics(rng, 8, shift=6.0)) for _ in range(200)]
    assert np.mean([names == ("0",) for names in named]) > 0.85


@pytest.mark.parametrize(
    ("seeds", "alone", "together"), [(2, 0.193, 0.035), (3, 0.032, 0.003), (4, 0.004, 0.0)]
)
def test_few_seeds_flag_another_retraining_as_rarely_as_stated(seeds, alone, together):
    rng = np.random.default_rng(6)
    flagged = np.zeros(2)
    for _ in range(4000):
        g, u, other = rng.normal(size=(3, seeds))
        for i, known in enumerate((g, np.concatenate([g, other]))):
            flagged[i] += outside_in_every_seed((u - g).tolist(), band(known.tolist(), 0.0))
    assert flagged / 4000 == pytest.approx([alone, together], abs=0.01)


def test_margin_and_band_by_hand():
    assert margin([1.0, 2.0, 3.0], floor=0.1) == 2.0
    assert margin([1.0, 1.0], floor=0.1) == 0.1
    assert band([0.5, 0.9, 0.6], floor=0.1) == pytest.approx(0.4)
    assert band([0.5], floor=0.1) == 0.1


def test_a_single_seed_flags_nothing():
    assert not outside_in_every_seed([9.0], 1.0)
    assert outside_in_every_seed([9.0, 2.0], 1.0)
    assert not outside_in_every_seed([9.0, -2.0], 1.0)
    assert not outside_in_every_seed([9.0, 0.5], 1.0)


def test_without_any_spread_the_difference_itself_decides():
    assert Gap(0.0, 0.0, 8, 0.01).equivalent
    assert Gap(0.5, 0.0, 8, 0.01).p_value == 0.0
    assert Gap(0.005, 0.0, 8, 0.01).p_value == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
