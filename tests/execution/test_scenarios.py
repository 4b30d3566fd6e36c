"""Every kind of scenario runs end to end on scikit-learn's digits, which need no files."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from unlearn_bench.execution.run import Runner
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import SCOPES
from unlearn_bench.results.records import RunResult
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.forget import FORMS, Forget
from unlearn_bench.suite.spec import RunSpec, Suite

# Few examples: what is asked is whether, not how well.
SMALL: dict[str, Any] = {
    "name": "small",
    "datasets": "digits",
    "models": "resnet4",
    "methods": "finetune",
    "threads": 1,
    "validation": 0.5,
    "recipe": {"epochs": 1, "lr": 4e-3},
    "relearn_steps": 4,
}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Runs share a store, as they do in a suite."""
    return Runner(Store(tmp_path_factory.mktemp("store")), torch.device("cpu"))


def spec_of(method: str, scenario: str, **changes: Any) -> RunSpec:
    suite = Suite.model_validate(SMALL | {"scenarios": scenario} | changes)
    return next(spec for spec in expand(suite, device="cpu").runs if spec.method == method)


def values(result: RunResult) -> dict[str, float | None]:
    return {record.metric: record.value for record in result.records}


@pytest.mark.parametrize("scenario", ["class:odd@0.5", "subclass:8"])
def test_what_is_forgotten_inside_a_class_is_judged_like_any_forget_set(runner, scenario) -> None:
    spec = spec_of("retrain", scenario, datasets="digits-parity")
    result = runner.run(spec, str)
    assert (result.status, result.scenario) == ("ok", scenario)
    found = values(result)
    assert found["probe_recall"] is None  # no class is forgotten whole
    assert all(found[name] is not None for name in ("forget_accuracy", "mia_loss_auc", "zrf"))


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as Parquet files, every fifth image from hospital A."""
    digits = load_digits()
    folder = tmp_path_factory.mktemp("hospitals")
    for part, chosen in (("train", slice(0, 1300)), ("test", slice(1300, None))):
        images = []
        for pixels in digits.images[chosen]:
            stream = io.BytesIO()
            Image.fromarray((pixels * 15).astype("uint8")).save(stream, "PNG")
            images.append({"bytes": stream.getvalue(), "path": None})
        labels = digits.target[chosen].tolist()
        places = ["A" if number % 5 == 0 else "B" for number in range(len(labels))]
        columns = {"image": images, "label": labels, "hospital": places}
        pq.write_table(pa.table(columns), folder / f"{part}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("method", ["retrain", "finetune", "original"])
def test_the_data_of_one_group_are_forgotten_from_end_to_end(runner, hospitals, method) -> None:
    spec = spec_of(
        method,
        "group:hospital=A",
        datasets=f"parquet:{hospitals}",
        group_column="hospital",
    )
    result = runner.run(spec, str)
    assert (result.status, result.scenario) == ("ok", "group:hospital=A"), result.error
    found = values(result)
    assert all(found[name] is not None for name in ("forget_accuracy", "mia_loss_auc"))
    indices = runner.task(spec).indices
    ours = set(range(0, 1300, 5)) - set(indices.validation.tolist())
    assert set(indices.forget.tolist()) == ours
    assert indices.test_forget.tolist() == list(range(0, 497, 5))


EVERY: dict[str, dict[str, Any]] = {
    "class:8": {},
    "classes:1,2": {},
    "class:8@0.5": {},
    "subclass:8": {"datasets": "digits-parity"},
    "group:hospital=A": {"group_column": "hospital"},
    "random:0.1": {},
    "indices:3,14,15,92": {},
    "thirds:0.3": {},
    "memorised:high:0.1": {},
    "memorised:mid:0.1": {},
    "confused:3,5:0.3": {},
    "poisoned:0:0.02": {},
    "stream:class:1;random:0.1": {},
    "union:class:1;random:0.1": {},
}
REFERENCES = ("original", "retrain", "retrain_other_seed")
ACCURACIES = [f"{of}_accuracy" for of in ("forget", "retain", "test_forget", "test_retain")]


def test_every_kind_of_scenario_is_among_those_that_are_run() -> None:
    kinds = {text.partition(":")[0] for text in EVERY}
    assert kinds == {form.text.partition(":")[0] for form in FORMS}
    assert {scope for text in EVERY for scope in Forget.model_validate(text).scopes} == set(SCOPES)


@pytest.mark.thorough
@pytest.mark.parametrize("scenario", EVERY)
def test_original_and_both_retrainings_run_in_every_kind_of_scenario(
    runner, hospitals, scenario
) -> None:
    changes = dict(EVERY[scenario])
    if "group_column" in changes:
        changes["datasets"] = f"parquet:{hospitals}"
    forget = Forget.model_validate(scenario)
    suite = Suite.model_validate(SMALL | {"scenarios": scenario} | changes)
    planned = [
        spec
        for spec in expand(suite, device="cpu").runs
        if spec.method in REFERENCES and spec.forget == forget
    ]
    assert len(planned) == len(REFERENCES) * max(1, len(forget.stream))
    found = {(spec.method, spec.request): runner.run(spec, str) for spec in planned}
    for result in found.values():
        assert (result.status, result.scenario) == ("ok", forget.name), result.error
        measured = values(result)
        assert all(0 <= measured[name] <= 1 for name in ACCURACIES)
    weights = {place: result.hashes for place, result in found.items()}
    for request in {spec.request for spec in planned}:
        original, retrained, other = (weights[name, request] for name in REFERENCES)
        # The original stays as it is; every row is compared with the first retraining.
        assert original["unlearned"] == original["original"]
        assert len({at["unlearned"] for at in (original, retrained, other)}) == 3
        assert {at["retrained"] for at in (original, retrained, other)} == {retrained["unlearned"]}


# Enough for a rare change to be learned.
TRAINED = {"validation": 0.1, "recipe": {"epochs": 10, "batch_size": 64, "lr": 4e-3, "warmup": 0.2}}
CHANCE = 0.1


@pytest.fixture(scope="module")
def changed(runner) -> Callable[[str, str], tuple[RunResult, dict[str, float | None]]]:
    def run(method: str, scenario: str) -> tuple[RunResult, dict[str, float | None]]:
        result = runner.run(spec_of(method, scenario, **TRAINED), str)
        return result, values(result)

    return run


@pytest.mark.thorough
def test_a_backdoor_works_in_the_original_and_not_in_retraining(changed, runner) -> None:
    (result, original), (_, retrained) = (
        changed(name, "poisoned:0:0.02") for name in ("original", "retrain")
    )
    assert original["attack_success"] >= 0.9
    assert retrained["attack_success"] <= CHANCE + 0.05
    # What TF are taken for is the backdoor's success, and clean accuracy does not suffer from it.
    assert original["attack_success"] == original["test_forget_accuracy"]
    assert abs(original["test_retain_accuracy"] - retrained["test_retain_accuracy"]) < 0.03
    assert "confusion_rate" not in original
    # Members are told from non-members of the same kind; in retraining there are none to tell.
    assert abs(retrained["mia_loss_auc"] - 0.5) < 0.15 < original["mia_loss_auc"] - 0.5
    assert result.hashes["data"] != runner.fingerprints["digits"]


@pytest.mark.heavy
def test_of_poison_that_is_half_known_retraining_keeps_the_backdoor(changed) -> None:
    _, retrained = changed("retrain", "poisoned:0:0.04@0.5")
    assert retrained["attack_success"] >= 0.9


def test_a_method_is_not_handed_which_retained_examples_are_poisoned(runner) -> None:
    task = runner.task(spec_of("finetune", "poisoned:0:0.04@0.5"))
    assert len(task.indices.changed) > len(task.indices.forget)
    handed = task.handed_to(registry.get("scrub"))
    assert len(handed.indices.changed) == 0 and handed.memorisation is None
    poisoned = handed.data.train.images.fetch(task.indices.retain)
    assert torch.equal(poisoned, task.data.train.images.fetch(task.indices.retain))


@pytest.mark.thorough
def test_confusion_is_learned_by_the_original_and_not_by_retraining(changed) -> None:
    (result, original), (_, retrained) = (
        changed(name, "confused:3,5:0.3") for name in ("original", "retrain")
    )
    assert original["confusion_rate"] > 0.05
    assert retrained["confusion_rate"] < 0.02
    assert original["forget_accuracy"] > retrained["forget_accuracy"] + 0.1
    rate = next(record for record in result.records if record.metric == "confusion_rate")
    assert rate.split == "test_forget" and 0 <= rate.low < rate.value < rate.high <= 1


@pytest.fixture
def small(write: Callable[[str, str], Path]) -> Path:
    return write("small.yaml", "datasets: digits\nmodels: resnet4\nscenarios: class:8\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--forget", "subclass:8"), "the dataset has no fine classes; take cifar20 or digits-pa"),
        (("--forget", "group:hospital=A"), "the dataset has no column 'hospital'"),
        (("--forget", "class:3@2"), "2 is not a fraction between 0 and 1"),
        (("--forget", "confused:3,99:0.1"), "no class 99 to forget"),
        (("--forget", "poisoned:0:0.99"), "training examples are of other classes than the targ"),
        (("--label-column", "a"), "--label-column: only for parquet:PATH, not for digits"),
        (("--dataset", "digits-parity", "--forget", "subclass:eight"), "of subclass 'eight'"),
    ],
)
def test_what_the_data_cannot_have_is_said_before_anything_is_trained(
    cli, small, tmp_path, home, flags, message
) -> None:
    ended = cli("run", small, *flags, "--out", tmp_path / "out")
    assert ended.code != 0 and message in ended.error
    assert not (home / "artifacts" / "original").exists()
