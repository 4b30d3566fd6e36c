"""Each method does on a small real task what it claims, with margin over several seeds.

The task is 300 digits and class 8 of them. Levels were chosen from seeds 0 to 4, each with an
original of its own. Published step sizes are made for thousands of steps and move little in the few
that this task has, so that many are raised here.
"""

import pytest

from unlearn_bench.plugins import registry

from .conftest import accuracies

# The last block at a constant rate; the authors' cycles over three layers need more passes.
CF_K = {"unit": "blocks", "k": 1, "last_lr": 0.1, "epochs": 10, "frozen": "eval", "batch_size": 128}
FAST = {"lr": 2e-2, "batch_size": 16}
NEG_GRAD = {"alpha": 0.9, "lr": 4e-2, "batch_size": 32, "forget_batch_size": 32}
SCRUB = {"epochs": 5, "msteps": 3, "lr": 5e-3, "forget_batch_size": 8, "batch_size": 32}
UNSIR = {
    "noise_batch": 32,
    "copies": 4,
    "impair_lr": 5e-3,
    "repair_lr": 5e-3,
    "repair_epochs": 2,
    "batch_size": 32,
}
RNI = {"epochs": 4, "fine_epochs": 2, "lr": 1e-2, "last_lr": 1e-2, "batch_size": 16}
FCS = {
    "rounds": 3,
    "blur_lr": 1e-2,
    "contrast_lr": 1e-2,
    "lr": 2e-2,
    "forget_batch_size": 8,
    "batch_size": 32,
}
L2UL = {"adversarial": 5, "iterations": 50, "radius": 2.0, "adversarial_batch_size": 32}
AMUN = {"iterations": 5, "radius": 0.16, "epochs": 3, "lr": 2e-2, "batch_size": 32}

