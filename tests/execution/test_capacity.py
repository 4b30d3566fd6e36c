"""How many runs fit side by side, on made-up machines."""

import pytest

from unlearn_bench.execution import capacity
from unlearn_bench.execution.capacity import GIB, GpuShares, cpu_runs, runs_per_gpu


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def of(cores: int, gib: float) -> None:
        monkeypatch.setattr(capacity, "usable_cores", lambda: cores)
        monkeypatch.setattr(capacity, "available_memory", lambda: int(gib * GIB))

    return of


@pytest.mark.parametrize(
    ("cores", "gib", "threads", "runs"),
    [
        (8, 64, 1, 8),
        (8, 64, 2, 4),
        (8, 64, 3, 2),
        (8, 3.5, 1, 3),
        (2, 0.5, 1, 1),
        (2, 64, 4, 1),
        (8, 64, None, 1),
    ],
)
def test_auto_fills_the_cores_as_far_as_memory_goes(machine, cores, gib, threads, runs) -> None:
    machine(cores, gib)
    assert cpu_runs(threads) == runs


def test_a_container_s_share_of_the_cores_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity.os, "sched_getaffinity", lambda pid: set(range(16)))
    for quota, cores in ((None, 16), (4.0, 4), (2.5, 2), (0.5, 1), (64.0, 16)):
        monkeypatch.setattr(capacity, "cpu_quota", lambda quota=quota: quota)
        assert capacity.usable_cores() == cores


@pytest.mark.parametrize(
    ("run_gib", "gpu_gib", "runs"),
    # 1.5 x what was measured and 0.6 GiB for the driver: 6.6 GiB for 4.
    [(4, 24, 3), (4, 80, 8), (4, 6, 1), (30, 24, 1), (0.1, 8, 8), (0.1, 3, 4)],
)
def test_a_gpu_holds_what_its_memory_does_with_a_margin(run_gib, gpu_gib, runs) -> None:
    assert runs_per_gpu(int(run_gib * GIB), int(gpu_gib * GIB)) == runs


def test_an_unmeasured_model_gets_a_whole_gpu_and_the_largest_run_counts() -> None:
    shares = GpuShares(shared=True)
    assert shares.of("resnet") == 1.0
    shares.measured("resnet", GIB, 24 * GIB)
    assert shares.of("resnet") == 0.125 and shares.of("vit") == 1.0
    shares.measured("resnet", 4 * GIB, 24 * GIB)
    assert shares.of("resnet") == 0.3333
    shares.measured("resnet", GIB, 24 * GIB)
    assert 3 * shares.of("resnet") <= 1 < 4 * shares.of("resnet")


def test_where_gpus_are_not_shared_a_run_takes_all_of_one() -> None:
    shares = GpuShares(shared=False)
    shares.measured("resnet", GIB, 24 * GIB)
    assert shares.of("resnet") == 1.0
