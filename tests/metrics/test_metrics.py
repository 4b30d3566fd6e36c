"""The catalogue of metrics agrees with what is recorded."""

import pytest
import torch

from unlearn_bench import metrics
from unlearn_bench.errors import UnknownNameError
from unlearn_bench.evaluate import SPLITS
from unlearn_bench.metrics.cost import cost_records
from unlearn_bench.outputs import Outputs

COST = {
    "seconds": {
        "unlearn": {"wall": 2.0, "cpu": 3.0, "gpu": 1.5}, "precompute": {"wall": 0.5},
        "original": {"wall": 9.0}, "evaluate": {"wall": 0.1},
    },
    "peak_bytes": 1000, "examples": {"forget": 30, "retain": 0},
}  # fmt: skip


def test_every_recorded_name_is_described():
    generator = torch.Generator().manual_seed(0)
    outputs = {
        s: Outputs(s, torch.randn(200, 3, generator=generator).double(),
                   torch.randint(3, (200,), generator=generator))
        for s in SPLITS
    }  # fmt: skip
    recorded = {r.metric for r in metrics.compute(outputs) + cost_records(COST)}
    described = set(metrics.metrics())
    assert recorded <= described
    # The ratio is derived from several runs, when the records are put together.
    assert described - recorded == {"time_ratio_to_retrain"}


def test_costs_become_records():
    records = {(r.metric, r.split): r.value for r in cost_records(COST)}
    assert records["wall_seconds", ""] == 2.0
    assert records["gpu_seconds", ""] == 1.5
    assert records["wall_seconds_precompute", ""] == 0.5
    assert records["examples_touched", "forget"] == 30
    assert records["examples_touched", "retain"] == 0


def test_what_was_not_measured_is_left_out():
    seconds = {"unlearn": {"wall": 2.0, "cpu": 3.0, "gpu": None}}
    records = {r.metric for r in cost_records({**COST, "seconds": seconds, "peak_bytes": None})}
    assert not records & {"gpu_seconds", "peak_bytes", "wall_seconds_original"}


def test_unknown_metric_names_the_closest():
    with pytest.raises(UnknownNameError, match="forget_accuracy"):
        metrics.get("forget_acuracy")
