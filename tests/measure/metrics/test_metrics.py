"""The catalogue of metrics agrees with what is recorded."""

from dataclasses import replace

import pytest
import torch

from unlearn_bench.core.errors import UnknownNameError
from unlearn_bench.measure import metrics
from unlearn_bench.measure.metrics import (
    calibration,
    crossfit,
    damage,
    mia,
    mia_fitted,
    mia_two_sided,
    zrf,
)
from unlearn_bench.measure.metrics.cost import cost_records
from unlearn_bench.measure.probes import relearn
from unlearn_bench.plugins import metric
from unlearn_bench.plugins.method import SCOPES
from unlearn_bench.plugins.metric import MetricInfo
from unlearn_bench.results.metrics import BUILT_IN
from unlearn_bench.results.records import Record
from unlearn_bench.suite.spec import RELEARN_STEPS

COST = {
    "seconds": {
        "unlearn": {"wall": 2.0, "cpu": 3.0, "gpu": 1.5},
        "precompute": {"wall": 0.5},
        "original": {"wall": 9.0},
        "evaluate": {"wall": 0.1},
    },
    "peak_bytes": 1000,
    "examples": {"forget": 30, "retain": 0},
    "passes": {"forward": 60, "backward": 30},
}


def test_every_recorded_name_is_described(evaluation):
    measured, _ = metrics.compute(evaluation())
    recorded = {r.metric for r in measured + cost_records(COST)}
    described = set(BUILT_IN)
    assert recorded <= described
    # The ratio is derived from several runs, when the records are put together.
    derived = {"time_ratio_to_retrain", "break_even_requests"}
    of_a_kind = {name for name, info in BUILT_IN.items() if info.forgets}
    assert described - recorded == derived | of_a_kind


@pytest.mark.parametrize("name", [name for name, info in BUILT_IN.items() if info.forgets])
def test_a_metric_of_one_kind_of_scenario_is_recorded_there_alone(evaluation, name, monkeypatch):
    of_a_kind = {n: e for n, e in metrics.ENTRIES.items() if any(m.forgets for m in e.metrics)}
    monkeypatch.setattr(metrics, "ENTRIES", of_a_kind)  # the others take their time
    for scope in SCOPES:
        estimates = {"forget": torch.tensor([0.5, 0.3]), "retain": torch.tensor([0.1])}
        asked = replace(evaluation(), scope=scope, memorisation=estimates)
        measured, _ = metrics.compute(asked)
        assert (name in {r.metric for r in measured}) == (scope in BUILT_IN[name].forgets)


def test_the_time_of_every_function_is_told(evaluation):
    _, seconds = metrics.compute(evaluation())
    assert {"accuracies", "loss_attack"} <= seconds.keys()
    assert all(value >= 0 for value in seconds.values())


@pytest.fixture
def own_metrics(monkeypatch):
    metrics.load_built_in()
    monkeypatch.setattr(metrics, "ENTRIES", {})
    monkeypatch.setattr(metric, "REGISTERED", {})


def test_without_retraining_what_compares_with_it_is_unresolved(evaluation, own_metrics):
    @metrics.measures(
        MetricInfo("gap", "U - G.", splits=("forget", "test_forget")), needs_retrained=True
    )
    def gap(evaluation):
        difference = evaluation.unlearned["forget"].accuracy()
        difference -= evaluation.reference["forget"].accuracy()
        return [Record("gap", split, difference) for split in ("forget", "test_forget")]

    with_it, _ = metrics.compute(evaluation())
    without, _ = metrics.compute(replace(evaluation(), retrained=None, missing="it diverged"))
    assert [(r.split, r.status) for r in with_it] == [("forget", "ok"), ("test_forget", "ok")]
    assert [(r.split, r.status) for r in without] == [
        ("forget", "unresolved"),
        ("test_forget", "unresolved"),
    ]
    assert all(r.value is None and r.reason == "it diverged" for r in without)


