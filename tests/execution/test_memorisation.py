"""Two models on half of the data each say how far every example is memorised."""

from typing import Any

import pytest
import torch

from unlearn_bench.execution import memorisation
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.run import Runner
from unlearn_bench.measure import evaluate
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import RunSpec, Suite

SMALL: dict[str, Any] = {
    "name": "small",
    "datasets": "digits",
    "models": "resnet4",
    "methods": "finetune",
    "threads": 1,
    "validation": 0.8,
    "recipe": {"epochs": 3, "lr": 4e-3, "batch_size": 32},
    "relearn_steps": 4,
}


def spec_of(scenario: str, method: str = "retrain", **changes: Any) -> RunSpec:
    suite = Suite.model_validate(SMALL | {"scenarios": scenario} | changes)
    return next(spec for spec in expand(suite, device="cpu").runs if spec.method == method)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(Store(tmp_path_factory.mktemp("store")), torch.device("cpu"))


def test_halves_are_disjoint_complete_and_balanced() -> None:
    labels = torch.arange(100) % 4
    members = torch.arange(0, 100, 2)
    one, other = memorisation.halves(members, labels, 3)
    assert torch.equal(torch.cat([one, other]).sort().values, members)
    counts = [labels[half].bincount(minlength=4) for half in (one, other)]
    assert (counts[0] - counts[1]).abs().max() <= 1
    assert torch.equal(memorisation.halves(members, labels, 3)[0], one)
    assert not torch.equal(memorisation.halves(members, labels, 4)[0], one)


def test_the_score_is_the_confidence_seen_minus_unseen(runner) -> None:
    task = runner.task(spec_of("memorised:high:0.1"))
    parts = memorisation.halves(task.indices.train, task.data.train.labels, 0)
    models = [task.build(seed) for seed in (1, 2)]
    found = memorisation.scores(task, parts, [model.state_dict() for model in models])
    index = int(parts[1][5])
    chosen, label = torch.tensor([index]), int(task.data.train.labels[index])
    unseen, seen = (
        evaluate.logits(model, task.data, task.data.train, task.device, chosen).softmax(1)[0, label]
        for model in models
    )
    assert float(found[index]) == pytest.approx(float(seen - unseen))
    assert found.isnan().nonzero().flatten().tolist() == task.indices.validation.tolist()


def test_levels_and_methods_share_one_estimate_and_the_original(runner, monkeypatch) -> None:
    steps: list[str] = []
    high = runner.run(spec_of("memorised:high:0.1"), steps.append)
    assert sum(step.startswith(memorisation.TRAINING) for step in steps) == 2
    assert steps.count(memorisation.SCORING) == 1
    steps.clear()
    low = runner.run(spec_of("memorised:low:0.1"), steps.append)
    runner.run(spec_of("memorised:low:0.1", "original"), steps.append)
    assert not any(step.startswith(("train", memorisation.SCORING)) for step in steps)
    means = [
        {r.split: r.value for r in result.records if r.metric == "memorisation"}
        for result in (high, low)
    ]
    assert means[0]["forget"] > means[0]["retain"] and means[1]["forget"] < means[1]["retain"]
    kept = {curve.series: curve for curve in high.curves if curve.curve == "memorisation"}
    assert sum(kept["forget"].y) / len(kept["forget"].y) == pytest.approx(
        means[0]["forget"], abs=1e-3
    )


def test_nothing_is_trained_to_find_out_whether_the_scenario_exists(tmp_path) -> None:
    fresh = Runner(Store(tmp_path / "store"), torch.device("cpu"))
    assert len(fresh.check_split(spec_of("memorised:mid:0.1")).forget) > 0
    assert not (tmp_path / "store").exists()


def test_a_training_that_diverges_fails_the_run_and_is_not_tried_again(tmp_path) -> None:
    fresh = Runner(Store(tmp_path / "store"), torch.device("cpu"))
    recipe = {"epochs": 1, "lr": 1e30, "batch_size": 32, "optimizer": "sgd"}
    steps: list[str] = []
    for _ in range(2):
        with pytest.raises(RunFailedError, match="diverged"):
            fresh.run(spec_of("memorised:high:0.1", recipe=recipe), steps.append)
    assert sum(step.startswith(memorisation.TRAINING) for step in steps) == 1
