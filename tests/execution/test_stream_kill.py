"""A stream that is killed goes on at its last finished request, and ends as if nothing happened."""

import random
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from unlearn_bench.store import cache

SUITES = Path(__file__).parents[2] / "benchmarks" / "suites"

SMALL: dict[str, Any] = {
    "models": "resnet4",
    "threads": 1,
    "recipe": {"epochs": 1, "batch_size": 32, "lr": 2.0e-2},
    "relearn_steps": 4,
}
# The reverse order and the same requests at once run beside it.
TWO = SMALL | {
    "datasets": "digits",
    "scenarios": "stream:class:1;random:0.05",
    "methods": {"name": "finetune", "params": {"epochs": 1}},
}
# The suite of five classes and five methods, on a network that trains in moments.
FIVE = yaml.safe_load((SUITES / "digits-stream.yaml").read_text()) | SMALL
COSTS = "seconds|bytes|time_ratio|break_even"


def finished(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "runs").glob("*.json")}


def measured(out: Path) -> pd.DataFrame:
    found = pd.read_csv(out / "records.csv", keep_default_na=False)
    found = found[~found["metric"].str.contains(COSTS)]
    return found.reset_index(drop=True)


def until_results(running: Any, out: Path, wanted: int, more: float) -> None:
    """Wait for so many results, and then a moment: mostly in the middle of a run."""
    while len(list((out / "runs").glob("*.json"))) < wanted and not running.ended():
        time.sleep(0.002)
    time.sleep(more)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("asked", "kills"),
    [
        pytest.param(TWO, 2, marks=pytest.mark.thorough, id="two requests"),
        pytest.param(FIVE, 5, marks=pytest.mark.heavy, id="digits-stream"),
    ],
)
def test_a_killed_stream_gives_the_same_records_and_repeats_no_finished_request(
    asked: dict[str, Any], kills: int, cli: Any, write: Any, tmp_path: Path
) -> None:
    suite, chance = write("stream.yaml", yaml.safe_dump(asked)), random.Random(kills)

    def start(name: str) -> Any:
        environment = {"UNLEARN_BENCH_HOME": str(tmp_path / f"home-{name}")}
        flags = ("--out", tmp_path / name, "--workers", 1)
        return cli.start("run", suite, *flags, env=environment)

    whole = start("whole").wait()
    assert whole.code == 0, whole.err
    expected, out = measured(tmp_path / "whole"), tmp_path / "killed"
    total = len(finished(tmp_path / "whole"))
    kept: dict[str, bytes] = {}
    for kill in range(kills):
        running = start("killed")
        until_results(running, out, (kill + 1) * total // (kills + 1), chance.uniform(0, 0.4))
        assert running.kill_and_wait().code == -9
        now = finished(out)
        assert now.items() >= kept.items()
        kept = now
    ended = start("killed").wait()
    assert ended.code == 0 and ended.err == "", ended
    # No finished request was run again, and nothing was damaged.
    assert ended.out.count("was there already") == len(kept)
    assert finished(out).items() >= kept.items()
    assert not [bad for _, bad in cache.verify(tmp_path / "home-killed") if bad is not None]
    pd.testing.assert_frame_equal(measured(out), expected)
    requests = {2: [0, 1, 2], 5: [0, 1, 2, 3, 4, 5]}[kills]
    assert sorted(set(expected["request"])) == requests
    assert len(set(expected["scenario"])) == 3  # as asked, in the reverse order, at once
