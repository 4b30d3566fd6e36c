"""What unlearning cost, as records; the harness measures it around the method's call."""

from collections.abc import Mapping
from typing import Any

from unlearn_bench.results.records import Record


def cost_records(cost: Mapping[str, Any]) -> list[Record]:
    """Turn the costs that the runner noted into records; what was not measured is left out.

    Args:
        cost: ``seconds`` (phase to wall, cpu, gpu; without ``unlearn`` where a model came
            unlearned), ``peak_bytes``, ``examples`` by split, ``passes`` (forward and backward,
            in examples).
    """
    seconds = cost["seconds"]
    unlearn = seconds.get("unlearn", {})
    precompute = seconds.get("precompute", {"wall": 0.0} if unlearn else {})
    values = [
        ("wall_seconds", "", unlearn.get("wall")),
        ("wall_seconds_precompute", "", precompute.get("wall")),
        ("cpu_seconds", "", unlearn.get("cpu")),
        ("gpu_seconds", "", unlearn.get("gpu")),
        ("wall_seconds_original", "", seconds.get("original", {}).get("wall")),
        ("wall_seconds_evaluate", "", seconds.get("evaluate", {}).get("wall")),
        ("peak_bytes", "", cost["peak_bytes"]),
        # Models that were stored before passes were counted have none.
        *((f"{way}_examples", "", n) for way, n in sorted(cost.get("passes", {}).items())),
        *(("examples_touched", split, count) for split, count in sorted(cost["examples"].items())),
    ]
    return [Record(name, split, float(value)) for name, split, value in values if value is not None]
