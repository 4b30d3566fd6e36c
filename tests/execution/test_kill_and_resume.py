"""Killed at any moment and started again, a suite ends as if nothing had happened."""

import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from unlearn_bench.core.errors import OutputError
from unlearn_bench.execution.status import read_status
from unlearn_bench.plugins import registry
from unlearn_bench.store import cache

# Retraining and the controls, which every suite runs.
ALWAYS = sum(entry.kind != "method" for entry in registry.methods().values())
COSTS = "seconds|bytes|time_ratio|break_even"
ROW = ["method", "dataset", "model", "scenario", "seed", "metric", "split"]


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "runs").glob("*.json")}


def records(out: Path) -> pd.DataFrame:
    found = pd.read_csv(out / "records.csv", keep_default_na=False)
    # There only where a request happened to be faster than retraining: a matter of the clock.
    return found[found["metric"] != "break_even_requests"].reset_index(drop=True)


def unfinished(folder: Path) -> list[Path]:
    """What only a process at work, or one that was killed, leaves lying about."""
    hidden = [path for path in folder.rglob(".*") if not path.name.startswith((".lock", ".brief-"))]
    return hidden + list(folder.rglob("*.tmp"))


@dataclass
class Toll:
    """What kills cost; all but the first two should be 0."""

    trials: int = 0
    kills: int = 0
    lost: int = 0
    duplicate: int = 0
    damaged: int = 0
    stages: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.trials} trials, {self.kills} kills, {self.lost} lost, "
            f"{self.duplicate} duplicate, {self.damaged} damaged"
        )


def everything(*folders: Path) -> set[Path]:
    # Not rglob, which raises when a folder goes away while it looks.
    walked = (step for folder in folders for step in os.walk(folder))
    return {Path(root, name) for root, inner, files in walked for name in inner + files}


def wait_for_a_moment(chance: random.Random, running: Any, took: float, *watched: Path) -> None:
    """Sleep until any moment of the suite, or until right after the files changed some times."""
    deadline = time.monotonic() + chance.uniform(0, took)
    changes = chance.choice([None, *range(1, 40)]) if chance.random() < 0.5 else None
    seen = everything(*watched)
    while time.monotonic() < deadline and not running.ended():
        if changes is not None:
            now = everything(*watched)
            changes, seen = changes - (now != seen), now
            if changes <= 0:
                return
        time.sleep(0.001)


def damage(home: Path, out: Path) -> int:
    """Artifacts and results that are not what was written, or were found not to be."""
    found = sum(bad is not None for _, bad in cache.verify(home))
    return found + sum(1 for folder in (home, out) for _ in folder.glob("damaged/*"))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kills", "workers"),
    [
        (1, 1),
        pytest.param(50, 1, marks=pytest.mark.heavy),
        pytest.param(50, 2, marks=pytest.mark.heavy),
    ],
)
def test_kills_at_any_moment_lose_nothing_repeat_nothing_and_damage_nothing(
    kills: int,
    workers: int,
    cli: Any,
    finished: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = records(finished.out)
    costs = expected["metric"].str.contains(COSTS)
    assert 0 < costs.sum() < len(costs)
    seconds = expected[expected["metric"].isin(["wall_seconds", "wall_seconds_evaluate"])]
    took = 2 + seconds["value"].astype(float).sum()
    loading = 0 if workers == 1 else 8  # torch, by what workers are forked from
    chance, toll = random.Random(kills), Toll()
    flags = [
        "--methods",
        "finetune,scale_weights",
        "--set",
        "finetune.epochs=1",
        "--plugin",
        finished.plugin,
        "--workers",
        workers,
    ]

    def start(out: Path, home: Path) -> Any:
        environment = {"UNLEARN_BENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
        return cli.start("run", finished.suite, *flags, "--out", out, env=environment)

    def check_the_end(out: Path, home: Path, kept: dict[str, bytes], ended: Any) -> None:
        assert ended.code == 0 and ended.err == "" and "damaged" not in ended.out, ended
        assert ended.out.count("was there already") == len(kept)
        found, final = records(out), results(out)
        toll.duplicate += int(found.duplicated(ROW).sum())
        toll.lost += len(
            expected.merge(found, how="left", on=ROW, indicator=True).query("_merge != 'both'")
        )
        assert found[ROW].values.tolist() == expected[ROW].values.tolist()
        assert found[~costs].equals(expected[~costs])
        assert final.items() >= kept.items() and final.keys() == results(finished.out).keys()
        assert unfinished(out) == unfinished(home) == [] and read_status(out).state == "finished"
        assert not (out / "progress.json").exists()

    kept: dict[str, bytes] = {}
    out, home = tmp_path / "out 0", tmp_path / "home 0"
    while toll.kills < kills:
        toll.trials += 1
        running = start(out, home)
        # Mostly before the end, so that most kills find work, but often enough after it.
        left = max(2.0, took * (1 - len(kept) / (ALWAYS + 2)))
        wait_for_a_moment(chance, running, left + loading, out, home)
        ended = running.kill_and_wait()
        if ended.code == -9:
            toll.kills += 1
            now = results(out)
            toll.stages.append(len(now))
            toll.lost += sum(now.get(name) != content for name, content in kept.items())
            toll.damaged += damage(home, out)
            kept = now
            try:
                state = read_status(out).state
            except OutputError:
                state = "not begun"
            # A kill after the last result leaves a finished suite without its report.
            assert state in ("stopped", "finished", "not begun"), state
            # Each suite gets several kills; of many kills each gets some, so that they meet all
            # stages of several suites.
            enough = len(kept) >= ALWAYS or (kills > 3 and chance.random() < 0.3)
            if toll.kills < kills and not enough:
                continue
            ended = start(out, home).wait()
        check_the_end(out, home, kept, ended)
        toll.damaged += damage(home, out)
        kept, out, home = {}, tmp_path / f"out {toll.trials}", tmp_path / f"home {toll.trials}"
    with capsys.disabled():
        print(f"\n{toll} (results on disk at each kill: {toll.stages})")  # noqa: T201
    assert (toll.lost, toll.duplicate, toll.damaged) == (0, 0, 0)


def test_a_kill_while_the_original_trains_costs_nothing_but_that(
    cli: Any, tiny: Path, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = cli.start("run", tiny, "--methods", "original", "--epochs", 200, "--out", out)
    while not (out / "suite.json").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    running.kill()
    assert running.wait().code == -9
    assert results(out) == {} and list((home / "artifacts").rglob("*.json")) == []
    # Nothing was finished, so that the folder is free for what was meant.
    ended = cli.until_a_result("run", tiny, "--methods", "original", out=out)
    assert ended.code == 130 and results(out)
    assert unfinished(out) == unfinished(home) == []
