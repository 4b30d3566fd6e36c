"""Rules for few seeds, and their error rates by simulation."""

import numpy as np
import pytest

from unlearn_bench.analysis.statistics import band, holm, outside_in_every_seed


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


def test_the_band_by_hand():
    assert band([0.5, 0.9, 0.6], floor=0.1) == pytest.approx(0.4)
    assert band([0.5], floor=0.1) == 0.1


def test_a_single_seed_flags_nothing():
    assert not outside_in_every_seed([9.0], 1.0)
    assert outside_in_every_seed([9.0, 2.0], 1.0)
    assert not outside_in_every_seed([9.0, -2.0], 1.0)
    assert not outside_in_every_seed([9.0, 0.5], 1.0)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
