"""What a run is compared with: the retrained model of its own seed, if there is one."""

from dataclasses import replace

import pytest
import torch

from unlearn_bench.core.errors import MethodError, PluginError
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.plugin_files import load_plugin
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import execute
from unlearn_bench.measure import evaluate, gap
from unlearn_bench.plugins import registry
from unlearn_bench.store.store import Store
from unlearn_bench.suite import config
from unlearn_bench.suite.spec import Suite

SUITE = {
    "name": "tiny",
    "datasets": "digits",
    "models": "resnet4",
    "scenarios": "class:8",
    "methods": [{"name": "finetune", "params": {"epochs": 1}}],
    "threads": 1,
    "recipe": {"epochs": 1, "batch_size": 32, "lr": 2e-2},
    "relearn_steps": 4,
}


class Quiet:
    def run_started(self, position, spec): ...
    def step(self, position, text): ...
    def run_finished(self, position, result, reused): ...
    def run_failed(self, trace): ...


@pytest.fixture
def plan():
    return config.expand(Suite.model_validate(SUITE), device="cpu")


@pytest.fixture
def runner(home):
    return Runner(Store(home), torch.device("cpu"))


def by_method(plan):
    return {spec.method: spec for spec in plan.runs}


def test_the_reference_comes_first(plan):
    assert plan.runs[0].method == "retrain"


def test_retraining_that_fails_is_tried_once_and_leaves_comparisons_unresolved(
    plan, runner, own_registry, home, tmp_path
):
    calls = []

    def diverge(model, ctx):
        calls.append(1)
        raise MethodError("it diverged")

    kept = ("retrain", "original", "finetune")
    plan = replace(plan, runs=tuple(spec for spec in plan.runs if spec.method in kept))
    good = registry.get("retrain")
    registry.REGISTERED["retrain"] = replace(good, function=diverge)
    results = {r.method: r for r in execute(plan, runner, tmp_path / "out", Quiet(), command="")}
    assert results["retrain"].status == "failed"
    assert results["finetune"].status == results["original"].status == "ok"
    assert "it diverged" in results["finetune"].error
    assert len(calls) == 1

    # The same command later: what was incomplete is evaluated again.
    registry.REGISTERED["retrain"] = good
    fresh = Runner(Store(home), torch.device("cpu"))
    results = {r.method: r for r in execute(plan, fresh, tmp_path / "out", Quiet(), command="")}
    assert {r.status for r in results.values()} == {"ok"}
    assert results["finetune"].error == ""


def test_a_reference_is_trained_for_a_run_that_stands_alone(plan, runner, home):
    result = runner.run(by_method(plan)["finetune"], lambda text: None)
    assert result.status == "ok" and result.error == ""
    assert len(list((home / "artifacts" / "unlearned").iterdir())) == 2


def test_an_error_inside_a_metric_fails_the_run(plan, runner, monkeypatch):
    from unlearn_bench.measure import metrics

    def broken(evaluation):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(metrics, "compute", broken)
    with pytest.raises(RunFailedError, match="ZeroDivisionError"):
        runner.run(by_method(plan)["original"], lambda text: None)


def test_probes_are_made_once_per_weights_and_timed(plan, runner, home):
    first = runner.run(by_method(plan)["original"], lambda text: None)
    kept = home / "artifacts" / "probes"
    assert len(list(kept.iterdir())) == 2  # of O, which is U here, and of G
    assert {"probe relearn_time", "probe probe_recall", "probe bn_recovery", "accuracies"} <= set(
        first.metric_seconds
    )
    values = {(r.metric, r.split): r.value for r in first.records}
    assert values["relearn_time", "test_forget"] == 0
    assert values["zrf", "forget"] is not None
    again = runner.run(by_method(plan)["original"], lambda text: None)
    costs = {"wall_seconds_evaluate"}
    assert [r for r in again.records if r.metric not in costs] == [
        r for r in first.records if r.metric not in costs
    ]


