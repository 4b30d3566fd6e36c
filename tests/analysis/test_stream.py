"""Reversal, erosion and cost of a stream, against numbers worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from unlearn_bench.analysis.stream import slope, streams
from unlearn_bench.analysis.table import sections
from unlearn_bench.results.records import Record, table

STREAM = "stream:class:1;class:4;random:0.1"
PLACE = ("digits", "resnet18", STREAM)
BACKWARD = "stream:random:0.1;class:4;class:1"

# Accuracy on F_1, F_2, F_3 after request 1, 2 and 3; then retain accuracy and seconds.
RETRAINED = ([(0.0,), (0.1, 0.0), (0.05, 0.2, 0.9)], (1.0, 1.0, 0.98), (8.0, 7.0, 6.0))
UNLEARNED = ([(0.1,), (0.5, 0.2), (0.3, 0.3, 0.9)], (0.99, 0.96, 0.90), (2.0, 3.0, 4.0))


def runs_of(run, method, numbers, kind="method", seed=0, draw=0, scenario=STREAM):
    forgotten, retained, seconds = numbers
    made = []
    for k, values in enumerate(forgotten, 1):
        records = [
            Record("earlier_forget_accuracy", f"request {j}", value)
            for j, value in enumerate(values[:-1], 1)
        ]
        records.append(Record("all_forget_accuracy", "forget", float(np.mean(values))))
        if k == len(forgotten):
            records.append(Record("relearn_time_first", "test_forget", 7.0))
        one = run(
            method,
            seed,
            kind=kind,
            scenario=scenario,
            forget_accuracy=values[-1],
            retain_accuracy=retained[k - 1],
            test_retain_accuracy=retained[k - 1] / 2,
            wall_seconds=seconds[k - 1],
            records=tuple(records),
        )
        made.append(replace(one, key=f"{one.key}-{k}-{draw}", request=k, draw=draw))
    return made


@pytest.fixture
def both(run):
    return [
        *runs_of(run, "retrain", RETRAINED, kind="reference"),
        *runs_of(run, "salun", UNLEARNED),
    ]


def test_what_came_back_is_net_of_retraining(both):
    stream = streams(table(both))[PLACE]
    expected = [[0.1, 0.4, 0.25], [np.nan, 0.2, 0.1], [np.nan, np.nan, 0.0]]
    np.testing.assert_allclose(stream.came_back("salun")[:, :, 0], expected, atol=1e-12)
    assert stream.requests == ("class:1", "class:4", "random:0.1")
    assert stream.methods == {"retrain": "reference", "salun": "method"}


def test_reversal_is_the_largest_rise_beyond_that_of_retraining(both):
    # F_1 rises by 0.4 after request 2, of which retraining has 0.1: 0.3. F_2 rises by 0.1, and
    # retraining by 0.2: nothing.
    assert streams(table(both))[PLACE].reversal("salun").mean == pytest.approx(0.3)


def test_a_model_that_stays_as_it_is_gets_nothing_back(run):
    falling = ([(0.9,), (0.5, 0.0), (0.3, 0.0, 0.9)], RETRAINED[1], RETRAINED[2])
    same = ([(1.0,), (1.0, 1.0), (1.0, 1.0, 1.0)], (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    runs = runs_of(run, "retrain", falling, kind="reference") + runs_of(run, "stay", same)
    assert streams(table(runs))[PLACE].reversal("stay").mean == 0


def test_erosion_is_what_retain_accuracy_loses_with_each_request(both):
    stream = streams(table(both))[PLACE]
    # Gaps -0.01, -0.04, -0.08: the line falls by 0.035 a request.
    assert stream.erosion("salun").mean == pytest.approx(0.035)
    assert stream.erosion("salun", "test_retain_accuracy").mean == pytest.approx(0.0175)
    assert stream.erosion("retrain").mean == pytest.approx(0)


def test_the_slope_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 4))
    expected = np.polyfit(np.arange(1, 7), values, 1)[0]
    np.testing.assert_allclose(slope(values), expected, rtol=1e-9)
    assert np.isnan(slope(np.array([[1.0], [np.nan], [3.0]]))).all()


def test_cost_is_of_all_requests_and_compared_with_each_and_with_one_retraining(both):
    stream = streams(table(both))[PLACE]
    assert stream.cumulative_ratio("salun").mean == pytest.approx(9 / 21)
    assert stream.seconds("salun")[:, 0].tolist() == [2.0, 5.0, 9.0]
    # One retraining takes 8, 7 and 6 seconds: 2 and 5 are less, 9 is more.
    assert stream.dearer_from("salun") == 3
    assert stream.relearning("salun").mean == 7


def test_the_batch_gap_compares_with_the_same_requests_at_once(run, both):
    union = "union:class:1;class:4;random:0.1"
    runs = [
        *both,
        run("retrain", kind="reference", scenario=union, forget_accuracy=0.4, retain_accuracy=0.98,
            test_retain_accuracy=0.9),
        run("salun", scenario=union, forget_accuracy=0.5, retain_accuracy=0.97,
            test_retain_accuracy=0.88),
    ]  # fmt: skip
    # In turn: all forgotten 0.5 against 1.15 / 3, retain 0.90 against 0.98, test half.
    in_turn = (abs(0.5 - 1.15 / 3) + 0.08 + 0.04) / 3
    at_once = (0.1 + 0.01 + 0.02) / 3
    gap = streams(table(runs))[PLACE].batch_gap("salun")
    assert gap.mean == pytest.approx(in_turn - at_once)
    assert streams(table(both))[PLACE].batch_gap("salun") is None


def test_the_other_order_is_found_by_its_name(run, both):
    other = runs_of(run, "retrain", RETRAINED, kind="reference", scenario=BACKWARD)
    found = streams(table(both + other))
    assert found[PLACE].reverse.requests == ("random:0.1", "class:4", "class:1")
    assert found[*PLACE[:2], BACKWARD].reverse.requests == found[PLACE].requests
    assert streams(table(both))[PLACE].reverse is None


def test_intervals_are_over_originals_and_unlearnings_are_averaged(run, both):
    more = runs_of(run, "retrain", RETRAINED, kind="reference", seed=1)
    for seed, draw, first in ((0, 1, 0.2), (1, 0, 0.3), (1, 1, 0.4)):
        changed = ([(0.1,), (0.1 + first, 0.0), (0.1, 0.0, 0.9)], UNLEARNED[1], UNLEARNED[2])
        more += runs_of(run, "salun", changed, seed=seed, draw=draw)
    found = streams(table(both + more))[PLACE].reversal("salun")
    # Beyond retraining's 0.1: 0.3 and 0.1 under seed 0, 0.2 and 0.3 under seed 1.
    assert found.n == 2 and found.mean == pytest.approx((0.2 + 0.25) / 2)


def test_a_stream_that_is_not_finished_has_no_figure_over_all_of_it(both):
    stream = streams(table([r for r in both if (r.method, r.request) != ("salun", 3)]))[PLACE]
    assert stream.reversal("salun") is stream.erosion("salun") is None
    assert stream.cumulative_ratio("salun") is None
    assert stream.came_back("salun")[0, 1, 0] == pytest.approx(0.4)


def test_the_first_tables_are_of_the_last_request(both):
    (section,) = sections(table(both))
    assert section.table.value("salun", "retain_accuracy").mean == pytest.approx(0.90)
    assert section.table.value("salun", "forget_accuracy").mean == pytest.approx(0.9)


def test_a_scenario_of_one_request_is_no_stream(run):
    runs = [run("retrain", kind="reference", forget_accuracy=0.0)]
    assert streams(table(runs)) == {}
