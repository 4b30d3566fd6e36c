"""Runs of tuning: they look at a surrogate, and looking at more is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY

from unlearn_bench.core import blindness
from unlearn_bench.core.blindness import FIRST_SEED, BlindnessError, blind
from unlearn_bench.data import datasets
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.identity import reference
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.trials import GAP
from unlearn_bench.measure.gap import View, figures, gaps
from unlearn_bench.plugins import registry
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Overrides, expand, resolve_suite
from unlearn_bench.suite.spec import RunSpec, Surrogate

pytestmark = pytest.mark.usefixtures("own_registry")


def specs(tiny: Path, methods: str, **flags: Any) -> dict[str, RunSpec]:
    quick = ("finetune.epochs=1",) if methods == "finetune" else ()
    asked = Overrides(methods=methods, settings=quick, **flags)
    plan = expand(resolve_suite(str(tiny), asked), device="cpu")
    return {spec.method: spec for spec in plan.runs}


def blinded(spec: RunSpec, number: int = 0) -> RunSpec:
    surrogate = Surrogate(number=number, of=2)
    return spec.model_copy(update={"seed": FIRST_SEED, "surrogate": surrogate})


def runner(home: Path) -> Runner:
    return Runner(Store(home), torch.device("cpu"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A store with the original, the retrained model and its figures, and that run's result."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "tiny.yaml").write_text(TINY)
    spec = blinded(specs(folder / "tiny.yaml", "finetune")["retrain"])
    return folder / "home", runner(folder / "home").run(spec, lambda _: None)


@pytest.fixture
def made(first: tuple[Path, Any], home: Path) -> Path:
    """The test's own copy of that store."""
    shutil.copytree(first[0], home, dirs_exist_ok=True)
    return home


def values(result: Any, metric: str = GAP) -> dict[str, float]:
    return {record.split: record.value for record in result.records if record.metric == metric}


def test_the_gap_is_zero_for_retraining_and_is_the_mean_over_what_is_compared(
    tiny: Path, made: Path, first: tuple[Path, Any]
) -> None:
    assert set(values(first[1]).values()) == {0.0}
    tuned = values(runner(made).run(blinded(specs(tiny, "finetune")["finetune"]), lambda _: None))
    mean = tuned.pop("")
    assert set(tuned) == {
        "forget_accuracy",
        "retain_accuracy",
        "validation_forget_accuracy",
        "validation_accuracy",
        "bn_recovery",
    }
    assert mean == pytest.approx(sum(tuned.values()) / 5) and mean > 1


def test_examples_forgotten_one_by_one_are_attacked_as_well(tiny: Path, home: Path) -> None:
    spec = blinded(specs(tiny, "finetune", forget=("random:0.1",))["finetune"])
    found = values(runner(home).run(spec, lambda _: None))
    assert "mia_auc" in found and "validation_forget_accuracy" not in found


def test_a_gap_is_in_points_over_what_both_models_have() -> None:
    assert gaps({"a": 0.5, "b": 0.1}, {"a": 0.25, "c": 1.0}) == {"a": 25.0}


def test_models_that_all_trials_share_are_kept_and_unlearned_ones_are_not(
    tiny: Path, made: Path
) -> None:
    runner(made).run(blinded(specs(tiny, "finetune")["finetune"]), lambda _: None)
    kept = {place.name: len(list(place.iterdir())) for place in (made / "artifacts").iterdir()}
    assert kept == {"original": 1, "unlearned": 1, "surrogate_figures": 1}


def test_a_trial_has_a_key_of_its_own(tiny: Path, home: Path) -> None:
    spec, runs = specs(tiny, "finetune")["finetune"], runner(home)
    same_seed = spec.model_copy(update={"seed": FIRST_SEED})
    keys = [runs.key(s) for s in (spec, same_seed, blinded(spec), blinded(spec, 1))]
    assert len(set(keys)) == 4
    assert runs.key(blinded(spec).model_copy(update={"limit": 3.0})) == keys[2]


