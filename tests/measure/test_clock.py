"""Clocks and memory against work of known size."""

import copy
import time

import pytest
import torch

from unlearn_bench.fisher import fisher_diagonal
from unlearn_bench.measure.clock import Clock, Passes, PeakMemory, environment

CPU = torch.device("cpu")


def test_phases_add_up_and_nest():
    clock = Clock(CPU)
    with clock.phase("all"):
        for _ in range(2):
            with clock.phase("part"):
                time.sleep(0.02)
        time.sleep(0.02)
    whole, part = clock.phases["all"], clock.phases["part"]
    assert 0.04 <= part.wall < whole.wall and whole.wall >= 0.06
    assert whole.cpu < whole.wall and whole.gpu is None


def test_a_failing_phase_is_still_counted():
    clock = Clock(CPU)
    with pytest.raises(RuntimeError), clock.phase("broken"):
        raise RuntimeError
    assert clock.phases["broken"].wall > 0


def test_peak_memory_sees_what_was_freed_again():
    memory = PeakMemory(CPU)
    if not memory._exact:
        pytest.skip("this system cannot reset its high-water mark")
    big = torch.ones(40_000_000)  # 160 MB
    del big
    again = PeakMemory(CPU)
    assert memory.growth() is not None
    assert 120e6 < memory.growth() or again.growth() < 40e6


def test_a_new_measurement_forgets_the_old_peak():
    if not PeakMemory(CPU)._exact:
        pytest.skip("this system cannot reset its high-water mark")
    big = torch.ones(40_000_000)
    del big
    assert PeakMemory(CPU).growth() < 40e6


def test_environment_says_what_seconds_depend_on():
    found = environment(CPU)
    assert found["torch"] == torch.__version__ and found["device"] == "cpu"
    assert found["cpu"] and found["threads"] >= 1


@pytest.mark.gpu
def test_gpu_seconds_cover_work_that_the_program_did_not_wait_for():
    device = torch.device("cuda")
    x = torch.randn(4096, 4096, device=device)
    clock = Clock(device)
    with clock.phase("matmul"):
        for _ in range(20):
            x = (x @ x).clamp(-1, 1)
    spent = clock.phases["matmul"]
    assert 0 < spent.gpu <= spent.wall * 1.05


def test_passes_are_counted_in_examples_through_copies_too():
    passes = Passes()
    model = passes.watch(torch.nn.Linear(3, 2))
    model(torch.zeros(5, 3)).sum().backward()
    with torch.no_grad():
        copy.deepcopy(model)(torch.zeros(4, 3))
    assert passes.examples == {"forward": 9, "backward": 5}
    passes.stop()
    model(torch.zeros(5, 3))
    assert passes.examples == {"forward": 9, "backward": 5} and not model._forward_hooks


def test_counting_passes_changes_no_fisher_diagonal():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4)).eval()
    batches = [(torch.randn(6, 3, 2, 2), torch.arange(6) % 4)]
    plain = fisher_diagonal(model, batches, kind="true")
    passes = Passes()
    passes.watch(model)
    watched = fisher_diagonal(model, batches, kind="true")
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert passes.examples["forward"] >= 6
