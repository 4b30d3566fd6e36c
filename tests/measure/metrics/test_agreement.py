"""Distances between predictions by hand, and ZRF with them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unlearn_bench.measure.metrics.agreement import (
    activation_distance,
    agreement,
    js_divergence,
    kl_divergence,
)
from unlearn_bench.measure.metrics.zrf import zero_retrain_forgetting
from unlearn_bench.measure.outputs import Observed, Outputs


def logits(*rows):
    return torch.tensor(rows, dtype=torch.float64).clamp(min=1e-300).log()


rows = st.lists(st.floats(-30, 30), min_size=3, max_size=3)


def test_by_hand():
    a, b = logits([0.5, 0.5]), logits([1.0, 0.0])
    assert float(activation_distance(a, b)) == pytest.approx(math.sqrt(0.5))
    assert float(kl_divergence(b, a)) == pytest.approx(math.log(2))
    # JS = H(0.75, 0.25) - (H(0.5, 0.5) + 0) / 2 in bits
    mixture = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert float(js_divergence(a, b)) == pytest.approx(mixture - 0.5)


@given(rows, rows)
def test_js_is_symmetric_within_0_and_1_and_0_only_of_itself(a, b):
    p, q = torch.tensor([a]).double(), torch.tensor([b]).double()
    assert float(js_divergence(p, q)) == pytest.approx(float(js_divergence(q, p)), abs=1e-12)
    assert 0 <= float(js_divergence(p, q)) <= 1
    assert float(js_divergence(p, p + 5)) == pytest.approx(0, abs=1e-12)


def test_opposite_certainties_are_one_bit_apart():
    a, b = torch.tensor([[2000.0, 0, 0]]).double(), torch.tensor([[0, 2000.0, 0]]).double()
    assert float(js_divergence(a, b)) == 1.0
    assert float(activation_distance(a, b)) == pytest.approx(math.sqrt(2))


def test_records_average_over_examples(evaluation):
    found = evaluation()
    records = {(r.metric, r.split): r.value for r in agreement(found)}
    u, g = found.unlearned["forget"].logits, found.reference["forget"].logits
    slow = [float((u[i].softmax(0) - g[i].softmax(0)).norm()) for i in range(len(u))]
    assert records["activation_distance", "forget"] == pytest.approx(sum(slow) / len(slow))
    assert records["kl_divergence", "test_retain"] > 0
    same = evaluation(unlearned=found.retrained)
    assert all(r.value == 0 for r in agreement(same) if r.metric != "js_divergence")


@pytest.mark.parametrize(("classes", "expected"), [(10, 0.24), (100, 0.04)])
def test_zrf_of_sure_against_uniform_answers(evaluation, classes, expected):
    sure = torch.zeros(7, classes, dtype=torch.float64)
    sure[:, 3] = 500
    part = {"forget": Outputs("forget", sure, torch.full((7,), 3))}
    uniform = (torch.zeros_like(sure),)
    found = evaluation(unlearned=Observed(part))
    found = type(found)(found.unlearned, found.original, None, found.classes, uniform)
    (record,) = zero_retrain_forgetting(found)
    # 1 - JS by hand: p = (1, 0, ..), q = 1/C, m the mean of both
    m1, m = (1 + 1 / classes) / 2, 1 / classes / 2
    kl_p = math.log2(1 / m1)
    kl_q = math.log2(1 / classes / m1) / classes + (classes - 1) / classes * math.log2(
        1 / classes / m
    )
    assert record.value == pytest.approx(1 - (kl_p + kl_q) / 2)
    assert record.value == pytest.approx(expected, abs=0.005)
