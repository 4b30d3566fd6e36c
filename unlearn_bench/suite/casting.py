"""Who takes part in which scenario, under which recipe, and what a reader must know of it."""

from collections.abc import Iterator, Mapping, Sequence

from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import Scope
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
            f"{', '.join(given)} came unlearned: what that cost is not known, and seeds vary only "
            "the retrained models to compare with."
        )
    for scenario in suite.scenarios:
        if scenario.forget.stream:
            yield (
                f"{scenario.forget.name} is also run as one request and in the reverse order, to "
                "compare with."
            )
    if own_weights and suite.seeds.originals > 1:
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


def _scopes(forget: Forget) -> list[Scope]:
    """Return what kinds of scenario a method meets: of a stream, each request's."""
    found: list[Scope] = []
    for request in forget.requests:
        few = "class" if len(request.classes) == 1 else "classes"
        found.append(few if request.classes else "random")
    if forget.union:
        return ["classes" if "random" not in found else "random"]
    return found


def left_out(spec: MethodSpec, forget: Forget, given_weights: bool) -> str:
    """Say why a method takes no part in a scenario, or nothing if it does."""
    entry = registry.get(spec.name)
    kinds = _scopes(forget)
    label = spec.label or spec.name
    if forget.stream and entry.access.log:
        return (
            f"{label} was left out of {forget.name}: it reads the log of the original's training, "
            "which tells of examples that have gone."
        )
    if not set(kinds) <= set(entry.forgets):
        made_for = " and ".join(_SCOPE_NAMES[scope] for scope in entry.forgets)
        return f"{label} was left out of {forget.name}: it is made for {made_for} only."
    if entry.outputs and "random" in kinds:
        return f"{label} was left out of {forget.name}: no class is forgotten that it could hide."
    if entry.access.log and given_weights:
        return f"{label} was left out: the given weights come without a log of their training."
    return ""
