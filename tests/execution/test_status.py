"""From another terminal, and later: what is done, under way, failed, left, and for how long."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core import locks
from unlearn_bench.core.errors import OutputError
from unlearn_bench.execution import heartbeat, status
from unlearn_bench.execution.heartbeat import Heartbeat
from unlearn_bench.execution.status import read_status
from unlearn_bench.results.records import Record, RunResult, write_run
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import RunSpec, Suite

FORK = multiprocessing.get_context("fork")
NAMES = [("retrain", 0), ("finetune", 0), ("retrain", 1), ("finetune", 1)]


class Deaf:
    """An observer whom nothing moves."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


@pytest.fixture
def spec() -> RunSpec:
    suite = {"name": "s", "datasets": "digits", "models": "lenet", "scenarios": "class:8"}
    return expand(Suite.model_validate(suite), device="cpu").runs[0]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder in which a suite of four runs was begun."""
    folder = tmp_path / "out"
    (folder / "runs").mkdir(parents=True)
    (folder / ".lock").touch()
    where = {"dataset": "digits", "model": "lenet", "scenario": "class:8"}
    (folder / "suite.json").write_text(
        json.dumps(
            {
                "plan": [f"{name}{seed}" for name, seed in NAMES],
                "runs": [where | {"method": name, "seed": seed} for name, seed in NAMES],
            }
        )
    )
    return folder


def finish(out: Path, name: str, seed: int, seconds: float = 10.0, **changes: Any) -> RunResult:
    values: dict[str, Any] = {
        "key": f"{name}{seed}",
        "method": name,
        "kind": "method",
        "dataset": "digits",
        "model": "lenet",
        "scenario": "class:8",
        "seed": seed,
        "params": {},
        "status": "ok",
        "records": tuple(
            Record(metric, "", value)
            for metric, value in (
                ("wall_seconds", seconds),
                ("wall_seconds_evaluate", 2.0),
                ("wall_seconds_original", 100.0),
            )
        ),
    }
    result = RunResult(**values | changes)
    write_run(out, result)
    return result


@contextmanager
def at_work(out: Path, workers: int = 1) -> Iterator[Heartbeat]:
    with locks.take(out / ".lock"), Heartbeat(out, Deaf(), workers) as beat:  # type: ignore
        yield beat


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_suite_is_finished(out: Path, cli: Any) -> None:
    for name, seed in NAMES:
        finish(out, name, seed)
    before = files(out)
    ended = cli("status", out)
    assert ended.code == 0 and "finished" in ended.out and "4 of 4 done" in ended.out
    assert "time left" not in ended.out and files(out) == before


def test_failed_runs_are_named_with_their_reason(out: Path, cli: Any) -> None:
    for name, seed in NAMES[1:]:
        finish(out, name, seed)
    finish(out, "retrain", 0, status="failed", error="boom: [why]", records=())
    ended = cli("status", out)
    assert ended.code == 1
    assert "3 of 4 done, 1 failed, 0 running, 0 left" in ended.out
    assert "failed: digits · lenet · class:8 · seed 0 · retrain: boom: [why]" in ended.out


def test_a_suite_under_way_says_what_runs_and_for_how_long(
    out: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch, cli: Any
) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    with at_work(out) as beat:
        for position, (name, seed) in enumerate(NAMES[:2]):
            beat.run_started(position, spec)
            beat.run_finished(position, finish(out, name, seed), reused=False)
        beat.run_started(2, spec)
        beat.step(2, "train original")
        time.sleep(0.2)
        found = read_status(out)
        assert (found.state, found.done, found.left) == ("running", 2, 1)
        [run] = found.running
        assert run.name == "digits · lenet · class:8 · seed 1 · retrain"
        assert run.step == "train original" and 0.1 < run.seconds < 30
        # Two runs of twelve seconds and another original, less what is done of it.
        assert found.seconds_left == pytest.approx(124, abs=30) and found.seconds_left < 124
        assert found.basis == "from 2 finished runs"
        ended = cli("status", out, "--json")
        told = json.loads(ended.out)
        assert ended.code == 3 and told["state"] == "running"
        assert told["running"][0]["step"] == "train original" and told["planned"] == 4
        assert str(os.getpid()) in told["process"]
    assert not (out / "progress.json").exists()


def test_several_at_a_time_share_the_time_that_is_left(out: Path) -> None:
    finish(out, "retrain", 0, seconds=8)
    finish(out, "finetune", 0, seconds=8)
    with at_work(out):
        alone = read_status(out).seconds_left
    with at_work(out, workers=2):
        found = read_status(out)
    assert alone == 120 and found.seconds_left == 60 and "2 at a time" in found.basis


def test_methods_that_have_not_run_are_guessed_from_the_others_and_that_is_said(out: Path) -> None:
    finish(out, "retrain", 0, seconds=5)
    found = read_status(out)
    assert found.seconds_left == 3 * 7 + 100
    assert "2 of methods that have not run yet" in found.basis


def test_nothing_finished_means_an_unknown_time(out: Path, cli: Any) -> None:
    ended = cli("status", out)
    assert ended.code == 4 and "0 of 4 done, 0 failed, 0 running, 4 left" in ended.out
    assert "time left: unknown (no run of lenet on digits has finished yet)" in ended.out


def be_killed_at_work(out: Path, spec: RunSpec) -> None:
    with at_work(out) as beat:
        beat.run_started(0, spec)
        beat.write()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_not_taken_for_a_living_one(out: Path, spec: RunSpec) -> None:
    process = FORK.Process(target=be_killed_at_work, args=(out, spec))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and (out / "progress.json").exists()
    found = read_status(out)
    assert (found.state, found.running, found.left) == ("stopped", (), 4)


def test_what_failed_before_and_is_tried_again_is_left_not_failed(out: Path, spec: RunSpec) -> None:
    finish(out, "retrain", 0, status="failed", error="boom", records=())
    finish(out, "finetune", 0)
    with at_work(out):
        found = read_status(out)
        assert (found.failed, found.left, found.done) == ((), 3, 1)
    assert [error for _, error in read_status(out).failed] == ["boom"]
    with at_work(out) as beat:
        beat.run_finished(0, finish(out, "retrain", 0, status="failed", error="again"), False)
        beat.write()
        assert [error for _, error in read_status(out).failed] == ["again"]


def test_a_damaged_result_is_left_to_be_made_again(out: Path) -> None:
    for name, seed in NAMES:
        finish(out, name, seed)
    (out / "runs" / "retrain0.json").write_text("{")
    found = read_status(out)
    assert (found.state, found.done, found.left) == ("stopped", 3, 1)


def test_a_folder_from_before_suites_named_their_runs_is_read(out: Path) -> None:
    stored = json.loads((out / "suite.json").read_text())
    del stored["runs"]
    (out / "suite.json").write_text(json.dumps(stored))
    finish(out, "retrain", 0)
    found = read_status(out)
    assert (found.state, found.done, found.left, found.seconds_left) == ("stopped", 1, 3, None)
    assert "does not list" in found.basis


@pytest.mark.parametrize(
    "text",
    [
        None,
        "{",
        "[]",
        "{}",
        '{"plan": 3}',
        '{"plan": [], "format": 9}',
        '{"plan": ["../../x"]}',
        '{"plan": [7]}',
        '{"plan": ["a"], "runs": [7]}',
        '{"plan": ["a"], "runs": [{"seed": 1}]}',
    ],
)
def test_a_folder_that_is_no_runs_is_refused(text: str | None, tmp_path: Path, cli: Any) -> None:
    if text is not None:
        (tmp_path / "suite.json").write_text(text)
    ended = cli("status", tmp_path)
    assert ended.code == 2 and str(tmp_path) in ended.error


@pytest.mark.parametrize(
    "changes",
    [
        {"running": [{"step": "x"}]},
        {"running": [7]},
        {"running": 7},
        {"workers": None},
        {"ended": ["x"]},
        {"clock": float("nan")},
        {"pid": float("inf")},
    ],
    ids=str,
)
def test_a_file_of_progress_that_nobody_wrote_so_is_not_believed(
    changes: dict[str, Any], out: Path, spec: RunSpec
) -> None:
    with at_work(out) as beat:
        beat.run_started(1, spec)
        beat.write()
        assert len(read_status(out).running) == 1
        told = json.loads((out / "progress.json").read_text())
        (out / "progress.json").write_text(json.dumps(told | changes))
        found = read_status(out)
    assert (found.state, found.running, found.left) == ("running", (), 4)


@pytest.mark.parametrize("kind", ["pipe", "device", "deep", "large"])
def test_a_file_of_progress_that_never_ends_or_nests_without_end_is_not_read(
    kind: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = out / "progress.json"
    monkeypatch.setattr(locks, "is_held", lambda path: True)
    beat = {"host": "x", "pid": 1, "running": [], "ended": [], "workers": 1}
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "deep":
        place.write_text('{"pid": ' + "[" * 100_000 + "]" * 100_000 + "}")
    else:
        place.write_text(json.dumps(beat) + " " * heartbeat.PROGRESS_BYTES)
    found = read_status(out)
    assert (found.state, found.process, found.left) == ("running", "process ? on this machine", 4)
    place.unlink()
    place.write_text(json.dumps(beat))
    assert read_status(out).process == "process 1 on x"


@pytest.mark.parametrize(
    ("host", "pid", "alive"),
    [
        ("here", os.getpid(), True),
        ("here", 2**22 + 1, False),
        ("here", 2**99, False),
        ("elsewhere", 1, True),
    ],
    ids=["alive", "ended", "never", "elsewhere"],
)
def test_without_locks_the_process_itself_is_asked_for(
    host: str, pid: int, alive: bool, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status.socket, "gethostname", lambda: "here")
    monkeypatch.setattr(locks, "is_held", lambda path: None)
    assert read_status(out).state == "stopped"
    beat = {"host": host, "pid": pid, "running": [], "ended": [], "workers": 1}
    (out / "progress.json").write_text(json.dumps(beat))
    assert read_status(out).state == ("running" if alive else "stopped")


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_jumps_does_not_change_how_long_a_run_took(
    jump: float, out: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(out, "retrain", 0)
    with at_work(out) as beat:
        beat.run_started(1, spec)
        beat.write()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + jump)
        found = read_status(out)
        assert 0 <= found.running[0].seconds < 30 and 0 < (found.seconds_left or 0) < 150


def test_the_file_is_not_written_more_than_once_a_second(
    out: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    monkeypatch.setattr(heartbeat, "write_atomically", lambda path, text: written.append(0))
    with at_work(out) as beat:
        start = time.monotonic()
        for position in range(500):
            beat.run_started(position, spec)
            beat.step(position, "x")
        assert len(written) <= 1 + time.monotonic() - start
        while len(written) < 2 and time.monotonic() < start + 60:
            time.sleep(0.05)  # what changed last is not forgotten
        assert len(written) == 2


def test_a_disk_that_is_full_does_not_end_the_suite_here(
    out: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []

    def full(path: Path, text: str) -> None:
        tried.append(path)
        raise OutputError("full")

    monkeypatch.setattr(heartbeat, "write_atomically", full)
    with at_work(out) as beat:
        beat.run_started(0, spec)
        beat.write()
    assert out / "progress.json" in tried
