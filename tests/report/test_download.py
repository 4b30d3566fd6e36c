"""The table of all methods as CSV: the numbers of the page, in the page's units."""

import csv
import io

import pytest

from unlearn_bench.report.download import methods_csv
from unlearn_bench.report.provenance import read_report
from unlearn_bench.results.metrics import DISTANCE, TIME_RATIO

COLUMNS = (DISTANCE, TIME_RATIO, "wall_seconds", "forget_accuracy", "mia_loss_auc")


@pytest.fixture
def lines(folder):
    """Return a function that gives the file's lines as dictionaries."""

    def read(runs, **suite):
        report = read_report(folder(runs, **suite))
        return list(csv.DictReader(io.StringIO(methods_csv(report, COLUMNS))))

    return read


def of(lines, method):
    (found,) = [line for line in lines if line["Method"] == method]
    return found


def two_seeds(run):
    return [
        run(method, seed, kind=kind, forget_accuracy=forget + 0.02 * seed, wall_seconds=seconds)
        for method, kind, forget, seconds in (
            ("retrain", "reference", 0.0, 8.0),
            ("pbu", "method", 0.1, 2.0),
        )
        for seed in (0, 1)
    ]


def test_numbers_are_in_the_units_that_the_head_names(lines, run):
    pbu = of(lines(two_seeds(run)), "pbu")
    assert float(pbu["Distance to retraining, points"]) == pytest.approx(10)
    assert float(pbu["Time, % of retraining"]) == pytest.approx(25)
    assert float(pbu["Wall time, s"]) == pytest.approx(2)
    assert float(pbu["Forget accuracy, %"]) == pytest.approx(11)


def test_each_quantity_comes_with_interval_gap_and_n(lines, run):
    pbu = of(lines(two_seeds(run)), "pbu")
    # Two seeds 2 points apart: s / sqrt(2) = 1, and t(0.975, 1) = 12.706.
    assert float(pbu["Forget accuracy, half-width"]) == pytest.approx(12.7062, rel=1e-4)
    assert float(pbu["Forget accuracy, gap"]) == pytest.approx(10)
    assert float(pbu["Forget accuracy, gap half-width"]) == pytest.approx(0, abs=1e-9)
    assert (pbu["Forget accuracy, n"], pbu["Seeds"], pbu["Failed seeds"]) == ("2", "2", "0")


def test_what_was_not_measured_is_empty(lines, run):
    runs = [*two_seeds(run), run("ssd", 0, error="MethodError: NaN weights")]
    failed, retrain = of(lines(runs), "ssd"), of(lines(runs), "retrain")
    assert failed["Forget accuracy, %"] == failed["Forget accuracy, n"] == failed["Verdict"] == ""
    assert failed["Failed seeds"] == "1"
    assert retrain["Verdict"] == retrain["Forget accuracy, gap"] == ""


def test_verdict_and_setting_are_words_and_no_keys(lines, realistic):
    found = lines(realistic(3, ("class:8", "random:0.1")))
    assert {line["Scenario"] for line in found} == {"class:8", "random:0.1"}
    words = {line["Verdict"] for line in found if line["Kind"] == "method"}
    assert words and all(word.startswith(("apart by", "not told apart")) for word in words)
