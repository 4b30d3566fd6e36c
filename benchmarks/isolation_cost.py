"""What the watch over a method costs per call, and what ``--isolate`` adds.

    python benchmarks/isolation_cost.py

Calls one epoch of ``finetune`` on digits with a small net, in turn with what every run has and in a
process of its own. The watch alone is timed as CPU time of a call that does nothing: state read
before it and compared after it. Prints medians.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from unlearn_bench.core.fence import Fence
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.surroundings import put_back
from unlearn_bench.plugins import registry
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import Suite

SUITE = {
    "name": "cost",
    "datasets": "digits",
    "models": "resnet4",
    "scenarios": "class:8",
    "methods": "original",
    "threads": 1,
    "recipe": {"epochs": 1, "lr": 4e-3},
}


def milliseconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return how long a call takes."""
    start = clock()
    call()
    return 1000 * (clock() - start)


def watched() -> None:
    """Do nothing, watched."""
    with put_back(), FENCE.around("nothing", Path(__file__)):
        pass


FENCE = Fence({})

if __name__ == "__main__":
    spec = expand(Suite.model_validate(SUITE), device="cpu").runs[0]
    params = {**registry.get("finetune").resolve({}), "epochs": 1}
    spec = spec.model_copy(update={"method": "finetune", "label": "finetune", "params": params})
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Store(Path(folder)), torch.device("cpu"))
        original = runner.original(spec, lambda _: None)

        def unlearn(isolate: bool) -> None:
            own = spec.model_copy(update={"isolate": isolate})
            runner.models.unlearn(own, runner.task(own), original, lambda _: None)

        # In turn, so that other work on the machine disturbs both alike.
        pairs = [
            [milliseconds(partial(unlearn, way), time.perf_counter) for way in (False, True)]
            for _ in range(21)
        ][1:]  # the first of each starts what later ones use
        watch = [milliseconds(watched, time.process_time) for _ in range(51)][1:]
    more = [isolated - plain for plain, isolated in pairs]
    print(f"watch, CPU time:          {median(watch):7.1f} ms a call")
    print(f"one epoch of finetune:    {median(plain for plain, _ in pairs):7.1f} ms")
    print(f"more with --isolate:      {median(more):7.1f} ms")
