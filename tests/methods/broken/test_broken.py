"""The conformance checks find the mistakes that published code made, each by its own check.

Where a mistake cannot be seen from outside, a test of the mechanics or the harness rules it out:

- masks that leak through weight decay and momentum: ``tests/toolkit/test_mechanics.py``;
- KL that is divided by the number of classes, attacks that clip normalised inputs: there too;
- a network that is not the one that its name says: ``tests/training/test_models.py``;
- evaluation within the method's time: ``tests/execution/test_run.py``; clocks that do not
  wait for the GPU: ``tests/measure/test_clock.py``;
- augmentation that is replayed by the splits themselves: ``tests/toolkit/test_context.py``.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from unlearn_bench.conformance import CHECKS, examine
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import Check

PLANTED = Path(__file__).with_name("planted.py")

# The check that must fail, and what it must say.
FOUND = {
    "holds_teachers_parameters": ("weights move", "does the optimiser hold this model's"),
    "teacher_is_the_student": ("weights move", "no more than rounding"),
    "adam_and_shallow_teacher": ("weights move", "of which Adam makes full steps"),
    "shallow_teacher_of_one_term": ("every parameter is read", "alpha: read nowhere"),
    "shallow_teacher_of_forgetting": ("forget data matter", "their loss has no gradient"),
    "clamped_loss": ("weights move", "has the loss a gradient"),
    "clamped_forget_term": ("forget data matter", "their loss has no gradient"),
    "unread_parameter": ("every parameter is read", "temperature: read nowhere"),
    "cancelled_parameter": ("every parameter is read", "but for rounding"),
    "more_than_speed": ("every parameter is read", "declared speed_only"),
    "unexplained_parameter": ("every parameter is explained", "epochs"),
    "warm_retrain": ("retrained from scratch", "it keeps"),
    "continued_retrain": ("retrained from scratch", "depends on the weights"),
    "never_zeroes": ("old gradients", "zero_grad"),
    "zeroes_once": ("old gradients", "zero_grad"),
    "drifting_statistics": ("BatchNorm statistics", "moved on forget data alone"),
    "realigned_and_drifting": ("BatchNorm statistics", "moved on forget data alone"),
    "other_layers": ("same architecture", "ReLU"),
    "other_network": ("same architecture", "lacks the tensor features.3"),
    "becomes_nan": ("same architecture", "NaN"),
    "remembers_importances": ("all work in its time", "other work than the first"),
    "works_on_in_a_thread": ("all work in its time", "straggler"),
    "works_when_first_asked": ("all work in its time", "after it had returned"),
    "replayed_batches": ("fresh batches", "came back as they were"),
    "always_ten_classes": ("any number of classes", ""),
    "only_convolutions": ("transformers", "features"),
    "one_class_only": ("every declared scenario", "classes: ValueError"),
    "idle_on_examples": ("every declared scenario", "random: the weights move by 0e+00"),
    "idle_without_batch_norm": ("transformers", "the weights move by 0e+00"),
    "first_class_only": ("every declared scenario", "5 does not count"),
    "alone_in_its_batch": ("batches of one", "NaN"),
    "logs_vectors": ("log", "losses"),
    "same_storage": ("storage of its own", "two runs share"),
    "trains_the_original": ("the harness's own things", "the original's"),
    "shuffles_the_indices": ("the harness's own things", "indices of forget"),
    "swallows_the_refusal": ("declared data only", "add Access.RETAIN to access="),
    "reads_undeclared": ("declared data only", "add Access.RETAIN to access="),
    "looks_at_the_rest": ("declared data only", "no declared split"),
    "looks_at_test_images": ("declared data only", "test images"),
    "declares_too_much": ("retain data matter", "never reads ctx.retain"),
    "reads_for_nothing": ("retain data matter", "read for nothing"),
    "validation_unread": ("validation data matter", "never reads ctx.validation"),
    "log_for_nothing": ("training log matters", "no effect"),
    "checkpoints_for_nothing": ("checkpoints matter", "no effect"),
    "surrogates_for_nothing": ("surrogate images matter", "no effect"),
    "first_batch_counts": ("order of the data", "depend on the order"),
    "draws_elsewhere": ("same seed, same weights", "differ"),
    "reseeds": ("other seeds", "torch"),
    "left_training": ("modes and flags", "training of"),
    "left_frozen": ("modes and flags", "requires_grad of features.0.weight"),
    "left_hooked": ("modes and flags", "hooks on"),
    "left_untracked": ("modes and flags", "track_running_stats of features.1"),
    "left_without_gradients": ("global settings", "gradients enabled"),
    "left_double": ("global settings", "default dtype"),
    "left_more_threads": ("global settings", "threads"),
    "crashes": ("it runs", "three by nought"),
}

SOUND = ("sound", "step_then_zero", "rests_in_float64", "realigned")


@pytest.fixture
def planted(own_registry):
    return registry.load_plugin(PLANTED)


@pytest.mark.parametrize("name", FOUND)
def test_a_planted_mistake_is_found_and_named(planted, name):
    check, said = FOUND[name]
    (finding,) = examine(registry.get(name), only=[check])
    assert finding.status == "failed" and said in finding.seen, finding.seen


@pytest.mark.parametrize("name", SOUND)
def test_without_a_mistake_nothing_is_found(planted, name):
    findings = list(examine(registry.get(name)))
    assert [f for f in findings if f.status == "failed"] == []
    assert sum(f.status == "passed" for f in findings) >= 19


def test_every_planted_mistake_and_every_check_is_tried(planted):
    assert set(FOUND) | set(SOUND) == set(planted)
    assert {check for check, _ in FOUND.values()} == set(CHECKS)


def test_a_declared_reason_lets_weights_rest(planted):
    resting = replace(
        registry.get("idle_without_batch_norm"), check=Check(may_rest="no BatchNorm to work on")
    )
    (finding,) = examine(resting, only=["transformers"])
    assert finding.status == "passed" and "declared: no BatchNorm to work on" in finding.seen


@pytest.mark.parametrize(
    ("forgets", "named"),
    [
        (("class", "confused"), "confused: the weights"),
        (("class", "confused", "poisoned"), "poisoned: the weights"),
        (("class", "memorised"), "memorised, as random: the weights"),
        (("class", "subclass", "group"), "subclass and group, as part: the weights"),
    ],
)
def test_a_failure_names_the_kind_of_scenario_that_was_declared(planted, forgets, named):
    idle = replace(registry.get("idle_on_examples"), forgets=forgets)
    (finding,) = examine(idle, only=["every declared scenario"])
    assert finding.status == "failed" and finding.seen.startswith(named), finding.seen


def test_a_method_for_swapped_labels_alone_is_checked_on_these(planted):
    sound = replace(registry.get("sound"), forgets=("confused",))
    (finding,) = examine(sound, only=["every declared scenario"])
    assert (finding.status, finding.seen) == ("passed", "confused")


def test_of_a_method_that_crashes_the_rest_is_not_held_against_it(planted):
    findings = {f.check: f.status for f in examine(registry.get("crashes"))}
    assert findings.pop("it runs") == "failed"
    assert "failed" not in findings.values()
