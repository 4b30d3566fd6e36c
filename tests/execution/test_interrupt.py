"""Ctrl-C while workers are at work: in good order the first time, at once the second."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from unlearn_bench.execution.interrupt import first_in_good_order

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
        "run",
        tiny,
        "--plugin",
        plugin,
        "--methods",
        "slow",
        "--set",
        f"slow.deaf={deaf}",
        "--workers",
        2,
        "--out",
        tmp_path / "out",
    )
    deadline = time.monotonic() + 200
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "begun").exists()
    return running


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if not path.name.startswith((".lock", ".brief-"))]


def test_the_first_ctrl_c_ends_in_good_order(
    cli: Any, write: Any, tiny: Path, home: Path, tmp_path: Path
) -> None:
    running = begin(cli, write, tiny, tmp_path, deaf=False)
    out = tmp_path / "out"
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all, workers too
    ended = running.wait()
    assert ended.code == 130 and "Traceback" not in ended.err + ended.out
    told = " ".join(ended.out.split())
    assert "the same command continues from here; Ctrl-C again stops immediately" in told
    finished = list((out / "runs").glob("*.json"))
    assert finished and set(pd.read_csv(out / "records.csv")["run_key"]) == {
        path.stem for path in finished
    }
    assert hidden(out) == hidden(home) == []


@pytest.mark.thorough
def test_ctrl_c_while_workers_are_loaded_ends_in_good_order(
    cli: Any, tiny: Path, tmp_path: Path
) -> None:
    flags = ["--workers", 2, "--out", tmp_path / "out"]
    running = cli.start("run", tiny, *flags, warm_workers=False)
    server: list[str] = []
    while not server:
        server = [
            pid.name for pid in Path("/proc").glob("[0-9]*") if is_fork_server(pid, running.pid)
        ]
    loading = Path(f"/proc/{server[0]}/maps")
    while "libtorch" not in loading.read_text():
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    ended = running.wait()
    while loading.exists():
        time.sleep(0.05)
    assert ended.code == 130 and "interrupted:" in ended.out
    assert "Traceback" not in running.output() + running.errors()


def is_fork_server(process: Path, parent: int) -> bool:
    try:
        words = (process / "stat").read_text().rpartition(")")[2].split()
        return words[1] == str(parent) and "forkserver" in (process / "cmdline").read_text()
    except OSError:
        return False


def test_a_request_to_end_is_like_the_first_ctrl_c_and_a_disturbed_line_does_no_harm() -> None:
    told: list[str] = []

    def disturbed(text: str) -> None:
        told.append(text)
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt), first_in_good_order(disturbed):
            os.kill(os.getpid(), number)
            time.sleep(60)
        assert signal.getsignal(number) is signal.SIG_DFL
        for other, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(other, handler)
    assert len(told) == 2 and "the same command continues from here" in told[0]
    with first_in_good_order(told.append):
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


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
