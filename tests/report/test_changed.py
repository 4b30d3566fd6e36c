"""Pictures of changed training data in the report."""

import json

import numpy as np
import pytest

from unlearn_bench.report import write_report
from unlearn_bench.report.figures import changed
from unlearn_bench.results.examples import SHOWN, Example, read_examples
from unlearn_bench.results.facts import facts_of

GREY = Example("3", "0", (1, 2, 3), bytes([0, 0, 255, 0, 255, 255]))


def stored(*examples: Example, scenario: str = "poisoned:0:0.02") -> dict:
    kept = [example.stored() for example in examples]
    return {"changed_examples": [{"dataset": "digits", "scenario": scenario, "examples": kept}]}


def test_examples_survive_being_stored() -> None:
    found = facts_of(json.loads(json.dumps(stored(GREY)))).examples
    assert found == {("digits", "poisoned:0:0.02"): (GREY,)}


@pytest.mark.parametrize(
    "broken",
    [
        {"shape": [1, 2, 2]},
        {"shape": [4, 1, 1]},
        {"shape": [1, 10_000, 10_000]},
        {"pixels": "no base64!"},
        {"pixels": 3},
        {"shape": None},
    ],
)
def test_damaged_examples_are_left_out(broken) -> None:
    damaged = stored(GREY)
    damaged["changed_examples"][0]["examples"][0] |= broken
    assert read_examples(damaged["changed_examples"]) == {}
    assert read_examples("nonsense") == {}


def test_equal_neighbours_in_a_row_are_one_rectangle() -> None:
    colours = np.broadcast_to(np.array([[0, 0, 9], [0, 9, 9]])[..., None], (2, 3, 3))
    runs = changed._runs(colours)
    assert runs == {(0, 0, 0): [(0, 0, 2), (1, 0, 1)], (9, 9, 9): [(0, 2, 3), (1, 1, 3)]}


def test_the_report_shows_what_was_changed(folder, run) -> None:
    scenario = "poisoned:0:0.02"
    runs = [
        run(name, kind=kind, scenario=scenario, forget_accuracy=0.5, test_retain_accuracy=0.9)
        for name, kind in (("retrain", "reference"), ("finetune", "method"))
    ]
    place = folder(runs, **stored(*[GREY] * (SHOWN + 2)))
    page = write_report(place).read_text()
    assert "training examples as the scenario changed them" in page
    assert f"{SHOWN} examples of F under the first seed" in page
    svg = (place / "figures" / "changed.svg").read_text()
    assert svg.count("3 → 0") >= SHOWN and "<image" not in svg


def test_scenarios_that_change_nothing_have_no_such_figure(folder, run) -> None:
    place = folder([run("retrain", kind="reference", forget_accuracy=0.5)], **stored(GREY))
    assert "as the scenario changed them" not in write_report(place).read_text()