def peek_at_the_test_part(model: Any, view: View) -> Any:
    return {"accuracy": float((view.data.test.labels == 0).float().mean())}


def peek_at_the_dataset(model: Any, view: View) -> Any:
    return {"accuracy": float(len(datasets.load("digits").test.labels))}


def peeking(read: Callable[[Runner, RunSpec], Any], runs: Runner, spec: RunSpec) -> Any:
    def objective(model: Any, view: View) -> Any:
        read(runs, spec)
        return figures(model, view)

    return objective


def retraining_of(runs: Runner, spec: RunSpec) -> Any:
    """The true forget set's retraining, as the store would hold it."""
    identity = runs.identity(reference(spec), "unlearned")
    return Store(default_home()).find("unlearned", identity)


PEEKS: dict[str, tuple[Callable[[Runner, RunSpec], Any], str]] = {
    "retraining": (retraining_of, "a stored unlearned of seed 0 was read during tuning"),
    "retraining of a tuning seed": (
        lambda runs, spec: retraining_of(runs, spec.model_copy(update={"seed": FIRST_SEED})),
        "a stored unlearned of the true forget set was read during tuning",
    ),
    "original of a reporting seed": (
        lambda runs, spec: runs.original(spec, lambda _: None),
        "the true forget set of seed 0 was read during tuning",
    ),
    "test part": (
        lambda runs, spec: runs.task(blinded(spec)).data.test.images,
        "the test part was read during tuning",
    ),
    "and hides it": (
        lambda runs, spec: pytest.raises(BlindnessError, runs.task, spec),
        "the true forget set of seed 0 was read during tuning",
    ),
}


@pytest.mark.parametrize("name", PEEKS)
def test_an_objective_that_peeks_is_refused(name: str, tiny: Path, made: Path) -> None:
    read, said = PEEKS[name]
    spec, runs = specs(tiny, "finetune")["finetune"], runner(made)
    runs.trials.objective = peeking(read, runs, spec)
    with pytest.raises(RunFailedError, match=said):
        runs.run(blinded(spec), lambda _: None)
    # What is refused while tuning is free afterwards.
    assert not blindness.is_blind() and runs.task(spec).data.test.labels.numel()


@pytest.mark.parametrize("objective", [peek_at_the_test_part, peek_at_the_dataset])
def test_an_objective_that_reads_the_test_part_is_refused(
    objective: Any, tiny: Path, made: Path
) -> None:
    spec, runs = specs(tiny, "finetune")["finetune"], runner(made)
    runs.trials.objective = objective
    with pytest.raises(RunFailedError, match="the test part was read during tuning"):
        runs.run(blinded(spec), lambda _: None)


def test_a_method_that_peeks_is_refused(
    tiny: Path, made: Path, write: Callable[[str, str], Path]
) -> None:
    registry.load_plugin(
        write(
            "peeking.py",
            """\
            from unlearn_bench.api import Access, method
            from unlearn_bench.data import datasets

            @method("peeking", access=Access.FORGET)
            def peeking(model, ctx, *, factor: float = 1.0):
                try:
                    datasets.load("digits").test.labels
                except Exception:
                    pass
                return model
            """,
        )
    )
    with pytest.raises(RunFailedError, match="method 'peeking' opened .*data that models are made"):
        runner(made).run(blinded(specs(tiny, "peeking")["peeking"]), lambda _: None)


def test_a_run_is_ended_where_nothing_is_left_of_its_time(tiny: Path, made: Path) -> None:
    spec = blinded(specs(tiny, "finetune")["finetune"]).model_copy(update={"limit": 1e-6})
    said = "ended after 1e-06 s, all that was left to tune it"
    with pytest.raises(RunFailedError, match=said) as caught:
        runner(made).run(spec, lambda _: None)
    # What it took counts all the same.
    assert any(r.metric == "cpu_seconds" and r.value for r in caught.value.records)


def test_blindness_ends_with_its_block() -> None:
    with pytest.raises(BlindnessError, match="the store"), blind():
        blindness.refusal("the store")  # a method that swallowed the refusal
    assert not blindness.is_blind()
