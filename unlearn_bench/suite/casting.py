"""Who takes part in which scenario, under which recipe, and what a reader must know of it."""

from collections.abc import Iterator, Mapping, Sequence

from unlearn_bench.plugins import registry
from unlearn_bench.suite.datasets import info
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.spec import MethodSpec, Recipe, Suite

_SCOPE_NAMES: Mapping[str, str] = {
    "class": "one whole class",
    "classes": "several classes",
    "random": "examples of any class",
}


def notes_on(suite: Suite, given: Sequence[str], own_weights: bool) -> Iterator[str]:
    """Yield what a reader must know of models that were not trained here."""
    if own_weights:
        yield (
            "Retraining follows this suite's recipe, which may not be that of the given weights; "
            "these have probably seen the examples held out for validation as well."
        )
    if given:
        yield (
            f"{', '.join(given)} came already unlearned: the cost is unknown, and seeds vary "
            "only the retrained models to compare with."
        )
    if own_weights and suite.seeds > 1:
        yield (
            "All seeds start from the same given weights: seeds vary the methods and the "
            "retrained models, not the original."
        )


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
    kind = "random" if not forget.classes else "class" if len(forget.classes) == 1 else "classes"
    label = spec.label or spec.name
    if kind not in entry.forgets:
        made_for = " and ".join(_SCOPE_NAMES[scope] for scope in entry.forgets)
        return f"{label} was left out of {forget.name}: it is made for {made_for} only."
    if entry.outputs and kind == "random":
        return f"{label} was left out of {forget.name}: no class is forgotten that it could hide."
    if entry.access.log and given_weights:
        return f"{label} was left out: the given weights come without a log of their training."
    return ""
