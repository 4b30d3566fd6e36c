"""Memory that runs out: recognised, answered with smaller batches where that changes nothing."""

from pathlib import Path

import pytest
import torch
from torch import nn

from unlearn_bench.core import memory
from unlearn_bench.core.memory import available_memory, cpu_quota, halving, noting_halved
from unlearn_bench.fisher import fisher_diagonal
from unlearn_bench.fisher.diagonal import Engine

FULL = "[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError(FULL), True),
        (torch.OutOfMemoryError("CUDA"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError(FULL), False),
    ],
)
def test_an_exception_for_want_of_memory_is_recognised(error: Exception, is_one: bool) -> None:
    assert memory.is_out_of_memory(error) == is_one


def test_torch_s_own_exception_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert memory.is_out_of_memory(caught.value)


def fitting(most: int, tried: list[int]):
    def compute(size: int) -> str:
        tried.append(size)
        if size > most:
            raise RuntimeError(FULL)
        return f"in batches of {size}"

    return compute


def test_a_batch_is_halved_until_it_fits_and_that_is_noted() -> None:
    tried: list[int] = []
    with noting_halved() as noted:
        assert halving("evaluate", 512, fitting(100, tried)) == "in batches of 64"
        halving("probe", 512, fitting(512, []))
        halving("evaluate", 512, fitting(300, []))
    assert tried == [512, 256, 128, 64] and noted == {"evaluate": 64}


def test_what_does_not_fit_one_by_one_or_fails_otherwise_is_raised() -> None:
    tried: list[int] = []
    with pytest.raises(RuntimeError, match="can't allocate"):
        halving("evaluate", 6, fitting(0, tried))
    assert tried == [6, 3, 1]
    with pytest.raises(ValueError, match="bug"):
        halving("evaluate", 6, lambda size: (_ for _ in ()).throw(ValueError("bug")))


class Small(nn.Module):
    """A classifier on a machine that holds the passes of three examples."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
        self.most = most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise RuntimeError(FULL)
        return self.inner(x)


@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_the_fisher_diagonal_of_halved_batches_is_that_of_whole_ones(kind: str) -> None:
    torch.manual_seed(0)
    model = Small(100).double()
    batches = [(torch.randn(n, 5).double(), torch.randint(3, (n,))) for n in (16, 7)]
    whole = fisher_diagonal(model, batches, kind=kind)
    model.most = 3
    with noting_halved() as noted:
        halved = fisher_diagonal(model, batches, kind=kind)
    assert noted["fisher"] <= 3 and halved.examples == 23
    for name, expected in whole.items():
        assert torch.allclose(halved[name], expected, rtol=1e-12)


def test_a_batch_that_fails_half_way_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Small(100).double()
    batches = [(torch.randn(8, 5).double(), torch.randint(3, (8,))) for _ in range(3)]
    whole = fisher_diagonal(model, batches)
    commit, calls = Engine.commit, []

    def failing(engine: Engine) -> None:
        calls.append(len(engine._pending))
        if len(calls) == 2:  # the second batch, all of its sums taken
            raise RuntimeError(FULL)
        commit(engine)

    monkeypatch.setattr(Engine, "commit", failing)
    halved = fisher_diagonal(model, batches)
    assert calls == [4] * 5, "one, the failed one, its halves, the last"
    for name, expected in whole.items():
        assert torch.allclose(halved[name], expected, rtol=1e-12)


def test_a_batch_mean_gradient_is_never_halved() -> None:
    model = Small(3)
    with pytest.raises(RuntimeError, match="can't allocate"):
        fisher_diagonal(model, [(torch.randn(8, 5), torch.randint(3, (8,)))], kind="batch")


@pytest.fixture
def cgroups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "own")

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")

    return write


def test_without_limits_the_machine_s_memory_counts(cgroups) -> None:
    free = available_memory()
    cgroups("memory.max", "max")
    cgroups("memory/memory.limit_in_bytes", "9223372036854771712")
    assert available_memory() > free / 2 > 0


def test_limits_of_containers_and_jobs_are_respected(cgroups) -> None:
    cgroups("own", "0::/slurm/job_7")
    cgroups("memory.max", "100000")
    assert available_memory() == 100000
    cgroups("slurm/memory.max", "50000")
    cgroups("slurm/memory.current", "20000")
    cgroups("slurm/job_7/memory.max", "max")
    assert available_memory() == 30000
    cgroups("slurm/job_7/memory.max", "1000")
    cgroups("slurm/job_7/memory.current", "1000")
    assert available_memory() == 100, "caches count as used and are given back"


def test_limits_of_the_first_version_are_respected(cgroups) -> None:
    cgroups("own", "4:memory:/docker/abc")
    cgroups("memory/memory.limit_in_bytes", "70000")
    cgroups("memory/docker/abc/memory.limit_in_bytes", "40000")
    cgroups("memory/docker/abc/memory.usage_in_bytes", "10000")
    assert available_memory() == 30000


def test_the_quota_of_cores_is_read_in_either_version(cgroups) -> None:
    assert cpu_quota() is None
    cgroups("cpu/cpu.cfs_quota_us", "-1")
    cgroups("cpu/cpu.cfs_period_us", "100000")
    assert cpu_quota() is None
    cgroups("cpu/cpu.cfs_quota_us", "150000")
    assert cpu_quota() == 1.5
    cgroups("cpu.max", "max 100000")
    assert cpu_quota() == 1.5
    cgroups("cpu.max", "130000 100000")
    assert cpu_quota() == 1.3


def test_the_smallest_quota_of_all_groups_around_counts(cgroups) -> None:
    cgroups("own", "0::/slurm/job_7\n3:cpu,cpuacct:/docker/abc")
    cgroups("slurm/cpu.max", "400000 100000")
    assert cpu_quota() == 4.0
    cgroups("slurm/job_7/cpu.max", "max 100000")
    assert cpu_quota() == 4.0
    cgroups("cpu.max", "600000 100000")
    cgroups("slurm/job_7/cpu.max", "200000 100000")
    assert cpu_quota() == 2.0
    cgroups("cpu/docker/abc/cpu.cfs_quota_us", "50000")
    cgroups("cpu/docker/abc/cpu.cfs_period_us", "100000")
    assert cpu_quota() == 0.5
