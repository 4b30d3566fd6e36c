"""Seeds in two stages: how they are written, and what runs how often."""

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.suite.config import Overrides, expand, resolve_suite
from unlearn_bench.suite.seeds import Seeds
from unlearn_bench.suite.spec import Suite

BASE: dict[str, Any] = {
    "name": "s",
    "datasets": "digits",
    "models": "resnet4",
    "scenarios": "class:8",
    "methods": ["finetune"],
}


def asked(**flags: Any) -> Suite:
    """Return the digits suite with one method and one scenario."""
    return resolve_suite("digits", Overrides(methods="finetune", forget=["class:8"], **flags))


@pytest.mark.parametrize(
    ("written", "originals", "unlearning"),
    [
        (5, 5, 1),
        ("5", 5, 1),
        ("5x3", 5, 3),
        ({"originals": 5, "unlearning": 3}, 5, 3),
        ({"unlearning": 3}, 1, 3),
    ],
)
def test_both_stages_are_read_from_a_number_a_text_or_a_mapping(
    written: Any, originals: int, unlearning: int
) -> None:
    seeds = Suite.model_validate(BASE | {"seeds": written}).seeds
    assert (seeds.originals, seeds.unlearning) == (originals, unlearning)
    assert Seeds.model_validate(seeds.model_dump()) == seeds


def test_a_single_stage_is_stored_as_the_number_that_older_folders_hold() -> None:
    stored = Suite.model_validate(BASE | {"seeds": 5}).model_dump(mode="json")
    assert stored["seeds"] == 5
    staged = Suite.model_validate(BASE | {"seeds": "5x3"}).model_dump(mode="json")
    assert staged["seeds"] == {"originals": 5, "unlearning": 3}


@pytest.mark.parametrize("written", ["5x", "x3", "5x3x2", "5 by 3", "", "0x3", "5x0", True, -1])
def test_what_says_no_number_of_seeds_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        Suite.model_validate(BASE | {"seeds": written})


def test_a_wrong_flag_is_one_line_that_shows_how_to_write_it() -> None:
    with pytest.raises(ConfigError, match=r"^--seeds 5y3: give a number .* such as 5x3$"):
        resolve_suite("digits", Overrides(seeds="5y3"))


def test_methods_unlearn_several_times_from_each_original_and_retraining_runs_once() -> None:
    suite = asked(seeds="2x3", references=2)
    plan = expand(suite, device="cpu")
    times = Counter((run.method, run.seed) for run in plan.runs)
    assert times["finetune", 0] == times["finetune", 1] == 3
    assert times["retrain", 0] == times["retrain_other_seed", 1] == times["original", 0] == 1
    drawn = [(run.label, run.draw) for run in plan.runs if run.method == "finetune"]
    assert sorted(set(drawn)) == [("finetune", 0), ("finetune", 1), ("finetune", 2)]
    # All start from the same original.
    own = [run.training_identity() for run in plan.runs if run.seed == 1]
    assert all(identity == own[0] for identity in own)


def test_further_references_are_no_unlearnings() -> None:
    suite = asked(seeds="1x2", references=3)
    labels = [run.label for run in expand(suite, device="cpu").runs]
    assert labels.count("retrain_other_seed") == labels.count("retrain_other_seed-2") == 1
    assert labels.count("finetune") == 2


def test_unlearnings_count_towards_the_most_runs() -> None:
    suite = Suite.model_validate(BASE | {"seeds": "1000x1000"})
    with pytest.raises(ConfigError, match="asks for .* runs, more than the limit of 100,000"):
        expand(suite, device="cpu")
