"""A study asks for the runs that follow from results, within one budget for every method."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from unlearn_bench.core.blindness import FIRST_SEED
from unlearn_bench.core.errors import ConfigError
from unlearn_bench.execution.trials import GAP
from unlearn_bench.plugins import registry
from unlearn_bench.results.records import Record, RunResult
from unlearn_bench.suite.config import Plan, expand
from unlearn_bench.suite.spec import RunSpec, Suite
from unlearn_bench.suite.tuned import Budget, Tuned, TunedMethod
from unlearn_bench.tuning.study import Tuning

pytestmark = pytest.mark.usefixtures("own_registry")

Gap = Callable[[RunSpec], float | None]


def plan(methods: Any = "finetune", **changes: Any) -> Plan:
    values = {"name": "s", "datasets": "digits", "models": "lenet", "scenarios": "class:8"}
    suite = Suite.model_validate(values | {"methods": methods} | changes)
    return expand(suite, device="cpu")


def result(spec: RunSpec, gap: float | None, seconds: float = 1.0) -> RunResult:
    records = (
        Record(GAP, "", gap),
        Record(GAP, "forget_accuracy", 99.0),
        Record("cpu_seconds", "", seconds),
        Record("forward_examples", "", float(spec.params.get("epochs", 1))),
    )
    head = (spec.scenario, spec.label, "method", spec.dataset, spec.model.label, spec.scenario)
    made = RunResult(head[0], *head[1:], spec.seed, spec.params, "ok", records=records)
    return made if gap is not None else replace(made, status="failed", error="it broke")


def distance(spec: RunSpec) -> float:
    """Least at a learning rate of 0.05."""
    return 100 * abs(spec.params["lr"] - 0.05) + spec.surrogate.number


def run(
    tuning: Tuning, gap: Gap = distance, *, seconds: float = 0.0, order: int = 1
) -> list[RunSpec]:
    """Give every run a result until none follows; ``order`` -1 takes the newest first."""
    waiting, done = list(tuning.plan.runs), []
    while waiting:
        spec = waiting.pop(0 if order == 1 else -1)
        retrained = spec.method == "retrain"
        made = result(spec, 0.0 if retrained else gap(spec), 1.0 if retrained else seconds)
        waiting += tuning.follow_up(spec, made)
        done.append(spec)
    return done


def tuned(tuning: Tuning) -> Tuned:
    return tuning.tuned(lambda _: "data", command="", versions={})


def method(tuning: Tuning, name: str = "finetune") -> TunedMethod:
    return tuned(tuning).settings[0].methods[name]


BUDGET = Budget(trials=5, retrainings=10, surrogates=2, tuning_seeds=2)


def test_every_trial_runs_on_every_surrogate_under_every_tuning_seed() -> None:
    done = run(Tuning(plan(), BUDGET))
    cells = {(s.seed, s.surrogate.number) for s in done if s.label == "finetune #3"}
    assert cells == {(FIRST_SEED + s, n) for s in (0, 1) for n in (0, 1)}
    assert all(s.seed >= FIRST_SEED and s.surrogate.of == 2 for s in done)
    retrained = [(s.seed, s.surrogate.number) for s in done if s.method == "retrain"]
    assert sorted(retrained) == [(FIRST_SEED + s, n) for s in (0, 1, 2) for n in (0, 1)]


def test_the_published_default_is_tried_first_and_the_suites_setting_next() -> None:
    default = registry.get("finetune").resolve({})
    own = Tuning(plan(params={"finetune": {"lr": 0.5, "epochs": 2}}), BUDGET)
    tried = {s.label: s.params for s in run(own)}
    assert tried["finetune #0"] == default
    assert tried["finetune #1"] == default | {"lr": 0.5, "epochs": 2}
    assert tried["finetune #2"] not in (default, tried["finetune #1"])


def test_nothing_follows_before_all_retrainings_are_done() -> None:
    tuning = Tuning(plan(), BUDGET)
    *first, last = tuning.plan.runs
    assert all(tuning.follow_up(spec, result(spec, 0.0)) == [] for spec in first)
    assert {s.label for s in tuning.follow_up(last, result(last, 0.0))} == {"finetune #0"}


def test_a_search_ends_with_its_trials() -> None:
    tuning = Tuning(plan(), BUDGET)
    done = run(tuning)
    found = method(tuning)
    assert (found.trials, found.ended, len(found.history)) == (5, "5 trials", 5)
    assert len({tuple(s.params.items()) for s in done if s.method == "finetune"}) == 5
    assert len(done) <= tuning.most_runs


def test_a_search_ends_with_its_time_and_no_run_gets_more_than_is_left() -> None:
    tuning = Tuning(plan(), BUDGET)
    # A trial of four runs takes 8 s, of 10 retrainings of 1 s each.
    done = run(tuning, seconds=2.0)
    found = method(tuning)
    assert (found.trials, found.ended) == (2, "the time of 10 retrainings")
    assert (found.seconds, found.retrainings) == (16.0, 16.0)
    limits = {s.label: s.limit for s in done if "again" not in s.label}
    assert limits["finetune #0"] == 10.0 and limits["finetune #1"] == pytest.approx(2 / 4)


def test_the_best_is_chosen_and_checked_against_the_default_on_a_fresh_seed() -> None:
    tuning = Tuning(plan(), BUDGET)
    done = run(tuning)
    found = method(tuning)
    assert found.chosen > 0 and found.gap == min(g for g in found.history if g is not None)
    fresh = [s for s in done if s.seed == FIRST_SEED + 2 and s.method == "finetune"]
    assert [s.label for s in fresh] == [
        "finetune #0 again",
        "finetune #0 again",
        f"finetune #{found.chosen} again",
        f"finetune #{found.chosen} again",
    ]
    assert found.check is not None and found.check.difference is not None
    assert found.check.difference == pytest.approx(found.gap - found.history[0], abs=0.01)


def test_a_default_that_failed_is_not_run_again_to_compare_with() -> None:
    tuning = Tuning(plan(), BUDGET)
    done = run(tuning, lambda spec: None if spec.label == "finetune #0" else distance(spec))
    found = method(tuning)
    fresh = [s for s in done if s.seed == FIRST_SEED + 2 and s.method == "finetune"]
    assert {s.label for s in fresh} == {f"finetune #{found.chosen} again"}
    assert {s.limit for s in fresh} == {10.0}  # no run takes more than the whole budget
    assert found.check is not None and found.check.tuned is not None
    assert found.check.default is None and found.check.difference is None


def test_a_failed_trial_keeps_its_reason_and_is_not_chosen() -> None:
    tuning = Tuning(plan(), BUDGET)
    run(tuning, lambda spec: None if spec.label == "finetune #1" else distance(spec))
    found = method(tuning)
    assert found.failures == {1: "it broke"} and found.history[1] is None and found.chosen != 1


def test_where_all_trials_fail_the_default_is_kept() -> None:
    tuning = Tuning(plan(), BUDGET)
    run(tuning, lambda spec: None)
    found = method(tuning)
    assert found.params == registry.get("finetune").resolve({})
    assert (found.gap, found.chosen, found.check) == (None, 0, None)
    assert set(found.failures.values()) == {"it broke"} and len(found.failures) == 5


def test_where_retraining_fails_nothing_is_tried() -> None:
    tuning = Tuning(plan(), BUDGET)
    for spec in tuning.plan.runs:
        assert tuning.follow_up(spec, result(spec, None)) == []
    assert method(tuning).trials == 0 and "it broke" in method(tuning).ended


def test_the_order_in_which_results_come_makes_no_difference() -> None:
    methods = ["finetune", "gradient_ascent"]
    one, other = (Tuning(plan(methods), BUDGET) for _ in range(2))
    assert {s.model_dump_json() for s in run(one)} == {
        s.model_dump_json() for s in run(other, order=-1)
    }
    assert tuned(one) == tuned(other)


def test_entries_of_another_label_and_controls_are_not_tuned() -> None:
    tuning = Tuning(plan(["finetune", {"name": "pbu", "label": "published"}]), BUDGET)
    assert {s.method for s in run(tuning)} == {"retrain", "finetune"}
    assert any("published: set by the suite" in note for note in tuning.plan.notes)
    with pytest.raises(ConfigError, match="no method to tune"):
        Tuning(plan("retrain"), BUDGET)


def test_a_method_without_anything_to_search_keeps_its_default() -> None:
    from unlearn_bench.api import Access
    from unlearn_bench.api import method as registered

    @registered("still", access=Access.FORGET)
    def still(model, ctx):
        return model

    tuning = Tuning(plan("still"), BUDGET)
    run(tuning, lambda spec: 1.0)
    assert method(tuning, "still").ended == "nothing to search"


def test_every_setting_is_searched_by_itself() -> None:
    tuning = Tuning(plan(scenarios=["class:8", "random:0.1"]), Budget(trials=2))
    run(tuning)
    assert [s.scenario.name for s in tuned(tuning).settings] == ["class:8", "random:0.1"]
