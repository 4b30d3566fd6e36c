"""Drops by class, and where the forget class went, on outputs that can be counted by hand."""

from dataclasses import replace

import pytest
import torch

from unlearn_bench.measure.metrics.damage import damage, destinations, near_classes
from unlearn_bench.measure.metrics.tug_of_war import tug_of_war
from unlearn_bench.measure.outputs import Evaluation, Observed, Outputs

CLASSES = ("cat", "dog", "fox", "owl")


def part(split, labels, predicted):
    logits = torch.eye(4, dtype=torch.float64)[torch.tensor(predicted)]
    return Outputs(split, logits, torch.tensor(labels))


def seen(test_retain, forget=(2, 2, 2, 2)):
    return Observed(
        {
            "forget": part("forget", [2, 2, 2, 2], list(forget)),
            "retain": part("retain", [0, 1, 3], [0, 1, 3]),
            "test_forget": part("test_forget", [2, 2], [2, 2]),
            "test_retain": part("test_retain", [0, 0, 1, 1, 3, 3], test_retain),
        }
    )


@pytest.fixture
def counted():
    u = seen([0, 0, 3, 0, 3, 0], forget=[1, 1, 0, 2])  # cat 2/2, dog 0/2, owl 1/2
    g = seen([0, 1, 1, 1, 3, 3], forget=[1, 1, 1, 1])  # cat 1/2, dog 2/2, owl 2/2
    return Evaluation(u, seen([0, 0, 1, 1, 3, 3]), g, CLASSES, forget_classes=(2,))


def values(evaluation):
    return {(r.metric, r.split): r.value for r in damage(evaluation)}


def test_drops_are_paired_with_retraining_by_class(counted):
    found = values(counted)
    assert found["class_drop", "cat"] == -0.5
    assert found["class_drop", "dog"] == 1.0
    assert found["class_drop", "owl"] == 0.5
    assert found["worst_class_drop", "test_retain"] == 1.0
    assert ("class_drop", "fox") not in found


def test_near_classes_are_those_that_the_original_confuses_with_the_forgotten(counted):
    logits = torch.tensor([[0.0, 1.0, 9.0, 3.0], [0.5, 1.0, 9.0, 3.0]], dtype=torch.float64)
    original = Observed({"test_forget": Outputs("test_forget", logits, torch.tensor([2, 2]))})
    other = replace(counted, original=original)
    assert near_classes(other) == [3, 1]
    assert values(other)["near_class_drop", "test_retain"] == 1.0
    # Were only cat and owl near, dog's loss would not count.
    near = Observed(
        {"test_forget": Outputs("test_forget", logits[:, [1, 0, 2, 3]], torch.tensor([2, 2]))}
    )
    assert values(replace(counted, original=near))["near_class_drop", "test_retain"] == 0.5


def test_a_class_that_an_earlier_request_took_is_not_near(counted):
    logits = torch.tensor([[0.0, 1.0, 9.0, 3.0]], dtype=torch.float64)
    original = Observed({"test_forget": Outputs("test_forget", logits, torch.tensor([2]))})
    left = {"test_retain": part("test_retain", [0, 0, 1, 1], [0, 0, 3, 0])}  # owl is gone
    retrained = {"test_retain": part("test_retain", [0, 0, 1, 1], [0, 1, 1, 1])}
    here = replace(
        counted, unlearned=Observed(left), original=original, retrained=Observed(retrained)
    )
    assert near_classes(here) == [1, 0]
    assert values(here)["near_class_drop", "test_retain"] == 1.0


def test_where_no_class_is_forgotten_none_is_near(counted):
    records = {r.metric: r for r in damage(replace(counted, forget_classes=()))}
    assert records["near_class_drop"].status == "not_applicable"


def test_destinations_sum_to_one(counted):
    shares = {r.split: r.value for r in destinations(counted)}
    assert shares == {"cat": 0.25, "dog": 0.5, "fox": 0.25, "owl": 0.0}


def test_tug_of_war_multiplies_the_agreements(counted):
    (record,) = tug_of_war(counted)
    # F: 1/4 against 0; R: equal; TR: 3/6 against 5/6
    assert record.value == pytest.approx(0.75 * 1 * (1 - 2 / 6))
