"""Many-model numbers of invented suites: retraining at chance, the original told."""

import numpy as np
import pandas as pd
import pytest

from unlearn_bench.data.splits import roles
from unlearn_bench.population.many import COLUMNS, table
from unlearn_bench.population.metrics import MANY
from unlearn_bench.population.quality import forgetting_quality

KINDS = {"retrain": "reference", "original": "control", "retrain_other_seed": "control"}


def curves(rows):
    """``rows`` yields (method, seed, series, x, y)."""
    frames = [
        pd.DataFrame(
            {
                "method": method,
                "dataset": "digits",
                "model": "lenet",
                "scenario": "s",
                "seed": seed,
                "kind": KINDS.get(method, "method"),
                "run_key": f"{method}{seed}",
                "curve": "scores",
                "series": series,
                "n": 0,
                "x": np.asarray(x, dtype=float),
                "y": y,
            }
        )
        for method, seed, series, x, y in rows
    ]
    return pd.concat(frames, ignore_index=True)


def of_class(seeds, shifts, examples=40):
    rng = np.random.default_rng(0)
    for method, shift in shifts.items():
        for seed in range(seeds):
            for split in ("forget", "retain", "test_forget", "test_retain"):
                moved = shift if "forget" in split else 0.0
                yield method, seed, split, range(examples), moved + rng.normal(size=examples)


def number(found, method, metric, split="forget"):
    of = (found["method"] == method) & (found["metric"] == metric) & (found["split"] == split)
    (row,) = found[of].to_dict("records")
    return row


SHIFTS = {"retrain": 0.0, "retrain_other_seed": 0.0, "original": 3.0, "good": 0.0, "bad": 1.5}


@pytest.fixture(scope="module")
def sixteen():
    return table(curves(of_class(16, SHIFTS)))


def test_every_number_stands_beside_its_null(sixteen):
    assert tuple(sixteen.columns) == COLUMNS
    good, bad = (number(sixteen, method, "klom") for method in ("good", "bad"))
    assert good["null_low"] <= good["value"] <= good["null_high"]
    assert bad["value"] > bad["null_high"] and bad["n_models"] == 16
    assert number(sixteen, "bad", "klom", "retain")["value"] < bad["null_high"]


def test_forgetting_quality_is_given_in_units_of_another_retraining(sixteen):
    good, bad = (number(sixteen, m, "forgetting_quality_ratio") for m in ("good", "bad"))
    assert good["value"] == pytest.approx(1.0, abs=0.25) and bad["value"] < 0.6
    quality = number(sixteen, "good", "forgetting_quality")
    again = number(sixteen, "retrain_other_seed", "forgetting_quality")
    assert good["value"] == pytest.approx(quality["value"] / again["value"])
    assert quality["null_low"] == again["value"]
    assert quality["low"] < quality["value"] < quality["high"]


def test_examples_count_that_every_seed_has():
    rows = [
        (m, s, split, x, y)
        for m, s, split, _, y in of_class(16, {"retrain": 0.0, "good": 0.0})
        for x, y in [(range(s % 2, 40 + s % 2), y)]  # index 0 and 40 belong to half the seeds
    ]
    found = table(curves(rows))
    assert number(found, "good", "klom")["n_models"] == 16
    frame = curves(rows)
    forget = frame[frame["series"] == "forget"].pivot(
        index=["method", "seed"], columns="x", values="y"
    )
    full = forget.dropna(axis=1)
    assert full.shape[1] == 39
    assert number(found, "good", "forgetting_quality")["value"] == pytest.approx(
        forgetting_quality(full.loc["good"].to_numpy(), full.loc["retrain"].to_numpy()).mean()
    )


def test_too_few_seeds_are_said_and_give_no_number():
    row = number(table(curves(of_class(3, SHIFTS))), "good", "forgetting_quality")
    assert np.isnan(row["value"])
    assert row["reason"] == "13 more seeds needed: 16 models at least"


def test_without_curves_or_retraining_there_is_nothing():
    assert table(None).empty and tuple(table(None).columns) == COLUMNS
    assert table(curves(of_class(16, {"good": 0.0}))).empty


def of_thirds(seeds, left, targets=200):
    """``left``: of the original's lead on trained examples, how much each method leaves behind."""
    rng = np.random.default_rng(1)
    level = 3 * rng.normal(size=targets)
    x = np.arange(targets) * 3
    for seed in range(seeds):
        role = roles(targets, seed).numpy()
        for method, share in left.items():
            phi = level + rng.normal(size=targets) + 2.0 * (role == 0) + 2.0 * share * (role == 2)
            for name, number_ in (("kept", 0), ("unseen", 1), ("forgotten", 2)):
                there = role == number_
                yield method, seed, f"target_{name}", x[there], phi[there]
            yield method, seed, "target_class", x, np.arange(targets) % 10


@pytest.fixture(scope="module")
def twelve():
    return table(curves(of_thirds(12, {"retrain": 0.0, "original": 1.0, "half": 0.5})))


@pytest.mark.parametrize("attack", ["lira", "student", "rmia", "loss"])
def test_retraining_is_at_chance_and_the_original_is_told(twelve, attack):
    retrain, half, original = (
        number(twelve, method, f"privacy_{attack}_auc", "targets")
        for method in ("retrain", "half", "original")
    )
    assert retrain["value"] == pytest.approx(0.5, abs=0.04)
    assert retrain["low"] <= 0.5 <= retrain["high"]
    assert original["value"] > half["value"] > retrain["value"]
    assert original["low"] > retrain["high"]
    assert (half["null_low"], half["null_high"]) == (retrain["low"], retrain["high"])


def test_every_number_is_declared(sixteen, twelve):
    assert set(sixteen["metric"]) | set(twelve["metric"]) == set(MANY)


def test_rates_have_exact_intervals_and_see_the_original(twelve):
    rate = number(twelve, "original", "privacy_lira_tpr_at_10pct", "targets")
    assert rate["low"] < rate["value"] < rate["high"] and rate["value"] > 0.5
    assert number(twelve, "retrain", "privacy_lira_tpr_at_10pct", "targets")["value"] < 0.2


def test_who_stays_is_asked_for_as_well(twelve):
    kept = number(twelve, "half", "collateral_lira_auc", "targets")
    assert kept["value"] == pytest.approx(0.5, abs=0.04)


def test_the_most_exposed_are_named_by_their_index(twelve):
    named = twelve[(twelve["method"] == "original") & (twelve["metric"] == "most_exposed")]
    assert len(named) == 10 and named["split"].str.fullmatch(r"train:\d+").all()
    assert all(int(split[6:]) % 3 == 0 for split in named["split"])
    assert named["value"].mean() > 0.9


def test_thirds_take_whole_threes_of_seeds():
    found = table(curves(of_thirds(14, {"retrain": 0.0, "original": 1.0})))
    assert set(found["n_models"]) == {12}
    few = table(curves(of_thirds(11, {"retrain": 0.0, "original": 1.0})))
    assert set(few["reason"]) == {"3 more seeds needed: 12 models at least"}
