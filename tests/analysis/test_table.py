"""The table of a setting: distances to retraining, ties, the order of rows."""

from dataclasses import replace

import pytest

from unlearn_bench.analysis.table import sections
from unlearn_bench.results.metrics import DISTANCE
from unlearn_bench.results.ratios import with_time_ratios
from unlearn_bench.results.records import Record, table

ACCURATE = {
    "forget_accuracy": 0.0,
    "retain_accuracy": 1.0,
    "test_forget_accuracy": 0.0,
    "test_retain_accuracy": 0.9,
}


def only(runs):
    (section,) = sections(with_time_ratios(table(runs)))
    return section


def retrain(run, seed=0, **changes):
    return run("retrain", seed, kind="reference", **(ACCURATE | changes))


def test_distance_is_the_mean_absolute_gap_in_points_paired_by_seed(run):
    # Seed 0: (4 + 2 + 0 + 6) / 4 = 3 points. Seed 1, against its own retraining: (8+0+0+0)/4 = 2.
    section = only(
        [
            retrain(run),
            retrain(run, 1, retain_accuracy=0.8),
            run(
                "pbu",
                0,
                forget_accuracy=0.04,
                retain_accuracy=0.98,
                test_forget_accuracy=0.0,
                test_retain_accuracy=0.96,
            ),
            run(
                "pbu",
                1,
                forget_accuracy=0.08,
                retain_accuracy=0.8,
                test_forget_accuracy=0.0,
                test_retain_accuracy=0.9,
            ),
        ]
    )
    distance = section.table.value("pbu", DISTANCE)
    assert list(section.values.loc["pbu", DISTANCE]) == pytest.approx([3.0, 2.0])
    assert distance.mean == pytest.approx(2.5)
    # s = 0.70711, standard error 0.5, t(0.975, 1) = 12.7062.
    assert distance.half_width == pytest.approx(6.3531, abs=1e-3)
    assert section.table.gap("pbu", "retain_accuracy").mean == pytest.approx(-0.01)


def test_spread_is_the_mean_distance_between_retrainings(run):
    # Pairs differ by 4, 8 and 4 points in one of four accuracies: (1 + 2 + 1) / 3.
    runs = [retrain(run, seed, retain_accuracy=1.0 - 0.04 * seed) for seed in range(3)]
    assert only(runs).spread == pytest.approx(4 / 3)
    assert only(runs[:1]).spread is None


def test_distance_uses_only_what_was_measured_for_retraining(run):
    section = only(
        [
            run("retrain", kind="reference", forget_accuracy=0.0, retain_accuracy=1.0),
            run("pbu", **ACCURATE),
            run("half", forget_accuracy=0.0),
        ]
    )
    assert section.compared == ("forget_accuracy", "retain_accuracy")
    assert section.table.value("pbu", DISTANCE).mean == 0
    assert [row.method for row in section.ranking] == ["pbu"], "half lacks an accuracy"


def test_rows_go_reference_control_methods_by_distance_failed_last(run):
    section = only(
        [
            run("far", **(ACCURATE | {"forget_accuracy": 0.5})),
            run("broken", error="boom"),
            run("near", **(ACCURATE | {"forget_accuracy": 0.1})),
            run("original", kind="control", **(ACCURATE | {"forget_accuracy": 1.0})),
            retrain(run),
        ]
    )
    names = [row.method for row in section.table.rows]
    assert names == ["retrain", "original", "near", "far", "broken"]


def test_below_eight_seeds_a_method_is_tied_unless_farther_in_every_seed(run):
    runs = [retrain(run, seed) for seed in range(3)]
    for seed, (close, crossing, apart) in enumerate([(4, 2, 8), (4, 12, 8), (4, 12, 8)]):
        for name, points in (("close", close), ("crossing", crossing), ("apart", apart)):
            runs.append(run(name, seed, **(ACCURATE | {"forget_accuracy": points / 100})))
    section = only(runs)
    assert section.ranking[0].method == "close"
    assert section.tied == ("crossing",)


def test_from_eight_seeds_a_test_decides_and_one_crossing_is_no_tie(run):
    runs = [retrain(run, seed) for seed in range(8)]
    for seed in range(8):
        runs.append(run("near", seed, **(ACCURATE | {"forget_accuracy": 0.04})))
        apart = 0.03 if seed == 0 else 0.2 + 0.01 * seed
        runs.append(run("apart", seed, **(ACCURATE | {"forget_accuracy": apart})))
        noisy = 0.01 if seed % 2 else 0.12
        runs.append(run("noisy", seed, **(ACCURATE | {"forget_accuracy": noisy})))
    assert only(runs).tied == ("noisy",)


