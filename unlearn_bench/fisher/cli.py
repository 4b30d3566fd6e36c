"""What ``unlearn-bench fisher`` says: coverage by route, time ratio and peak memory."""

from collections import Counter

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.fisher import Kind
from unlearn_bench.fisher.timing import WORKLOADS, Workload, device_name, measure, peak_bytes


def describe(model: str, kind: Kind = "true", rounds: int = 5, device: str = "cpu") -> str:
    """Time the diagonal of ``model``, beside a plain pass.

    Args:
        model: Key of ``WORKLOADS``, or any timm model that takes 32 x 32 images.
        kind: Of the diagonal.
        rounds: Number of timed pairs; the median is reported.
        device: Where, ``cpu`` or a CUDA device that exists.

    Returns:
        Lines to print.

    Raises:
        ModelError: If timm has no such model, or it cannot be timed.
        ParameterError: If ``rounds`` is below 1.
    """
    if rounds < 1:
        raise ParameterError(f"rounds is {rounds}; give 1 or more")
    workload = WORKLOADS.get(model, Workload(model))
    with workload.fitting():
        timing = measure(*workload.build(device), kind, rounds)
        peaks = (peak_bytes(model, run, device) for run in (kind, "plain"))
        extra = (next(peaks) - next(peaks)) / 2**20
    routes = Counter(timing.routes.values()).most_common()
    size = f"{workload.batch} x {workload.channels} x {workload.size} x {workload.size}"
    return "\n".join(
        [
            f"{workload.model}, {kind} Fisher, batch {size}, 10 classes, on {device_name(device)}",
            f"  plain forward+backward  {timing.plain * 1e3:8.1f} ms",
            f"  Fisher diagonal         {timing.fisher * 1e3:8.1f} ms",
            f"  ratio                   {timing.ratio:8.2f}    (median of {rounds} pairs,"
            f" {min(timing.pairs):.2f} to {max(timing.pairs):.2f})",
            f"  peak memory             {extra:+8.0f} MiB over the plain pass",
            f"  parameters              {len(timing.routes):8d}",
            *(f"    {count:4d}  {route}" for route, count in routes),
        ]
    )
