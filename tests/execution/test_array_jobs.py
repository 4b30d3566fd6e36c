"""Processes on a seed each that share a results folder, as the jobs of an array do."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from unlearn_bench.core import locks
from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import temporary_beside
from unlearn_bench.execution.capacity import allotted, usable_cores, usual_threads
from unlearn_bench.execution.heartbeat import Heartbeat
from unlearn_bench.execution.names import seed_lock
from unlearn_bench.execution.ownership import is_alone, joining, owned
from unlearn_bench.execution.status import read_status
from unlearn_bench.results.records import read_records

QUICK: dict[str, Any] = {"figures": False}
TIMED = "seconds|bytes|time_ratio|break_even"


class Deaf:
    """An observer whom nothing moves."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


def measured(out: Path) -> pd.DataFrame:
    """What does not depend on the clock, in the order of the file."""
    records = read_records(out)
    return records[~records["metric"].str.contains(TIMED)].reset_index(drop=True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.thorough
def test_two_processes_at_once_give_what_one_gives(
    cli: Any, tiny: Path, tmp_path: Path, out: Path
) -> None:
    flags = ["run", tiny, "--seeds", 2, "--epochs", 1]
    command = [sys.executable, "-m", "unlearn_bench", *map(str, flags)]
    with subprocess.Popen(
        [*command, "--seed", "0", "--out", str(out)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as first:
        while not list((out / "runs").glob("*.json")) and first.poll() is None:
            time.sleep(0.01)
        ended = cli(*flags, "--seed", 1, "--out", out, cwd=tmp_path, **QUICK)
        said = first.communicate()[0]
    assert first.returncode == 0 and "7 runs of 14, seed 0, on the CPU" in said
    assert ended.code == 0 and "7 runs of 14, seed 1, on the CPU" in ended.out, ended.err
    whole = tmp_path / "whole"
    ended = cli(*flags, "--out", whole, cwd=tmp_path, **QUICK)
    assert ended.code == 0, ended.err
    joined = measured(out)
    assert len(joined) > 100 and set(joined["seed"]) == {0, 1}
    pd.testing.assert_frame_equal(joined, measured(whole))
    assert {p.name for p in (out / "runs").iterdir()} == {
        p.name for p in (whole / "runs").iterdir()
    }
    assert (out / "report.html").exists() and read_status(out).state == "finished"
    assert not list(out.rglob("*.tmp")) and not list(out.glob("progress*"))
    # The command without --seed finds everything done.
    again = cli(*flags, "--out", out, cwd=tmp_path, **QUICK)
    assert again.code == 0 and measured(out).equals(joined)


def test_a_job_does_its_seed_and_no_other(cli: Any, tiny: Path, tmp_path: Path, out: Path) -> None:
    flags = ["run", tiny, "--seeds", 2, "--out", out, "--seed"]
    ended = cli(*flags, 1, "--dry-run", cwd=tmp_path)
    assert ended.code == 0 and "7 runs, 0 done, 7 left" in ended.out and not out.exists()
    ended = cli(*flags, 2, cwd=tmp_path)
    assert ended.code == 2 and "--seed 2: the suite has 2 seeds, 0 to 1" in ended.error


def test_processes_on_different_seeds_share_a_folder(out: Path) -> None:
    with owned(out, Deaf(), 0), owned(out, Deaf(), 1):
        assert not is_alone(out, 0) and not is_alone(out, 1)
        with (
            pytest.raises(OutputError, match="another process is running seed 1"),
            owned(out, Deaf(), 1),
        ):
            pass
        with (
            pytest.raises(OutputError, match="another process is running a suite"),
            owned(out, Deaf()),
        ):
            pass
    with owned(out, Deaf(), 1):
        assert is_alone(out, 1)
    with owned(out, Deaf()):
        with (
            pytest.raises(OutputError, match="running the whole suite .*without --seed"),
            owned(out, Deaf(), 0),
        ):
            pass


def test_what_a_killed_process_was_writing_goes_when_nobody_is_at_work(out: Path) -> None:
    left = temporary_beside(out / "runs" / "x.json")
    with owned(out, Deaf(), 0):
        left.touch()
        with owned(out, Deaf(), 1):
            assert left.exists()  # of the other, for all it knows
    with owned(out, Deaf(), 1):
        assert not left.exists()


def test_another_suite_is_refused_while_others_are_at_work(
    cli: Any, tiny: Path, tmp_path: Path, out: Path
) -> None:
    flags = ["run", tiny, "--seeds", 2, "--out", out, "--seed"]
    with owned(out, Deaf(), 1), joining(out, 1):
        pass  # the folder is there, and nobody has finished a run
    ended = cli(*flags, 0, "--dry-run", cwd=tmp_path)
    assert ended.code == 0, ended.err
    suite = {"plan": ["a" * 32], "suite": {"name": "another"}}
    with locks.take(seed_lock(out, 1)):  # type: ignore[union-attr]
        (out / "suite.json").write_text(json.dumps(suite))
        ended = cli(*flags, 0, cwd=tmp_path)
        assert ended.code == 2 and "holds the results of another suite" in ended.error
        assert json.loads((out / "suite.json").read_text()) == suite


def test_status_tells_of_every_process(out: Path) -> None:
    with owned(out, Deaf(), 0), owned(out, Deaf(), 3):
        (out / "suite.json").write_text(json.dumps({"plan": ["a" * 32, "b" * 32]}))
        with Heartbeat(out, Deaf(), 1, 0) as one, Heartbeat(out, Deaf(), 1, 3) as other:
            one.run_started(0, None)  # type: ignore[arg-type]
            other.run_started(1, None)  # type: ignore[arg-type]
            one.write()
            other.write()
            found = read_status(out)
    assert found.state == "running" and len(found.running) == 2 and found.left == 0
    assert "at seed 0, process" in found.process and found.process.endswith("at seed 3")
    assert read_status(out).state == "stopped"


@pytest.mark.parametrize(("given", "cores"), [("1", 1), ("100000", None), ("", None), ("x", None)])
def test_slurm_says_how_many_cores_there_are(
    monkeypatch: pytest.MonkeyPatch, given: str, cores: int | None
) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    everywhere = usable_cores()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    assert usable_cores() == (cores or everywhere)
    assert usual_threads(8) == min(8, allotted() or 8)
