"""Originals trained in shards: kept by stage, compared with their own retraining, streamed."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.execution import shards
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.identity import reference
from unlearn_bench.execution.models import Trio
from unlearn_bench.execution.run import Runner
from unlearn_bench.store import cache
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Plan, expand
from unlearn_bench.suite.sharding import Sharding
from unlearn_bench.suite.spec import ModelSpec, RunSpec, Suite

ROOT = Path(__file__).parents[2]
FEW = "indices:3,14"
SMALL = {"name": "resnet4", "args": {"width": 8}}
SUITE: dict[str, Any] = {
    "name": "s",
    "datasets": "digits",
    "models": SMALL,
    "methods": "sisa",
    "threads": 1,
    "recipe": {"epochs": 1, "lr": 4e-3},
    "relearn_steps": 4,
}


def plan(scenario: str = FEW, original: Path | None = None, **changes: Any) -> Plan:
    suite = Suite.model_validate(SUITE | {"scenarios": scenario, "seeds": 1} | changes)
    return expand(suite, device="cpu", original=original)


def of_sisa(**changes: Any) -> list[RunSpec]:
    return [spec for spec in plan(**changes).runs if spec.method == "sisa"]


def silent(text: str) -> None:
    pass


def runner_in(home: Path) -> Runner:
    return Runner(Store(home), torch.device("cpu"))


def made(spec: RunSpec, runner: Runner) -> Trio:
    return runner.models.of(spec, runner.task(spec), silent)


def checkpoints(home: Path) -> list[Path]:
    return sorted((home / "artifacts" / shards.CHECKPOINT).glob("*"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trio]:
    home = tmp_path_factory.mktemp("shards")
    [spec] = of_sisa()
    return home, made(spec, runner_in(home))


def test_a_method_in_shards_comes_with_what_it_is_compared_with() -> None:
    entries = ["sisa", {"name": "sisa", "label": "finer", "params": {"slices": 4}}]
    runs = {spec.label: spec for spec in plan(methods=entries).runs}
    whole, own = runs["retrain"], runs["retrain of sisa"]
    assert runs["sisa"].model.sharding == Sharding(shards=3, slices=3) == own.model.sharding
    assert whole.model.sharding is None and own.model.label.endswith("3 shards of 3 slices)")
    assert runs["original of finer"].model.sharding == Sharding(shards=3, slices=4)
    assert reference(runs["sisa"]).identity() == own.identity()
    # Models without shards have the keys that they always had.
    assert "sharding" not in str(whole.identity())


def test_several_unlearnings_of_one_ensemble_share_its_retraining() -> None:
    labels = [spec.label for spec in plan(seeds={"originals": 1, "unlearning": 2}).runs]
    assert labels.count("sisa") == 2
    assert labels.count("retrain of sisa") == labels.count("original of sisa") == 1


def test_what_cannot_be_divided_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^sisa\.slices=2000: input should be less than"):
        plan(params={"sisa": {"slices": 2000}})
    with pytest.raises(ValueError, match="set their parameters shards and slices"):
        Suite.model_validate(
            SUITE | {"scenarios": FEW, "models": SMALL | {"sharding": {"shards": 2, "slices": 2}}}
        )
    [spec] = of_sisa(params={"sisa": {"shards": 30, "slices": 40}})
    with pytest.raises(RunFailedError, match="30 shards of 40 slices leave a slice with 0 of"):
        made(spec, runner_in(tmp_path))


def test_given_weights_have_no_shards(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "own.safetensors")
    given = plan(original=tmp_path / "own.safetensors", methods=["sisa", "finetune"])
    assert not any(spec.model.sharding for spec in given.runs)
    assert any("sisa was left out: the given weights" in note for note in given.notes)


@pytest.mark.parametrize(
    ("epochs", "slices", "expected"), [(10, 3, (5, 5, 5)), (4, 4, (1, 2, 1, 2))]
)
def test_the_stages_together_cost_one_training(
    epochs: int, slices: int, expected: tuple[int, ...]
) -> None:
    sharding = Sharding(shards=2, slices=slices)
    assert sharding.epochs(epochs) == expected
    read = sum((k + 1) / slices * each for k, each in enumerate(expected))
    assert read == pytest.approx(epochs, rel=0.1)
    assert min(sharding.epochs(1)) == 1  # or the last slice would never be learned


def test_every_stage_is_kept_and_unaffected_shards_stay(finished: tuple[Path, Trio]) -> None:
    home, models = finished
    kept = {entry.what for entry in cache.entries(home) if entry.kind == shards.CHECKPOINT}
    assert len(kept) == 9 == len(checkpoints(home))
    assert any(what.endswith("seed 0 · shard 3 after slice 2") for what in kept)
    moved = {
        name.split(".")[1]
        for name, tensor in models.original.tensors.items()
        if not torch.equal(tensor, models.unlearned.tensors[name])
    }
    log = models.unlearned.notes["log"]
    assert moved == {str(int(entry["shard"])) for entry in log if "shard" in entry}
    assert 0 < len(moved) < 3
    # Those stages are read that are repeated, and nothing but R.
    whole = models.retrained
    assert whole is not None and whole.notes["cost"]["examples"].keys() == {"retain"}
    repeated = models.unlearned.notes["cost"]["examples"]
    assert repeated.keys() == {"retain"}
    assert repeated["retain"] < whole.notes["cost"]["examples"]["retain"]


def test_a_training_that_was_ended_goes_on_at_the_last_stage(
    finished: tuple[Path, Trio], tmp_path: Path
) -> None:
    [spec] = of_sisa()
    told: list[str] = []

    def killed(text: str) -> None:
        told.append(text)
        if "shard 2/3, slice 2/3" in text:
            raise SystemExit

    with pytest.raises(RunFailedError):
        runner_in(tmp_path).original(spec, killed)
    assert len(checkpoints(tmp_path)) == 4
    told.clear()
    again = runner_in(tmp_path).original(spec, told.append)
    assert not any("shard 1/3" in text or "shard 2/3, slice 1/3" in text for text in told)
    assert again.sha256 == finished[1].original.sha256


def test_a_checkpoint_that_is_gone_is_made_again(
    finished: tuple[Path, Trio], tmp_path: Path
) -> None:
    home = tmp_path / "copy"
    shutil.copytree(finished[0], home)
    shutil.rmtree(home / "artifacts" / shards.CHECKPOINT)
    shutil.rmtree(home / "artifacts" / "unlearned")
    [spec] = of_sisa()
    again = made(spec, runner_in(home))
    assert again.unlearned.sha256 == finished[1].unlearned.sha256
    cost, before = (m.unlearned.notes["cost"]["examples"] for m in (again, finished[1]))
    assert cost == before  # what is made again is no part of the request


def test_a_stream_ends_where_the_same_requests_at_once_do(home: Path) -> None:
    # The first goes back to the first slice of every shard, the second to later ones of some.
    rest = "class:1;indices:5,14,20,21,33,40"
    runner = runner_in(home)
    runs = [spec for spec in of_sisa(scenario=f"stream:{rest}") if ":class:1;" in spec.scenario]
    original = runner.original(runs[0], silent)
    ends = {
        (spec.scenario.partition(":")[0], spec.request): runner.models.unlearned(
            spec, runner.task(spec), original, silent
        )
        for spec in runs
    }
    assert ends["stream", 2].sha256 == ends["union", 0].sha256 != ends["stream", 1].sha256
    starts = [entry["slice"] for entry in ends["stream", 2].notes["log"] if "slice" in entry]
    assert max(starts) > 0


def test_memorised_examples_are_the_same_for_an_ensemble(home: Path) -> None:
    runner = runner_in(home)
    runs = {s.label: s for s in plan(scenario="memorised:high:0.05").runs}
    identities = (runner.identity(runs[name], "memorisation") for name in ("retrain", "sisa"))
    assert next(identities) == next(identities)


TRAINS = """
import sys
from pathlib import Path

