"""Numbers and tables as text: half-widths, signs, units, what the terminal shows."""

import pytest

from unlearn_bench.analysis.estimate import Estimate
from unlearn_bench.analysis.table import sections
from unlearn_bench.report import summary
from unlearn_bench.report.text import (
    failure_texts,
    format_value,
    overview_table,
    plus_minus,
    share,
)
from unlearn_bench.results.facts import BUILT_IN_FACTS
from unlearn_bench.results.metrics import BUILT_IN
from unlearn_bench.results.records import table

label = BUILT_IN_FACTS.label


def test_numbers_carry_their_half_width_and_sign():
    assert plus_minus(Estimate(1.25, 0.31, 3), 1) == "1.2 ± 0.3"
    assert plus_minus(Estimate(-0.5, None, 1), 1, sign=True) == "−0.5"
    assert plus_minus(Estimate(0.5, None, 1), 1, sign=True) == "+0.5"


def test_a_rounded_zero_has_no_sign():
    assert plus_minus(Estimate(-0.001, None, 1), 1, sign=True) == "0.0"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.0004, "under 0.1 % of"),
        (0.0523, "5.2 % of"),
        (0.43, "43 % of"),
        (1.0, "100 % of"),
        (1.4, "1.4 times"),
        (12.3, "12 times"),
    ],
)
def test_share_of_retraining_reads_as_prose(ratio, text):
    assert share(ratio) == text


def test_units_follow_the_metric():
    assert format_value(BUILT_IN["forget_accuracy"], Estimate(0.1234, 0.01, 3)) == "12.3 ± 1.0"
    assert format_value(BUILT_IN["mia_loss_auc"], Estimate(0.5, 0.0123, 3)) == "0.500 ± 0.012"
    assert format_value(BUILT_IN["peak_bytes"], Estimate(2.5e9, None, 1)) == "2,500 MB"
    assert format_value(BUILT_IN["wall_seconds"], Estimate(1.26, None, 1)) == "1.3 s"


def test_unknown_metrics_keep_their_name():
    assert label("user_metric (forget)") == "user_metric (forget)"
    assert label("examples_touched (retain)") == "Examples touched (retain)"


def test_terminal_table_has_a_finding_and_few_columns(folder, realistic):
    (found,) = summary(folder(realistic()))
    assert found.finding == "All 6 methods can be told apart from retraining; nearest: pbu"
    assert len(found.columns) == 6
    assert all(len(row) == 6 for row in found.rows)
    assert [row[0] for row in found.rows[:3]] == ["retrain", "original", "pbu"]
    assert found.marked == {(2, 0), (2, 1)}
    assert found.rows[-2][0] == "gradient_ascent †"
    assert found.notes == ("† lost 10 or more points of retain accuracy",)


def test_overview_marks_the_nearest_of_each_setting(run):
    accurate = {"forget_accuracy": 0.0, "retain_accuracy": 1.0}
    runs = []
    for scenario, (a, b) in {"class:1": (0.02, 0.1), "class:2": (0.5, 0.1)}.items():
        runs.append(run("retrain", kind="reference", scenario=scenario, **accurate))
        runs.append(run("a", scenario=scenario, **(accurate | {"forget_accuracy": a})))
        runs.append(run("b", scenario=scenario, **(accurate | {"forget_accuracy": b})))
    found = overview_table(sections(table(runs)), "")
    assert found.columns[:3] == ("Method", "class:1", "class:2")
    assert found.rows == (("b", "5.0", "5.0", "–"), ("a", "1.0", "25.0", "–"))
    assert found.marked == {(1, 1), (0, 2)}


def test_failures_of_one_reason_are_told_once(run):
    (section,) = sections(table([run("bad", 1, error="boom"), run("bad", 0, error="boom")]))
    assert failure_texts(section) == ("Failed: bad, seeds 0, 1: boom",)


def test_every_metric_has_a_name_in_words():
    of_one_class = {"class_drop", "forget_predicted_as"}
    unnamed = [name for name in BUILT_IN if name not in of_one_class and label(name) == name]
    assert unnamed == []


def test_a_split_is_named_in_words_and_an_unknown_column_keeps_its_name():
    assert label("bn_recovery (test_forget)") == "BatchNorm recovery (test forget)"
    assert label("my_own (test_forget)") == "my_own (test_forget)"