def test_single_seed_ties_only_what_prints_alike(run):
    runs = [retrain(run)] + [
        run(name, **(ACCURATE | {"forget_accuracy": value}))
        for name, value in (("a", 0.04), ("b", 0.0401), ("c", 0.05))
    ]
    assert only(runs).tied == ("b",)


def test_loss_of_retain_accuracy_is_flagged_on_train_or_test(run):
    section = only(
        [
            retrain(run),
            run("ruined", **(ACCURATE | {"test_retain_accuracy": 0.6})),
            run("slight", **(ACCURATE | {"retain_accuracy": 0.95})),
        ]
    )
    damage = {row.method: row.damage for row in section.table.rows}
    assert damage == {"retrain": None, "slight": None, "ruined": pytest.approx(30.0)}


def test_without_retraining_loss_is_judged_against_the_original(run):
    section = only(
        [
            run("original", kind="control", **ACCURATE),
            run("ruined", **(ACCURATE | {"retain_accuracy": 0.5})),
        ]
    )
    assert section.reference is None and section.ranking == ()
    assert section.table.of_kind("method")[0].damage == pytest.approx(50.0)


def test_failed_and_unresolved_values_never_enter_a_mean(run):
    attack = Record("mia_loss_tpr_at_1pct", "forget", None, status="unresolved")
    section = only(
        [
            retrain(run),
            retrain(run, 1),
            run("pbu", 0, records=(attack,), **ACCURATE),
            run("pbu", 1, error="RuntimeError: out of memory"),
        ]
    )
    (row,) = section.table.of_kind("method")
    assert (row.seeds, row.failed) == ((0,), (1,))
    assert section.table.value("pbu", DISTANCE).n == 1
    assert section.table.value("pbu", "mia_loss_tpr_at_1pct") is None
    assert ("pbu", "mia_loss_tpr_at_1pct") in section.unresolved
    assert section.failures[0].reason == "RuntimeError: out of memory"


def test_metric_of_several_splits_gets_a_column_each(run):
    touched = (
        Record("examples_touched", "forget", 10.0),
        Record("examples_touched", "retain", 20.0),
    )
    section = only([run("pbu", records=touched, wall_seconds=1.0)])
    assert section.table.value("pbu", "examples_touched (retain)").mean == 20
    assert section.table.value("pbu", "wall_seconds").mean == 1


def test_sections_split_by_dataset_model_and_scenario_in_order(run):
    runs = [run("pbu", scenario=name, **ACCURATE) for name in ("random:0.1", "class:2")]
    runs.append(run("pbu", dataset="cifar10", **ACCURATE))
    found = sections(table(runs))
    assert [(s.dataset, s.scenario) for s in found] == [
        ("digits", "random:0.1"),
        ("digits", "class:2"),
        ("cifar10", "class:8"),
    ]


def test_power_is_the_paired_difference_of_original_and_retrain(run):
    runs = []
    for seed, (original, reference) in enumerate([(0.6, 0.5), (0.7, 0.5)]):
        runs.append(retrain(run, seed, mia_loss_auc=reference))
        runs.append(run("original", seed, kind="control", mia_loss_auc=original, **ACCURATE))
    assert only(runs).power.mean == pytest.approx(0.15)


def test_a_gap_is_as_sure_as_seeds_and_paired_examples_make_it(run):
    def measured(method, seed, value, error, **more):
        result = run(method, seed, **more)
        return replace(
            result,
            records=(Record("forget_accuracy", "forget", value, value, value, gap_error=error),),
        )

    one = [
        measured("retrain", 0, 0.1, 0.0, kind="reference"),
        measured("pbu", 0, 0.3, 0.05),
        measured("ssd", 0, 0.3, None),
    ]
    gaps = only(one).table
    assert gaps.gap("pbu", "forget_accuracy").half_width == pytest.approx(1.96 * 0.05, abs=1e-4)
    assert gaps.gap("ssd", "forget_accuracy").half_width is None
    assert gaps.value("pbu", "forget_accuracy").half_width is None
    two = [
        *one,
        measured("retrain", 1, 0.1, 0.0, kind="reference"),
        measured("pbu", 1, 0.5, 0.05),
    ]
    # Gaps 0.2 and 0.4: s = 0.1414, e = 0.05, standard error sqrt((0.02 + 0.0025) / 2).
    found = only(two).table.gap("pbu", "forget_accuracy")
    assert found.half_width == pytest.approx(12.7062 * (0.0225 / 2) ** 0.5, abs=1e-3)
