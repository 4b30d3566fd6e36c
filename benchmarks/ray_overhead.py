"""Say what Ray costs beside local workers: time to start a cluster, and a suite on either.

    python benchmarks/ray_overhead.py

Starts two nodes of one CPU on this machine, runs three seeds of retraining, fine-tuning and their
controls on scikit-learn's digits by two local workers and by Ray, each with a store of its own.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}

import ray
import torch
from ray.cluster_utils import Cluster

from unlearn_bench.execution.backend import Backend, Setup
from unlearn_bench.execution.local import Workers
from unlearn_bench.execution.ray import RayWorkers
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import execute
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Overrides, expand, resolve_suite


class Quiet:
    """An observer that has nothing to say."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: None


def main() -> None:
    """Time both and print a line for each."""
    plan = expand(resolve_suite("digits", Overrides(methods="finetune")), device="cpu")

    def suite(backend: Backend, home: Path) -> float:
        start = time.perf_counter()
        runner = Runner(Store(home), torch.device("cpu"))
        results = execute(plan, runner, home / "out", Quiet(), command="benchmark", workers=backend)
        assert {result.status for result in results} == {"ok"}
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder, name) for name in ("local", "ray", "again")]
        local = suite(Workers(2, Setup(homes[0], "cpu")), homes[0])
        start = time.perf_counter()
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": 75 * 2**20,
                "include_dashboard": False,
            },
        )
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=75 * 2**20)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        started = time.perf_counter() - start
        first, second = (
            suite(RayWorkers(Setup(home, "cpu", threads=1)), home) for home in homes[1:]
        )
        ray.shutdown()
        cluster.shutdown()
    runs = len(plan.runs)
    print(f"a head and two nodes start in {started:.1f} s")
    print(
        f"{runs} runs: two local workers {local:.1f} s, Ray {first:.1f} s at first, then "
        f"{second:.1f} s; {(second - local) / runs:+.2f} s a run"
    )


if __name__ == "__main__":
    main()