import torch

from tests.execution.test_shards import LONGER, of_sisa
from unlearn_bench.execution.run import Runner
from unlearn_bench.store.store import Store

[spec] = of_sisa(**LONGER)
Runner(Store(Path(sys.argv[1])), torch.device("cpu")).original(spec, str)
"""
LONGER: dict[str, Any] = {
    "recipe": {"epochs": 4, "lr": 4e-3, "batch_size": 16},
    "params": {"sisa": {"shards": 3, "slices": 4}},
}


@pytest.mark.thorough
def test_killed_in_the_middle_of_a_shard_it_resumes_to_the_same_weights(tmp_path: Path) -> None:
    words = [sys.executable, "-c", TRAINS]
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    for _ in range(2):
        before = len(checkpoints(killed))
        process = subprocess.Popen([*words, str(killed)], cwd=ROOT)
        while len(checkpoints(killed)) < before + 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (killed / "artifacts" / "original").exists()
    for home in (killed, undisturbed):
        subprocess.run([*words, str(home)], cwd=ROOT, check=True)
    for kind, count in ((shards.CHECKPOINT, 12), ("original", 1)):
        found = [
            sorted((home / "artifacts" / kind).glob("*/*.safetensors"))
            for home in (killed, undisturbed)
        ]
        assert len(found[0]) == count
        assert [p.read_bytes() for p in found[0]] == [p.read_bytes() for p in found[1]]


def test_a_models_label_names_its_shards() -> None:
    model = ModelSpec(name="resnet4", sharding=Sharding(shards=1, slices=2))
    assert model.label == "resnet4 (1 shard of 2 slices)" and model.whole.label == "resnet4"
    assert ModelSpec.model_validate(model.model_dump()) == model
