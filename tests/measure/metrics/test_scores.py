"""Scores of single examples against their definitions, computed naively."""

import math

import numpy as np
import pytest
import torch

from unlearn_bench.measure.metrics import scores
from unlearn_bench.measure.outputs import Outputs


def one(logits, label):
    z = torch.tensor([logits], dtype=torch.float64)
    return Outputs("forget", z, torch.tensor([label]))


def slow_modified_entropy(p, y):
    value = -(1 - p[y]) * math.log(p[y])
    return value - sum(p[j] * math.log(1 - p[j]) for j in range(len(p)) if j != y)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_modified_entropy_is_its_definition(label):
    p = [0.7, 0.2, 0.1]
    found = scores.modified_entropy(one([math.log(x) for x in p], label))
    assert float(found) == pytest.approx(slow_modified_entropy(p, label))


def test_entropy_and_confidence_by_hand():
    sure = one([math.log(x) for x in (0.5, 0.25, 0.25)], 0)
    assert float(scores.entropy(sure)) == pytest.approx(1.5 * math.log(2))
    assert float(scores.confidence(sure)) == pytest.approx(0.5)


@pytest.mark.parametrize("label", [0, 1])
def test_certainty_stays_finite(label):
    sure = one([1000.0, 0.0, -500.0], label)
    assert float(scores.entropy(sure)) == pytest.approx(0, abs=1e-12)
    # Surely right costs nothing; surely wrong costs -log p_y plus -log(1 - p_top).
    expected = 0.0 if label == 0 else 2000.0
    assert float(scores.modified_entropy(sure)) == pytest.approx(expected, abs=1e-9)


def test_a_shuffle_by_content_finds_the_same_rows_wherever_they_stand():
    rows = np.random.default_rng(0).normal(size=(30, 2))
    moved = np.random.default_rng(1).permutation(30)
    first = rows[scores.shuffled_rows(rows, 5)]
    assert np.array_equal(first, rows[moved][scores.shuffled_rows(rows[moved], 5)])
    assert not np.array_equal(first, rows[scores.shuffled_rows(rows, 6)])
