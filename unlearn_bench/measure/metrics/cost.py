"""What unlearning cost, as records; the harness measures it around the method's call."""

from collections.abc import Mapping
from typing import Any

from unlearn_bench.measure.metrics import Metric, describe
from unlearn_bench.results.records import Record

_CLOCK = "two synchronised clock readings"

describe(
    Metric(
        "wall_seconds",
        "Wall-clock seconds of the method's call, precomputation included, "
        "evaluation not; the device is synchronised.",
        "none: less is cheaper",
        _CLOCK,
    ),
    Metric(
        "wall_seconds_precompute",
        "Wall-clock seconds of that spent on importances, masks or "
        "teachers; 0 where the method marks no such phase.",
        "none: less is cheaper",
        _CLOCK,
    ),
    Metric(
        "cpu_seconds",
        "CPU seconds of the method's call, over all threads.",
        "none: less is cheaper",
        _CLOCK,
    ),
    Metric(
        "gpu_seconds",
        "GPU seconds of the method's call, by device events; absent without a GPU.",
        "none: less is cheaper",
        _CLOCK,
    ),
    Metric(
        "wall_seconds_original",
        "Wall-clock seconds of training the original, once per seed; "
        "absent where weights were given.",
        "none: it is the same for all",
        _CLOCK,
    ),
    Metric(
        "wall_seconds_evaluate",
        "Wall-clock seconds of the forward passes for the metrics.",
        "none: less is cheaper",
        _CLOCK,
    ),
    Metric(
        "peak_bytes",
        "Growth of memory during the method's call: of what torch allocated on "
        "a GPU, of resident memory on a CPU.",
        "none: less is cheaper",
        "none",
    ),
    Metric(
        "examples_touched",
        "Examples that the method read, repetitions counted, by split.",
        "none: less is cheaper",
        "none",
    ),
    Metric(
        "forward_examples",
        "Examples that went forwards through the method's models, repetitions counted.",
        "none: less is cheaper",
        "none",
    ),
    Metric(
        "backward_examples",
        "Examples whose loss went backwards through them.",
        "none: less is cheaper",
        "none",
    ),
    Metric(
        "break_even_requests",
        "From how many requests on the method is cheaper than "
        "retraining for each, if its precomputation is done once: wall_seconds_precompute "
        "over what a request saves; absent where a request saves nothing.",
        "1 or less: it pays at once",
        "none",
    ),
    Metric(
        "time_ratio_to_retrain",
        "wall_seconds over that of retraining with the same dataset, model, scenario and seed.",
        "below 1: dearer than that, retraining is the better method",
        "none",
    ),
)


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