# Parameters, highest forget accuracy, lowest retain accuracy; the original has 0.96-1.00 and
# 0.97-1.00. Behind them what was seen of either.
CASES = {
    "retrain": ({}, 0.0, 0.75),  # 0.00, 0.85-0.99
    "pbu": ({}, 0.1, 0.9),
    "gradient_ascent": ({"lr": 5e-3}, 0.1, 0.9),  # 0.00, 0.98
    "neg_grad_plus": (NEG_GRAD, 0.1, 0.9),  # 0.00, 0.99-1.00
    "random_label": ({"epochs": 20, "lr": 1e-3}, 0.1, 0.95),  # 0.00, 1.00
    # On F alone with nothing that protects R: what is left of it differs widely by original.
    "boundary_shrink": ({"lr": 1e-4}, 0.4, 0.3),  # 0.00-0.28, 0.37-0.96
    "boundary_expand": ({"lr": 2e-4}, 0.2, 0.5),  # 0.00-1.00, 0.27-0.86: it depends on the original
    "delete": ({}, 0.12, 0.85),  # 0.00-0.04, 0.90-0.97
    "bad_teacher": ({"epochs": 20, "lr": 2e-3, "batch_size": 32}, 0.12, 0.85),  # 0.00, 0.93-0.98
    "scrub": (SCRUB, 0.12, 0.95),  # 0.00-0.04, 0.99-1.00
    # With the hold on R of its own defaults: 0.00-0.24, 0.99.
    "scrub_r": (SCRUB | {"gamma": 0.99, "alpha": 0.001}, 0.12, 0.95),  # 0.00, 0.99-1.00
    "salun": ({}, 0.1, 0.8),  # 0.00, 0.89-0.98
    "sfron": ({"steps": 20, "batch_size": 32}, 0.1, 0.95),  # 0.00, 1.00
    "unsir": (UNSIR, 0.1, 0.8),  # 0.00, 0.90-1.00
    "amnesiac": ({}, 0.1, 0.9),  # 0.00, 0.97-1.00
    "ssd": ({}, 0.1, 0.9),  # 0.00, 0.98
    "assd": ({}, 0.1, 0.9),  # 0.00, 0.98
    "lfssd": ({"alpha": 2, "batch_size": 1}, 0.1, 0.9),  # 0.00, 0.98
    # Most of it is the head's row, which is drawn around 0.
    "fisher_forgetting": ({}, 0.6, 0.9),  # 0.32-0.92, 0.98-1.00
    "influence": ({"alpha": 0.5, "examples": 60}, 0.1, 0.6),  # 0.00, 0.75-0.92
    "neg_merge": ({"models": 3}, 0.6, 0.88),  # 0.00-0.52, 0.91-0.98
    "damp": ({}, 0.1, 0.9),  # 0.00, 0.98
    "l1_sparse": ({"l1": 5e-4, "lr": 0.05, "batch_size": 32}, 0.1, 0.95),  # 0.00, 0.98-1.00
    "cf_k": (CF_K, 0.1, 0.95),  # 0.00, 1.00
    "eu_k": ({}, 0.1, 0.95),  # 0.00, 0.99-1.00
    # So does fine-tuning at this rate, without a radius; see its file.
    "uam": ({"rho": 5, "lr": 4e-2, "epochs": 10, "batch_size": 32}, 0.1, 0.95),  # 0.00, 1.00
    # Without retained examples these two forget at the price of other classes.
    "jit": ({"lr": 6e-4, "batch_size": 16}, 0.75, 0.7),  # 0.48-0.60, 0.84-0.85
    "mu_mis": ({"lr": 3e-3, "epochs": 8, "delta": None}, 0.85, 0.85),  # 0.52-0.72, 0.95-0.98
    "l2ul": (L2UL, 0.1, 0.85),  # 0.00, 0.93-0.99
    "amun": (AMUN, 0.1, 0.95),  # 0.00, 1.00
    "cfw": (FAST | {"epochs": 3}, 0.1, 0.95),  # 0.00, 1.00
    "ct": (FAST | {"epochs": 2}, 0.1, 0.9),  # 0.00, 0.96-0.99
    "msg": (FAST | {"epochs": 3}, 0.1, 0.95),  # 0.00, 0.98-1.00
    "rni": (RNI, 0.1, 0.95),  # 0.00, 0.99-1.00
    "prmq": ({"lr": 1e-2, "batch_size": 8}, 0.1, 0.8),  # 0.00, 0.89-0.98
    "kde": (FAST | {"warmup_lr": 1e-2}, 0.1, 0.95),  # 0.00, 0.99-1.00
    "fcs": (FCS, 0.1, 0.85),  # 0.00, 0.94-0.99
}


@pytest.mark.parametrize("name", CASES)
def test_forget_accuracy_falls_while_retain_accuracy_holds(class_world, name):
    params, at_most, at_least = CASES[name]
    forget, retain = accuracies(class_world, class_world.unlearn(name, **params))
    assert forget <= at_most and retain >= at_least


def test_the_original_knows_what_is_to_be_forgotten(class_world):
    forget, retain = accuracies(class_world, class_world.unlearn("original"))
    assert forget > 0.9 and retain > 0.9


def test_finetuning_perfects_the_rest_and_forgets_nothing_so_soon(class_world):
    forget, retain = accuracies(class_world, class_world.unlearn("finetune"))
    assert forget >= 0.9 and retain >= 0.98


def test_fisher_noise_alone_forgets_nothing_before_it_destroys_everything(class_world):
    alone = {"reset_rows": False}
    forget, retain = accuracies(class_world, class_world.unlearn("fisher_forgetting", **alone))
    assert forget >= 0.9 and retain >= 0.9
    noisy = class_world.unlearn("fisher_forgetting", alpha=1e-4, **alone)
    _, retain = accuracies(class_world, noisy)
    assert retain <= 0.6


def test_every_method_has_a_case_or_a_test_of_its_own():
    methods = {name for name, entry in registry.methods().items() if entry.kind == "method"}
    assert methods - set(CASES) == {"finetune"}
