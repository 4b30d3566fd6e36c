"""A method under check: its runs, each made once however many checks look at it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from typing import Any

from torch import nn

from unlearn_bench.conformance.trial import Trial, attempt
from unlearn_bench.conformance.world import RECIPE, World, digits, make_world
from unlearn_bench.core.errors import said
from unlearn_bench.plugins.method import SCOPES, Method
from unlearn_bench.suite.sharding import Sharding
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.toolkit.context import Split

FORGOTTEN = {"class": (3,), "classes": (1, 5)}
SCENARIOS = {
    "class": "class:3",
    "classes": "classes:1,5",
    "random": "random:0.1",
    "part": "class:3@0.8",  # of few examples a shuffle may come twice by chance
    "poisoned": "poisoned:0:0.1",
    "confused": "confused:3,5:0.3",
}
# To a method these are like another kind: it is handed examples of classes that are retained, of
# one or of any, or examples with wrong labels, of which a trigger is learned soonest. Where that
# kind is declared as well, or these have no world here, it stands in for them.
LIKE = {"subclass": "part", "group": "part", "memorised": "random", "confused": "poisoned"}
ANOTHER_CLASS = 4
FEWER_CLASSES = 7
# Checks ask whether, not how well: networks with one block of each kind answer soonest.
SMALL = ModelSpec(name="resnet4", args={"width": 8})
SMALL_VIT = ModelSpec(name="test_vit", args={"depth": 2, "embed_dim": 32, "patch_size": 2})
ONE_EPOCH = RECIPE.model_copy(update={"epochs": 1})


class NotApplicableError(Exception):
    """A check that says nothing about this method, with the reason."""


class FailedError(Exception):
    """A check that the method fails, with what was seen."""


class DoesNotRunError(FailedError):
    """The method cannot even be run as the check needs it."""


@cache
def small_world(scope: str, classes: int, logged: bool, sharding: Sharding | None = None) -> World:
    """Return the world in which nearly all checks run; a trained ResNet, 130 digits."""
    world = make_world(
        SCENARIOS[scope],
        data=digits(classes),
        examples=130,
        logged=logged,
        architecture=SMALL.model_copy(update={"sharding": sharding}),
        recipe=RECIPE.model_copy(update={"epochs": 12}),
    )
    return world.with_recipe(ONE_EPOCH)


@cache
def transformer_world(
    scope: str, classes: int, logged: bool, sharding: Sharding | None = None
) -> World:
    """Return a world with a small ViT, trained just a little."""
    return make_world(
        SCENARIOS[scope],
        data=digits(classes),
        examples=60,
        architecture=SMALL_VIT.model_copy(update={"sharding": sharding}),
        recipe=ONE_EPOCH,
        logged=logged,
    )


def _other_log(world: World) -> World:
    assert world.log is not None
    doubled = {name: 2 * change for name, change in world.log.change.items()}
    return replace(world, log=replace(world.log, change=doubled))


def _other_checkpoints(world: World) -> World:
    kept = {
        place: {name: 2 * t if t.is_floating_point() else t for name, t in state.items()}
        for place, state in world.kept.items()
    }
    return replace(world, kept=kept)


def _other_original(world: World) -> World:
    return replace(world, original=world.build(1))


def _other_examples(world: World, label: int) -> World:
    return world.with_others("forget", label)


def _other_class(world: World, label: int) -> World:
    return world.with_class(ANOTHER_CLASS, label)


def _ordinary(world: World) -> World:
    return world


# What a run may differ in from the ordinary one.
VARIANTS: Mapping[str, Callable[[World], World]] = {
    "": _ordinary,
    "other forget": lambda world: world.with_others("forget"),
    **{
        f"{what} {label}": partial(change, label=label)
        for label in sorted(chain.from_iterable(FORGOTTEN.values()))
        for what, change in [("other examples of", _other_examples), ("instead of", _other_class)]
    },
    "other retain": lambda world: world.with_others("retain"),
    "other validation": lambda world: world.with_others("validation"),
    "other log": _other_log,
    "other checkpoints": _other_checkpoints,
    "surrogate images": lambda world: replace(world, surrogates=0),
    "other surrogate images": lambda world: replace(world, surrogates=1),
    "other original": _other_original,
    "other order": lambda world: world.reordered(),
    "few examples": lambda world: world.reduced(8),
}


class Subject:
    """A method with the runs that checks ask for.

    Args:
        method: What is checked.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.quick = dict(method.check.quick)
        declared = [scope for scope in SCOPES if scope in method.forgets]
        self._stands_for: dict[str, list[str]] = {}
        for scope in declared:
            like = LIKE.get(scope, scope)
            own = scope in SCENARIOS and like not in declared
            self._stands_for.setdefault(scope if own else like, []).append(scope)
        self.scopes = list(self._stands_for)
        self._trials: dict[tuple[Any, ...], Trial] = {}
        self._exact: dict[tuple[str, int, bool, Sharding | None], World] = {}

    def named(self, scope: str) -> str:
        """Return the kinds that a scenario is run for, as the method declares them.

        A kind that another stands in for reads ``memorised, as random``.
        """
        kinds = self._stands_for[scope]
        return scope if scope in kinds else f"{' and '.join(kinds)}, as {scope}"

    def base(self) -> Trial:
        """Return the ordinary run: quick parameters, first declared scenario, seed 0.

        Raises:
            DoesNotRunError: If it ends in an error or without a usable model.
        """
        return self.run()

    def run(
        self, variant: str = "", params: Mapping[str, Any] | None = None, **options: Any
    ) -> Trial:
        """Return a run that must succeed; options as of :meth:`trial`.

        Raises:
            DoesNotRunError: If it ends in an error or without a usable model.
        """
        trial = self.trial(variant, params, **options)
        if not trial.usable:
            raise DoesNotRunError(told(trial))
        return trial

    def trial(
        self,
        variant: str = "",
        params: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        scope: str = "",
        classes: int = 10,
        transformer: bool = False,
        repeat: int = 0,
        poisoned: bool = False,
        exact: bool = False,
    ) -> Trial:
        """Return a run, made now or before.

        Args:
            variant: One of ``VARIANTS``.
            params: Hyper-parameters beside the quick ones.
            seed: Of the run.
            scope: The scenario; by default the first that the method declares.
            classes: How many classes the data have.
            transformer: Whether the model is a ViT.
            repeat: As of `attempt`.
            poisoned: As of `attempt`.
            exact: Whether model and images are float64.
        """
        scope = scope or self.scopes[0]
        given = self.quick | dict(params or {})
        key = (
            variant,
            json.dumps(given, sort_keys=True),
            seed,
            scope,
            classes,
            transformer,
            repeat,
            poisoned,
            exact,
        )
        if key not in self._trials:
            self._trials[key] = attempt(
                VARIANTS[variant](self._world(scope, classes, transformer, exact, given)),
                self.method,
                given,
                seed,
                repeat=repeat,
                poisoned=poisoned,
            )
        return self._trials[key]

    def _world(
        self,
        scope: str,
        classes: int,
        transformer: bool,
        exact: bool,
        params: Mapping[str, Any],
    ) -> World:
        """Return the ordinary world of a run; copies in float64 are made once for the method."""
        make = transformer_world if transformer else small_world
        sharding = self._sharding(params)
        world = make(scope, classes, self.method.access.log, sharding)
        if not exact:
            return world
        key = scope, classes, transformer, sharding
        if key not in self._exact:
            self._exact[key] = world.exactly()
        return self._exact[key]

    def measured(
        self, variant: str = "", params: Mapping[str, Any] | None = None, **options: Any
    ) -> Trial:
        """Return a run to see an effect by, in float64 if the method runs in it at all.

        A loss that is zero but for rounding has a gradient of about 1e-9 in float32, and Adam
        makes full steps of it; in float64 they vanish. A method that may rest, and does so in
        float64 alone, shows its effects in float32 only.
        """
        exact = self.trial(exact=True)
        rests = bool(self.method.check.may_rest) and exact.usable and exact.rests
        return self.trial(variant, params, exact=exact.usable and not rests, **options)

    @property
    def original(self) -> nn.Module:
        """The original that the ordinary run started from."""
        return self._ordinary.original

    @property
    def forget(self) -> Split:
        """The forget data of the ordinary run."""
        return self._ordinary.split("forget")

    @property
    def _ordinary(self) -> World:
        sharding = self._sharding(self.quick)
        return small_world(self.scopes[0], 10, self.method.access.log, sharding)

    def _sharding(self, params: Mapping[str, Any]) -> Sharding | None:
        """Return how the original is divided, if the method starts from one trained in shards."""
        if not self.method.access.checkpoints:
            return None
        given = self.method.resolve(params)
        return Sharding(shards=given["shards"], slices=given["slices"])

    def trials(self) -> list[Trial]:
        """Return all runs so far."""
        return list(self._trials.values())


def told(trial: Trial) -> str:
    """Say in one line why a run gave no usable model."""
    if trial.error is None:
        return trial.misfit
    reason = said(trial.error)
    kind = type(trial.error).__name__
    return f"{kind}: {reason}" if reason else kind
