"""Calibration by hand."""

import math

import pytest
import torch

from unlearn_bench.measure.metrics.calibration import (
    brier_score,
    calibration,
    expected_calibration_error,
)
from unlearn_bench.measure.outputs import Observed, Outputs


def outputs(confidences, right):
    p = torch.tensor([[c, 1 - c] for c in confidences], dtype=torch.float64)
    return Outputs("test_retain", p.log(), torch.tensor([0 if r else 1 for r in right]))


def test_ece_by_hand():
    part = outputs([0.6, 0.7, 0.8, 0.9], [True, False, True, True])
    # Two bins: (0.6, 0.7) is right half the time, (0.8, 0.9) always.
    assert expected_calibration_error(part, bins=2) == pytest.approx((0.15 + 0.15) / 2)
    assert expected_calibration_error(part, bins=1) == pytest.approx(0.0)
    assert expected_calibration_error(part) == pytest.approx((0.4 + 0.7 + 0.2 + 0.1) / 4)


def test_ties_in_confidence_do_not_depend_on_the_order():
    straight = expected_calibration_error(outputs([0.8] * 6, [1, 1, 1, 0, 0, 0]), bins=2)
    mixed = expected_calibration_error(outputs([0.8] * 6, [0, 1, 0, 1, 0, 1]), bins=2)
    assert straight == mixed == pytest.approx((0.8 + 0.2) / 2)


def test_bins_take_every_example():
    """The most confident one too: a sum over bins that drops it is 0 here."""
    part = outputs([0.99999], [False])
    assert expected_calibration_error(part) == pytest.approx(0.99999)


def test_brier_and_nll_by_hand():
    part = outputs([0.6, 0.9], [True, False])
    assert brier_score(part) == pytest.approx((2 * 0.4**2 + 2 * 0.9**2) / 2)
    assert float(part.nll().mean()) == pytest.approx(-(math.log(0.6) + math.log(0.1)) / 2)


def test_records_are_of_the_retained_test_examples(evaluation):
    part = outputs([0.6, 0.9], [True, False])
    records = {r.metric: r.value for r in calibration(evaluation(Observed({"test_retain": part})))}
    assert records["brier"] == brier_score(part) and set(records) == {"ece", "nll", "brier"}
