"""Each method does on a small real task what it claims, with margin over several seeds.

The task is 300 digits and class 8 of them. Levels were chosen from seeds 0 to 4.
"""

import pytest

from .conftest import accuracies

# Parameters, highest forget accuracy, lowest retain accuracy; seen: 0.00 and 0.85-0.99,
# 0.00 and 1.00, 0.00 and 0.98, 0.00 and 0.90-0.91.
CASES = {
    "retrain": ({}, 0.0, 0.75),
    "random_label": ({"epochs": 20, "lr": 1e-3}, 0.1, 0.95),
    "gradient_ascent": ({"lr": 5e-3}, 0.1, 0.9),
    "pbu": ({"lr": 5e-4, "gamma": 1.0}, 0.1, 0.8),
}


@pytest.mark.parametrize("name", CASES)
def test_forget_accuracy_falls_while_retain_accuracy_holds(class_world, name):
    params, at_most, at_least = CASES[name]
    forget, retain = accuracies(class_world, class_world.unlearn(name, **params))
    assert forget <= at_most and retain >= at_least


def test_finetuning_perfects_the_rest_and_forgets_nothing_so_soon(class_world):
    forget, retain = accuracies(class_world, class_world.unlearn("finetune"))
    assert forget >= 0.9 and retain >= 0.98


def test_the_original_knows_what_is_to_be_forgotten(class_world):
    forget, retain = accuracies(class_world, class_world.unlearn("original"))
    assert forget > 0.9 and retain > 0.9
