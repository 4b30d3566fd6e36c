"""Each method does on a small real task what it claims, with margin over several seeds.

The task is 300 digits and class 8 of them. Levels were chosen from seeds 0 to 4, each with an
original of its own.
"""

import pytest

from .conftest import accuracies

SCRUB = {"epochs": 5, "msteps": 3, "lr": 5e-3, "forget_batch_size": 8, "batch_size": 32}
UNSIR = {"noise_batch": 32, "copies": 4, "impair_lr": 5e-3, "repair_lr": 5e-3,
         "repair_epochs": 2, "batch_size": 32}  # fmt: skip

# Parameters, highest forget accuracy, lowest retain accuracy; the original has 0.96-1.00 and
# 0.97-1.00. Seen:
CASES = {
    "neg_grad_plus": ({"epochs": 5, "alpha": 0.9}, 0.1, 0.8),  # 0.00, 0.87-1.00
    "delete": ({}, 0.12, 0.85),  # 0.00-0.04, 0.90-0.97
    "bad_teacher": ({"epochs": 20, "lr": 2e-3, "batch_size": 32}, 0.12, 0.85),  # 0.00, 0.93-0.98
    "scrub": (SCRUB, 0.12, 0.95),  # 0.00-0.04, 0.99-1.00
    "scrub_r": (SCRUB, 0.12, 0.95),  # 0.00, 0.99-1.00
    "salun": ({}, 0.1, 0.8),  # 0.00, 0.89-0.98
    "unsir": (UNSIR, 0.1, 0.8),  # 0.00, 0.90-1.00
    "amnesiac": ({}, 0.1, 0.9),  # 0.00, 0.97-1.00
    # On F alone with nothing that protects R: what is left of it differs widely by original.
    "boundary_shrink": ({"lr": 1e-4}, 0.4, 0.3),  # 0.00-0.28, 0.37-0.96
    "boundary_expand": ({"lr": 1e-4}, 0.2, 0.6),  # 0.00-0.12, 0.70-0.94
}


@pytest.mark.parametrize("name", CASES)
def test_forget_accuracy_falls_while_retain_accuracy_holds(class_world, name):
    params, at_most, at_least = CASES[name]
    forget, retain = accuracies(class_world, class_world.unlearn(name, **params))
    assert forget <= at_most and retain >= at_least