def test_costs_become_records():
    records = {(r.metric, r.split): r.value for r in cost_records(COST)}
    assert records["wall_seconds", ""] == 2.0
    assert records["gpu_seconds", ""] == 1.5
    assert records["wall_seconds_precompute", ""] == 0.5
    assert records["examples_touched", "forget"] == 30
    assert records["examples_touched", "retain"] == 0


def test_what_was_not_measured_is_left_out():
    seconds = {"unlearn": {"wall": 2.0, "cpu": 3.0, "gpu": None}}
    records = {r.metric for r in cost_records({**COST, "seconds": seconds, "peak_bytes": None})}
    assert not records & {"gpu_seconds", "peak_bytes", "wall_seconds_original"}


def test_unknown_metric_names_the_closest():
    with pytest.raises(UnknownNameError, match="forget_accuracy"):
        metrics.get("forget_acuracy")


def test_every_metric_says_what_it_is_and_what_it_costs():
    for info in BUILT_IN.values():
        assert len(info.definition) > 20 and info.definition.endswith("."), info.name
        assert info.ideal and info.cost, info.name


def test_definitions_say_the_numbers_in_force():
    said = {name: info.definition for name, info in BUILT_IN.items()}
    assert f"{calibration.BINS} bins" in said["ece"]
    rate = f"{relearn.RATE:.0e}".replace("e-0", "e-")
    assert f"batch {relearn.BATCH_SIZE}" in said["relearn_time"]
    assert f"rate {rate}" in said["relearn_time"]
    assert f"{100 * relearn.WITHIN:.0f} points" in said["relearn_time"]
    assert f"at most {RELEARN_STEPS}, " in said["relearn_time"]
    assert f"{zrf.RANDOM_MODELS} randomly initialised" in said["zrf"]
    assert f"{damage.NEAR} retained classes" in said["near_class_drop"]
    assert f": {mia.MIN_FALSE_POSITIVES} over its size" in said["mia_loss_resolvable_fpr"]
    for name, rate in mia.RATES.items():
        needed = f"fewer than {mia.MIN_FALSE_POSITIVES / rate:.0f} examples"
        assert needed in said[f"mia_loss_tpr_at_{name}"]
    for attack, features in mia_fitted.ATTACKS.items():
        fitted = f"to {', '.join(features)}, cross-fitted in {crossfit.FOLDS} folds"
        assert fitted in said[f"{attack}_auc"]
    for attack in (*mia_fitted.ATTACKS, *mia_two_sided.ATTACKS):
        assert f"mean over {crossfit.REPETITIONS} divisions" in said[f"{attack}_auc"]


def test_the_tier_one_table_is_complete():
    names = set(BUILT_IN)
    attacks = [
        f"mia_{attack}_{what}"
        for attack in ("loss", "entropy", "confidence", "features")
        for what in ("auc", "tpr_at_10pct", "tpr_at_1pct", "tpr_at_0.1pct")
    ]
    assert names >= {
        "forget_accuracy",
        "retain_accuracy",
        "test_retain_accuracy",
        "test_forget_accuracy",
        *attacks,
        "mia_legacy_entropy_svc",
        "mia_legacy_salun_confidence",
        "activation_distance",
        "js_divergence",
        "kl_divergence",
        "zrf",
        "probe_leak",
        "relearn_time",
        "ain",
        "relearn_time_features",
        "bn_recovery",
        "worst_class_drop",
        "near_class_drop",
        "ece",
        "nll",
        "brier",
        "tug_of_war",
    }


@pytest.mark.parametrize("name", ["probe_leak", "zrf", "mia_features_auc", "wall_seconds"])
def test_show_tells_definition_ideal_cost_and_source(name):
    from unlearn_bench.cli.catalogue import LISTINGS, describe

    facts = dict(describe(name))
    assert facts["metric"] == name and facts["definition"] == metrics.get(name).definition
    assert facts["ideal"] and facts["cost"] and facts["source"]
    listing = LISTINGS["metrics"]()
    assert name in [row[0] for row in listing.rows]
    assert listing.columns == ("name", "ideal", "cost", "definition")
