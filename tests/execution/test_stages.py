"""Several unlearnings from one original: each its own random numbers, and nothing trained twice."""

from pathlib import Path

import torch

from tests.execution.test_order import Watcher, plan
from unlearn_bench.execution.models import TRAINING
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import execute
from unlearn_bench.results.records import read_records
from unlearn_bench.store.store import Store


def test_unlearnings_differ_and_share_original_and_retraining(home: Path, tmp_path: Path) -> None:
    given = plan(seeds="1x2", methods=[{"name": "finetune", "params": {"epochs": 1}}])
    watcher = Watcher()
    runner = Runner(Store(home), torch.device("cpu"))
    results = execute(given, runner, tmp_path / "out", watcher, command="c")
    retrained, *unlearned = results
    assert [(r.method, r.seed, r.draw) for r in unlearned] == [
        ("finetune", 0, 0),
        ("finetune", 0, 1),
    ]
    assert len({r.hashes["unlearned"] for r in unlearned}) == 2
    assert len({r.hashes["original"] for r in results}) == 1
    assert {r.hashes["retrained"] for r in results} == {retrained.hashes["unlearned"]}
    assert watcher.steps.count(TRAINING) == 1
    assert len(list((home / "artifacts" / "unlearned").iterdir())) == 3
    kept = read_records(tmp_path / "out")
    assert set(kept[kept["method"] == "finetune"]["draw"]) == {0, 1}

    # The first is what a suite of one stage runs: its models and results are the same.
    once = plan(seeds=1, methods=[{"name": "finetune", "params": {"epochs": 1}}])
    alone = [run for run in once.runs if run.method == "finetune"]
    again = Runner(Store(home), torch.device("cpu"))
    assert [again.key(run) for run in alone] == [unlearned[0].key]