def test_an_output_filter_hides_from_metrics_but_not_from_probes(plan, runner):
    found = {
        name: {(r.metric, r.split): r.value for r in runner.run(spec, lambda text: None).records}
        for name, spec in by_method(plan).items()
        if name in ("original", "logit_mask", "uniform_on_forget", "retrain", "retrain_other_seed")
    }
    assert found["logit_mask"]["forget_accuracy", "forget"] == 0
    assert found["logit_mask"]["bn_recovery", "forget"] == 0
    assert found["uniform_on_forget"]["forget_accuracy", "forget"] < 0.2
    assert found["original"]["forget_accuracy", "forget"] > 0.3
    for fake in ("logit_mask", "uniform_on_forget"):
        for probed in ("probe_recall", "relearn_time", "relearn_time_features"):
            assert found[fake][probed, "test_forget"] == found["original"][probed, "test_forget"]
    two = (found["retrain"], found["retrain_other_seed"])
    assert two[0]["nll", "test_retain"] != two[1]["nll", "test_retain"]


def test_a_filter_that_breaks_the_logits_fails_its_run(plan, runner, own_registry):
    good = registry.get("logit_mask")
    registry.REGISTERED["logit_mask"] = replace(good, outputs=lambda z, classes: z[:, :-1])
    with pytest.raises(RunFailedError, match="keep the shape"):
        runner.run(by_method(plan)["logit_mask"], lambda text: None)


def test_a_suite_says_after_how_many_steps_relearning_gives_up(runner):
    from dataclasses import asdict

    few, fewer = (
        config.expand(Suite.model_validate(SUITE | {"relearn_steps": steps}), device="cpu")
        for steps in (3, 2)
    )
    specs = [by_method(plan)["random_init"] for plan in (few, fewer)]
    found = [
        next(asdict(r) for r in runner.run(spec, str).records if r.metric == "relearn_time")
        for spec in specs
    ]
    assert [record["value"] for record in found] == [3, 2]
    assert runner.key(specs[0]) != runner.key(specs[1])


@pytest.mark.thorough
def test_further_retrainings_are_as_different_as_the_second_one(runner):
    asked = Suite.model_validate(SUITE | {"references": 4, "seeds": 1})
    runs = [s for s in config.expand(asked, device="cpu").runs if s.method == "retrain_other_seed"]
    assert [spec.label for spec in runs] == [
        "retrain_other_seed",
        "retrain_other_seed-2",
        "retrain_other_seed-3",
    ]
    made = [runner.run(spec, lambda text: None).hashes for spec in runs]
    assert len({hashes["unlearned"] for hashes in made}) == 3
    assert len({hashes["retrained"] for hashes in made}) == 1


def test_a_results_key_covers_the_reference_it_is_judged_by(plan, runner, own_registry):
    specs = by_method(plan)
    before = {name: runner.key(spec) for name, spec in specs.items()}
    identities = {name: runner.identity(spec, "unlearned") for name, spec in specs.items()}
    other = replace(registry.get("retrain"))
    vars(other)["code_key"] = "another"
    registry.REGISTERED["retrain"] = other
    assert not set(before.values()) & {runner.key(spec) for spec in specs.values()}
    del identities["retrain"]  # models are kept: only what is said of them is judged again
    assert all(runner.identity(specs[n], "unlearned") == kept for n, kept in identities.items())


def test_a_stored_reference_that_other_code_made_is_made_again(plan, runner, own_registry):
    spec = by_method(plan)["retrain"]
    good = registry.get("retrain")
    registry.REGISTERED["retrain"] = replace(good, function=lambda model, ctx: model)
    task, original = runner.task(spec), runner.original(spec, str)
    fake = runner.models.unlearned(spec, task, original, str)
    assert fake.sha256 == original.sha256
    registry.REGISTERED["retrain"] = good
    made = runner.models.unlearned(spec, task, original, str)
    assert made.key == fake.key and made.sha256 != original.sha256
    assert runner.models.unlearned(spec, task, original, str).reused


def test_a_plug_in_that_patches_others_while_it_is_imported_is_refused(write, own_registry):
    text = """
        from unlearn_bench.api import Access, method
        from unlearn_bench.measure import evaluate, gap

        @method("mine", access=Access.NONE)
        def mine(model, ctx):
            return model

        gap.figures.__code__ = mine.__code__
        evaluate.logits = mine
    """
    before = evaluate.logits, gap.figures.__code__
    with pytest.raises(PluginError, match="plug.py patches .*evaluate.logits.* while it is"):
        load_plugin(write("plug.py", text))
    assert (evaluate.logits, gap.figures.__code__) == before
