"""Worker processes with real runs: same records, and a death that costs one run."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from unlearn_bench.cli import asked
from unlearn_bench.core.errors import ConfigError
from unlearn_bench.core.quantities import parse_timeout
from unlearn_bench.execution import capacity
from unlearn_bench.execution.backend import Event, Setup, perform
from unlearn_bench.execution.local import TURN, Workers, until_first
from unlearn_bench.execution.models import RECORDING, TRAINING
from unlearn_bench.execution.run import Runner
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import Suite

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
COSTS = "seconds|bytes|time_ratio|break_even"


def test_two_workers_give_the_records_of_one_and_clean_up(
    cli: Any, finished: Any, home: Path, tmp_path: Path
) -> None:
    flags = [finished.suite, "--methods", "scale_weights,amnesiac", "--plugin", finished.plugin]
    flags += ["--set", "amnesiac.repair_epochs=0", "--out", tmp_path / "two", "--workers", 2]
    ended = cli("run", *flags, env=ONE_THREAD)
    assert ended.code == 0 and ended.err == "" and ", 2 at a time, results in" in ended.out
    one, two = (pd.read_csv(out / "records.csv") for out in (finished.out, tmp_path / "two"))
    assert one["metric"].str.contains(COSTS).any() and "amnesiac" in set(two["method"])
    both = set(one["method"]) & set(two["method"])
    one, two = (
        found[~found["metric"].str.contains(COSTS) & found["method"].isin(both)]
        for found in (one, two)
    )
    assert one.reset_index(drop=True).equals(two.reset_index(drop=True)) and len(two) > 50
    # The original is trained once, by the run that wants its log.
    assert ended.out.count(TRAINING) == 1 and RECORDING not in ended.out
    [trainer] = (line for line in ended.out.splitlines() if TRAINING in line)
    assert " · amnesiac " in trainer
    assert len(list((home / "artifacts" / "training_log").iterdir())) == 1


def answers(workers: Workers) -> list[Event]:
    """All events until one ends the run."""
    seen: list[Event] = []
    while not (seen and seen[-1].last):
        seen += workers.events()
    return seen


def until_begun(workers: Workers) -> None:
    while not any(event.step for event in workers.events()):
        pass


def kill() -> None:
    """Kill the only worker there is."""
    (process,) = multiprocessing.active_children()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()


@pytest.mark.thorough
def test_a_worker_that_dies_while_it_has_no_run_costs_none(home: Path) -> None:
    suite = Suite.model_validate(
        {
            "name": "s",
            "datasets": "digits",
            "models": "resnet4",
            "scenarios": "class:8",
            "methods": "original",
            "threads": 1,
            "recipe": {"epochs": 1},
            "relearn_steps": 4,
        }
    )
    first, second, *_ = expand(suite, device="cpu").runs
    with Workers(1, Setup(home, "cpu")) as workers:
        workers.submit(0, first, "key", {})
        kill()  # it has been sent a run, but has not begun
        assert answers(workers)[-1].result is not None
        kill()
        workers.submit(1, second, "key", {})
        (event,) = (event for event in answers(workers) if event.last)
        assert event.result is not None and event.position == 1

        kill()
        workers.submit(2, second, "key", {})
        kill()
        while not multiprocessing.active_children():  # until another has taken its place
            assert not list(workers.events())
        kill()  # twice in a row is no accident
        assert "signal 9" in answers(workers)[-1].died and not workers.busy


def test_a_dead_worker_is_told_of_and_replaced(home: Path) -> None:
    suite = Suite.model_validate(
        {
            "name": "s",
            "datasets": "digits",
            "models": "resnet4",
            "scenarios": "class:8",
            "methods": "original",
            "threads": 1,
            "recipe": {"epochs": 1},
            "relearn_steps": 4,
        }
    )
    spec = next(s for s in expand(suite, device="cpu").runs if s.method == "original")
    with Workers(1, Setup(home, "cpu")) as workers:
        workers.submit(0, spec, "key", {})
        assert workers.busy and not workers.takes(spec)
        until_begun(workers)
        kill()
        *_, last = answers(workers)
        assert "signal 9" in last.died and "fewer --workers" in last.died
        assert workers.takes(spec) and not workers.busy
        workers.submit(0, spec, "key", {Runner.__name__: "nothing of interest"})
        *steps, last = answers(workers)
        assert last.result is not None and last.result.status == "ok"
        assert "evaluate" in {event.step for event in steps}


def test_a_run_is_ended_when_its_time_is_up(home: Path) -> None:
    suite = Suite.model_validate(
        {
            "name": "s",
            "datasets": "digits",
            "models": "resnet4",
            "scenarios": "class:8",
            "methods": "original",
            "threads": 1,
            "recipe": {"epochs": 5000},
        }
    )
    spec = next(s for s in expand(suite, device="cpu").runs if s.method == "original")
    with Workers(1, Setup(home, "cpu"), timeout=8.0) as workers:
        workers.submit(3, spec, "key", {})
        *steps, last = answers(workers)
        assert last == Event(3, timed_out=True) and workers.takes(spec)
        assert steps[-1].step.startswith("train original")
    assert not list(home.rglob("tensors.safetensors"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1.5 H", 5400),
        ("1d", 86400),
        ("365d", 31536000),
    ],
)
def test_a_time_limit_is_read(text: str, seconds: float) -> None:
    assert parse_timeout(text) == seconds


@pytest.mark.parametrize("text", ["0", "-3", "soon", "3x", "", "1h30m", "366d", "9" * 400])
def test_a_time_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--timeout .*: give a time above 0 and at most 365d"):
        parse_timeout(text)


@pytest.mark.parametrize(("data", "count"), [(0, 4), (3, 2), (30, 1)])
def test_auto_counts_the_data_that_every_worker_holds(
    data: int, count: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "usable_cores", lambda: 4)
    monkeypatch.setattr(capacity, "available_memory", lambda: 8 * capacity.GIB)
    suite = {"name": "s", "datasets": "digits", "models": "lenet", "scenarios": "class:8"}
    plan = expand(Suite.model_validate(suite | {"methods": "finetune", "threads": 1}), device="cpu")
    runner: Any = SimpleNamespace(data_bytes=lambda runs: data * capacity.GIB)
    team, _ = asked.on_this_machine("auto", Setup(home, "cpu"), None, plan, runner)
    assert (team.at_a_time if team else 1) == count


def test_a_limit_beyond_what_the_system_can_wait_for_is_waited_for_in_turns() -> None:
    assert until_first([]) is None
    now = time.monotonic()
    assert until_first([now + parse_timeout("30d")]) == TURN < parse_timeout("24d")
    assert 0 < (until_first([now + parse_timeout("30d"), now + 600]) or 0) <= 600
    assert until_first([now - 1]) == 0


def test_workers_end_when_their_parent_is_killed(cli: Any, tiny: Path, tmp_path: Path) -> None:
    flags = ["run", tiny, "--epochs", 500, "--workers", 2, "--out", tmp_path / "out"]
    running = cli.start(*flags, env=ONE_THREAD)
    mine: set[str] = set()
    deadline = time.monotonic() + 60
    while not mine and time.monotonic() < deadline:
        mine = workers_of(running.pid)
        time.sleep(0.05)
    assert mine
    os.kill(running.pid, signal.SIGKILL)  # it alone, not its group
    assert running.wait().code == -9
    while any(map(alive, mine)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, mine))


def alive(pid: str) -> bool:
    """Whether the process runs; one that has ended may wait a while to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_of(pid: int) -> set[str]:
    """The processes that the fork server of ``pid`` started."""

    def children(of: str) -> set[str]:
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == of and fields[0] != "Z":
                found.add(stat.parent.name)
        return found

    return set().union(*(children(child) for child in children(str(pid))))


def test_what_a_run_held_of_a_gpu_is_its_peak_though_the_mark_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {"most": 0}
    total = SimpleNamespace(total_memory=100)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: held.update(most=0))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: held["most"])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: total)
    told: list[dict[str, Any]] = []

    class Straw:
        device = torch.device("cuda")

        def remember(self, failed: object) -> None: ...

        def run(self, spec: object, step: Any) -> None:
            held["most"] = 40
            step("finetune")
            held["most"] = 30

    perform(Straw(), None, {}, lambda **what: told.append(what))  # type: ignore[arg-type]
    assert told == [{"step": "finetune"}, {"result": None, "gpu": (40, 100)}]
