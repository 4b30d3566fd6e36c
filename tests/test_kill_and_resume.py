"""Killed at any moment and started again, a suite ends as if nothing had happened."""

import random
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from unlearn_bench import registry

KILLS = 3
# Retraining and the controls, which every suite runs.
ALWAYS = sum(entry.kind != "method" for entry in registry.methods().values())
SEEDS = 2
RUNS = SEEDS * (ALWAYS + 1)  # and the plug-in
COSTS = "seconds|bytes|time_ratio|break_even"


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "runs").glob("*.json")}


def records(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "records.csv", keep_default_na=False)


def unfinished(folder: Path) -> list[Path]:
    """What only a process at work, or one that was killed, leaves lying about."""
    hidden = [path for path in folder.rglob(".*") if path.name != ".lock"]
    return hidden + list(folder.rglob("*.tmp"))


@pytest.mark.timeout(240)
def test_a_suite_killed_three_times_ends_with_the_records_of_an_undisturbed_one(
    cli: Any, tiny: Path, plugin: Path, home: Path, tmp_path: Path
) -> None:
    flags = ["--methods", "scale_weights", "--plugin", plugin, "--seeds", SEEDS]
    calm = tmp_path / "calm"
    start = time.monotonic()
    quiet = {"UNLEARN_BENCH_HOME": str(tmp_path / "other")}
    assert cli("run", tiny, *flags, "--out", calm, env=quiet).code == 0
    took = time.monotonic() - start
    assert len(results(calm)) == RUNS

    out = tmp_path / "out"
    chance = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}, undisturbed {took:.1f} s")  # noqa: T201  shown where the test fails
    kept: dict[str, bytes] = {}
    for number in range(KILLS):
        running = cli.start("run", tiny, *flags, "--out", out)
        deadline = time.monotonic() + chance.uniform(0.1, took / (KILLS + 2))
        # A third of the suite each time at most, so that the last kill still finds work.
        while time.monotonic() < deadline and len(results(out)) < (number + 1) * RUNS // 4:
            time.sleep(0.01)
        running.kill()
        assert running.wait().code == -9
        now = results(out)
        assert len(now) < RUNS, "nothing was left to kill"
        assert now.items() >= kept.items(), "a finished run was lost or run again"
        kept = now

    ended = cli("run", tiny, *flags, "--out", out)
    assert ended.code == 0 and ended.err == ""
    assert ended.out.count("was there already") == len(kept)
    final = results(out)
    assert final.items() >= kept.items() and final.keys() == results(calm).keys()

    expected, found = records(calm), records(out)
    row = ["method", "dataset", "model", "scenario", "seed", "metric", "split"]
    assert not found.duplicated(row).any()
    assert found[row].values.tolist() == expected[row].values.tolist()
    costs = expected["metric"].str.contains(COSTS)
    assert 0 < costs.sum() < len(costs)
    assert found[~costs].equals(expected[~costs])
    assert unfinished(out) == unfinished(home) == []
    assert not (home / "damaged").exists()


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
    ended = cli("run", tiny, "--methods", "original", "--out", out)
    assert ended.code == 0 and len(results(out)) == ALWAYS
    assert unfinished(out) == unfinished(home) == []
