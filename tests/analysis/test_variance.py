"""The variance split against independent computations: quadratic forms, SciPy, and simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from unlearn_bench.analysis.table import sections
from unlearn_bench.analysis.variance import components, split
from unlearn_bench.results.metrics import DISTANCE
from unlearn_bench.results.records import table


def by_quadratic_forms(groups):
    """Henderson's first method with explicit projection matrices, the slow and obvious way."""
    y = np.concatenate(groups)
    sizes = [len(group) for group in groups]
    total, count = len(y), len(groups)
    z = np.zeros((total, count))
    z[np.arange(total), np.repeat(np.arange(count), sizes)] = 1
    onto_groups = z @ np.linalg.inv(z.T @ z) @ z.T
    onto_mean = np.ones((total, total)) / total
    within = y @ (np.eye(total) - onto_groups) @ y / (total - count)
    between = y @ (onto_groups - onto_mean) @ y
    # E[between] = (I - 1) unlearning + tr(Z' (P_groups - P_mean) Z) training.
    weight = np.trace(z.T @ (onto_groups - onto_mean) @ z)
    return max((between - (count - 1) * within) / weight, 0.0), within


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3, 3), (2, 2), (1, 3, 2, 5), (4, 1)])
@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_components_agree_with_quadratic_forms_to_nine_digits(sizes, spread):
    rng = np.random.default_rng(sum(sizes))
    groups = [rng.normal(spread * rng.normal(), 1.0, n) for n in sizes]
    found = components([group.tolist() for group in groups])
    training, unlearning = by_quadratic_forms(groups)
    assert found.training == pytest.approx(training, rel=1e-9, abs=1e-9)
    assert found.unlearning == pytest.approx(unlearning, rel=1e-9, abs=1e-9)
    assert (found.originals, found.unlearnings) == (len(sizes), sum(sizes))


def test_components_give_the_f_statistic_of_scipy():
    rng = np.random.default_rng(0)
    groups = [rng.normal(3 * i, 1.0, 4) for i in range(5)]
    found = components([group.tolist() for group in groups])
    f = (4 * found.training + found.unlearning) / found.unlearning
    assert f == pytest.approx(stats.f_oneway(*groups).statistic, rel=1e-9)


def test_a_hand_worked_split():
    # Means 1 and 5; within: (1 + 1 + 1 + 1) / 2 = 2; between: 2 * (4 + 4) = 16; (16 - 2) / 2 = 7.
    found = components([[0.0, 2.0], [4.0, 6.0]])
    assert (found.training, found.unlearning) == (7.0, 2.0)
    assert found.unlearning_share == pytest.approx(2 / 9)


def test_originals_that_differ_no_more_than_unlearnings_give_no_negative_variance():
    found = components([[0.0, 2.0], [0.0, 2.0]])
    assert found.training == 0 and found.unlearning_share == 1


def test_a_method_without_chance_leaves_all_variance_to_training():
    found = components([[1.0, 1.0], [3.0, 3.0]])
    assert found.unlearning == 0 and found.unlearning_share == 0
    assert components([[1.0, 1.0], [1.0, 1.0]]).unlearning_share is None


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[math.nan], [1.0, 2.0]]])
def test_one_original_or_one_unlearning_of_each_cannot_be_split(groups):
    assert components(groups) is None


def test_components_are_unbiased():
    rng = np.random.default_rng(1)
    originals = rng.normal(0, 2.0, (4000, 5, 1))
    values = originals + rng.normal(0, 1.0, (4000, 5, 3))
    found = [components(suite.tolist()) for suite in values]
    assert np.mean([c.unlearning for c in found]) == pytest.approx(1.0, rel=0.03)
    assert np.mean([c.training for c in found]) == pytest.approx(4.0, rel=0.05)


RETRAINED = {"forget_accuracy": 0.0, "retain_accuracy": 1.0}
FORGOTTEN = [[0.1, 0.3], [0.2, 0.2], [0.0, 0.6]]


@pytest.fixture
def staged(run):
    runs = [run("retrain", seed, kind="reference", **RETRAINED) for seed in range(3)]
    for seed, values in enumerate(FORGOTTEN):
        for draw, value in enumerate(values):
            made = run("pbu", seed, forget_accuracy=value, retain_accuracy=1.0)
            runs.append(replace(made, key=f"{made.key}-{draw}", draw=draw))
    (section,) = sections(table(runs))
    return section


def test_means_and_intervals_are_over_originals_and_unlearnings_add_none(staged):
    value = staged.table.value("pbu", "forget_accuracy")
    means = [np.mean(values) for values in FORGOTTEN]
    assert value.n == 3 and value.mean == pytest.approx(np.mean(means))
    half = stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / math.sqrt(3)
    assert value.half_width == pytest.approx(half, rel=1e-9)
    (row,) = staged.table.of_kind("method")
    assert row.seeds == (0, 1, 2) and row.unlearnings == 2 and staged.unlearnings == 2
    # |U - G| of every unlearning in points, halved for the two accuracies; then the mean.
    assert staged.table.value("pbu", DISTANCE).mean == pytest.approx(50 * np.mean(means))


def test_the_verdict_sees_one_model_of_each_original(staged):
    place = staged.places["forget_accuracy"]
    assert staged.runs("pbu").seeds.tolist() == [0, 1, 2]
    assert staged.runs("pbu").values[:, place].tolist() == [0.1, 0.2, 0.0]


def test_a_section_is_split_by_method_and_column(staged):
    found = split(staged, ["forget_accuracy", "retain_accuracy"])
    assert {method for method, _ in found} == {"pbu"}
    assert found["pbu", "forget_accuracy"] == components(FORGOTTEN)


def test_an_original_with_one_failed_unlearning_still_counts(run, staged):
    made = run("pbu", 0, forget_accuracy=0.1, retain_accuracy=1.0)
    failed = replace(run("pbu", 0, error="it diverged"), key="failed", draw=1)
    reference = run("retrain", kind="reference", **RETRAINED)
    (section,) = sections(table([reference, made, failed]))
    (row,) = section.table.of_kind("method")
    assert (row.seeds, row.failed) == ((0,), ())
    assert [(f.seed, f.draw) for f in section.failures] == [(0, 1)]
