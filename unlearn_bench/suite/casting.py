"""Who takes part in which scenario, under which recipe, and what a reader must know of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import SCOPE_NAMES
from unlearn_bench.suite.datasets import info
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import MethodSpec, RunSpec, Suite


def notes_on(suite: Suite, given: Sequence[str], own_weights: bool) -> Iterator[str]:
    """Yield what a reader must know of models that were not trained here."""
    if own_weights:
        yield (
            "Retraining follows this suite's recipe, which may differ from that of the given "
            "weights; these have probably seen the examples held out for validation as well."
        )
    if given:
        yield (
            f"{', '.join(given)} came already unlearned: the cost is unknown, and seeds vary "
            "only the retrained models that they are compared with."
        )
    for scenario in suite.scenarios:
        if scenario.forget.stream:
            yield (
                f"{scenario.forget.name} is also run as one request and in the reverse order, for "
                "comparison."
            )
    if own_weights and suite.seeds.originals > 1:
        yield (
            "All seeds start from the same given weights: seeds vary the methods and the "
            "retrained models, not the original."
        )


def surrogates_notes(suite: Suite, runs: Sequence[RunSpec]) -> Iterator[str]:
    """Say who reads the surrogate data of a suite, or that nobody does; nothing where it has none.

    Args:
        suite: Names them.
        runs: Of the suite.

    Raises:
        ConfigError: If they are the suite's own dataset.
    """
    name = suite.surrogate_data
    if name in suite.datasets:
        raise ConfigError(
            f"surrogate_data: {name} is the suite's own dataset, and its images would be access to "
            "retained data; name another dataset"
        )
    readers = dict.fromkeys(spec.label for spec in runs if spec.surrogate_data)
    if readers:
        yield f"Surrogate images are those of {name}, read without labels by {', '.join(readers)}."
    elif name is not None:
        yield f"No method of this suite reads surrogate images: {name} has no effect."


def recipe_for(recipe: Recipe, dataset: str) -> Recipe:
    """Return the recipe with the augmentation that the dataset is usually trained with."""
    if recipe.augment != "auto":
        return recipe
    known = info(dataset)
    augment = known.augment if known else "crop-flip"
    return Recipe.model_validate(recipe.model_dump() | {"augment": augment})


def left_out(spec: MethodSpec, forget: Forget, given_weights: bool) -> str:
    """Say why a method takes no part in a scenario, or nothing if it does."""
    entry = registry.get(spec.name)
    label = spec.label or spec.name
    if forget.stream and entry.access.log:
        return (
            f"{label} was left out of {forget.name}: it reads the log of the original's training, "
            "which includes examples that earlier requests removed."
        )
    if forget.stream and entry.access.checkpoints and not entry.keeps_state:
        return (
            f"{label} was left out of {forget.name}: it restarts from checkpoints of the original, "
            "which have seen examples that earlier requests removed, and it keeps no state."
        )
    if not forget.scopes <= set(entry.forgets):
        *others, last = (SCOPE_NAMES[scope] for scope in entry.forgets)
        made_for = f"{', '.join(others)} and {last}" if others else last
        return f"{label} was left out of {forget.name}: it is made for {made_for} only."
    if entry.outputs and not forget.scopes <= {"class", "classes"}:
        return (
            f"{label} was left out of {forget.name}: it hides classes, and no class is forgotten."
        )
    if entry.access.log and given_weights:
        return f"{label} was left out: the given weights come without a log of their training."
    if entry.access.checkpoints and given_weights:
        return f"{label} was left out: the given weights were not trained in shards."
    return ""


def refuse_given_original(suite: Suite, original: Path | None) -> None:
    """Refuse weights of the user's own for a scenario whose training data are changed first.

    Raises:
        ConfigError: With the scenario.
    """
    changed = next((s.forget for s in suite.scenarios if s.forget.changes_data), None)
    if original is not None and changed is not None:
        raise ConfigError(
            f"--original: {changed.name} changes the training data before the original is trained, "
            "and the given weights were trained on other data; leave out one of the two"
        )
