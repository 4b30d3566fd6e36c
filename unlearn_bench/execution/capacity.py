"""How many runs fit side by side: on the cores and memory of a machine, and on a GPU."""

import os

from unlearn_bench.core.memory import available_memory, cpu_quota

GIB = 2**30

# A worker with torch, timm and a small dataset holds 0.5 GiB; training takes some beside it.
WORKER_BYTES = GIB
# What the driver and its kernels take on a GPU for each process, apart from torch's tensors.
CONTEXT_BYTES = 0.6 * GIB
# Methods hold more than the run that was measured: teachers, masks, importances.
MARGIN = 1.5
MOST_PER_GPU = 8


def allotted() -> int | None:
    """Return the cores that Slurm gave to this task, None outside of Slurm.

    Not every cluster keeps a task to its cores: without a look at this, jobs on one node would
    take each other's.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(given) if given.isascii() and given.isdecimal() and int(given) > 0 else None


def usual_threads(default: int) -> int:
    """Return the CPU threads of a run whose suite fixes none: torch's, within what Slurm gave."""
    return min(default, allotted() or default)


def usable_cores() -> int:
    """Return on how many cores this process may run; affinity, containers and Slurm limit them."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    cores = len(mine) or os.cpu_count() or 1
    cores = min(cores, allotted() or cores)
    quota = cpu_quota()
    return max(1, min(cores, int(quota))) if quota else cores


def cpu_runs(threads: int | None, run_bytes: int = WORKER_BYTES) -> int:
    """Return how many runs the machine takes at a time: as many as its cores and memory hold.

    Args:
        threads: Of each run; None where a run uses all cores.
        run_bytes: Main memory of each.
    """
    if threads is None:
        return 1
    return max(1, min(usable_cores() // threads, available_memory() // run_bytes))


def runs_per_gpu(run_bytes: int, gpu_bytes: int) -> int:
    """Return how many runs one GPU holds, given what a run of that model was seen to take.

    Args:
        run_bytes: Peak of what torch reserved on the GPU for a run.
        gpu_bytes: The GPU's memory.
    """
    return max(1, min(MOST_PER_GPU, int(gpu_bytes / (MARGIN * run_bytes + CONTEXT_BYTES))))


class GpuShares:
    """Which share of a GPU a run takes: all of it until a run of the same model was measured.

    Args:
        shared: Whether GPUs are shared at all; times are comparable only where they are not.
    """

    def __init__(self, shared: bool) -> None:
        self._shared = shared
        self._fewest: dict[str, int] = {}

    def measured(self, model: str, run_bytes: int, gpu_bytes: int) -> None:
        """Take note of what a run took; of several, the largest counts."""
        fit = runs_per_gpu(run_bytes, gpu_bytes)
        self._fewest[model] = min(fit, self._fewest.get(model, fit))

    def of(self, model: str) -> float:
        """Return the share in (0, 1], rounded down to four digits so that k of 1/k fit."""
        fit = self._fewest.get(model, 1) if self._shared else 1
        return int(1e4 / fit) / 1e4
