"""Ctrl-C while workers are at work: in good order the first time, at once the second."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

# Finishes one kind of run quickly and keeps the other busy; deaf to being asked to end.
SLOW = '''\
"""Do nothing, for long."""

import time
from pathlib import Path

from unlearn_bench.api import Access, Context, method


@method("slow", access=Access.FORGET)
def slow(model, ctx: Context, *, deaf: bool = False):
    """Wait.

    Args:
        deaf: Whether to go on when asked to end.
    """
    Path(__file__).with_name("begun").touch()
    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            if not deaf:
                raise
'''


def begin(cli: Any, write: Any, tiny: Path, tmp_path: Path, deaf: bool) -> Any:
    """Start the tiny suite with two workers and wait until one is in the slow method."""
    plugin = write("slow.py", SLOW)
    tiny.write_text(tiny.read_text() + "threads: 1\n")
    running = cli.start(
        "run", tiny, "--plugin", plugin, "--methods", "slow", "--set", f"slow.deaf={deaf}",
        "--workers", 2, "--out", tmp_path / "out",
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "begun").exists()
    return running


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


def test_the_first_ctrl_c_ends_in_good_order(
    cli: Any, write: Any, tiny: Path, home: Path, tmp_path: Path
) -> None:
    running = begin(cli, write, tiny, tmp_path, deaf=False)
    out = tmp_path / "out"
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all, workers too
    ended = running.wait()
    assert ended.code == 130 and "Traceback" not in ended.err + ended.out
    told = " ".join(ended.out.split())
    assert "the same command goes on from here; Ctrl-C again kills at once" in told
    finished = list((out / "runs").glob("*.json"))
    assert finished and set(pd.read_csv(out / "records.csv")["run_key"]) == {
        path.stem for path in finished
    }
    assert hidden(out) == hidden(home) == []


@pytest.mark.heavy
def test_the_second_ctrl_c_kills_at_once(cli: Any, write: Any, tiny: Path, tmp_path: Path) -> None:
    running = begin(cli, write, tiny, tmp_path, deaf=True)
    os.killpg(running.pid, signal.SIGINT)
    while "interrupted:" not in running.output():
        time.sleep(0.01)
    start = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait().code == -signal.SIGINT
    assert time.monotonic() - start < 2, "it waits five seconds for workers after the first"
