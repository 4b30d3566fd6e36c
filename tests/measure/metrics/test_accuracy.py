"""Accuracies by hand."""

import pytest
import torch

from unlearn_bench.measure.metrics.accuracy import accuracies
from unlearn_bench.measure.outputs import Evaluation, Observed, Outputs

RIGHT = {"forget": 0, "retain": 3, "test_forget": 1, "test_retain": 4}


def outputs():
    logits = torch.eye(2, dtype=torch.float64)[[0, 0, 0, 0]]
    seen = Observed(
        {
            split: Outputs(split, logits, torch.tensor([0] * right + [1] * (4 - right)))
            for split, right in RIGHT.items()
        }
    )
    return Evaluation(seen, seen, None, ("zero", "one"))


def test_each_split_is_measured_on_its_own():
    records = {r.metric: r for r in accuracies(outputs())}
    assert {name: record.value for name, record in records.items()} == {
        "forget_accuracy": 0.0,
        "retain_accuracy": 0.75,
        "test_forget_accuracy": 0.25,
        "test_retain_accuracy": 1.0,
    }
    assert records["test_retain_accuracy"].split == "test_retain"


def test_interval_is_wilsons():
    # 3 of 4: centre (0.75 + z^2/8) / (1 + z^2/4), z = 1.96
    records = {r.metric: r for r in accuracies(outputs())}
    assert records["retain_accuracy"].low == pytest.approx(0.3006, abs=1e-4)
    assert records["retain_accuracy"].high == pytest.approx(0.9544, abs=1e-4)
