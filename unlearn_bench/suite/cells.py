"""The runs that a suite asks for: every method in every place, as often as it runs there."""

from collections.abc import Iterator, Sequence
from itertools import product

from pydantic import ValidationError

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.plugins import registry
from unlearn_bench.suite.casting import recipe_for
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.sharding import Sharding, companion
from unlearn_bench.suite.spec import OTHER_RETRAIN, MethodSpec, RunSpec, Scenario, Suite

# More are neither run nor reported in any bearable time.
MAX_RUNS = 100_000
# What an ensemble trained in shards is compared with: its own retraining, and itself as it was.
COMPANIONS = ("retrain", "original")


def cells(
    suite: Suite, specs: Sequence[MethodSpec]
) -> Iterator[tuple[RunSpec, Scenario, MethodSpec]]:
    """Yield every run that a suite asks for, on no device yet and without parameters.

    Of a stream, all methods meet one request before any meets the next.
    """
    requests = [
        (scenario, request)
        for scenario in with_companions(suite.scenarios)
        for request in _requests(scenario)
    ]
    places = product(suite.datasets, suite.models, range(suite.seeds.originals), requests)
    for (dataset, model, seed, (scenario, request)), (spec, draw) in product(
        places, _draws(suite, specs)
    ):
        run = RunSpec(
            dataset=dataset,
            image_size=suite.image_size,
            label_column=suite.label_column,
            group_column=suite.group_column,
            image_column=suite.image_column,
            split_column=suite.split_column,
            skip_corrupt=suite.skip_corrupt,
            surrogate_data=surrogate_data_of(suite, spec.name),
            model=model,
            forget=scenario.forget,
            recipe=recipe_for(suite.recipe, dataset),
            validation=suite.validation,
            threads=suite.threads,
            seed=seed,
            method=spec.name,
            label=_label(spec, draw),
            draw=draw,
            params={},
            device="cpu",
            normalize=suite.normalize,
            relearn_steps=suite.relearn_steps,
            isolate=suite.isolate,
            request=request,
        )
        yield run, scenario, spec


def with_companions(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Return scenarios, each stream followed by the two that it is compared with.

    The same requests at once show what asking one by one costs, the reverse order what the order
    does. A stream whose reverse is itself has no other order.
    """
    found = list(scenarios)
    known = {scenario.forget for scenario in scenarios}
    for scenario in scenarios:
        stream = scenario.forget.stream
        if not stream:
            continue
        union, back = Forget(union=stream), Forget(stream=stream[::-1])
        others = [] if {union, Forget(union=stream[::-1])} & known else [union]
        others += [] if back in known else [back]
        found += [scenario.model_copy(update={"forget": forget}) for forget in others]
        known.update(others)
    return found


def in_shards(run: RunSpec) -> list[RunSpec]:
    """Return a run as it is done: from an ensemble trained in shards, if its method needs one.

    Such an ensemble is another model. Its own retraining, and it itself as it was, go before: the
    method is compared with these alone.
    """
    if not registry.get(run.method).access.checkpoints:
        return [run]
    try:
        sharding = Sharding(shards=run.params["shards"], slices=run.params["slices"])
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(
            f"{run.method}.{fault['loc'][0]}={fault['input']!r}: {fault['msg'][:1].lower()}"
            f"{fault['msg'][1:]}"
        ) from None
    run = run.model_copy(update={"model": run.model.model_copy(update={"sharding": sharding})})
    beside = [_companion(run, name) for name in COMPANIONS]
    return [*beside, run]


def _companion(run: RunSpec, name: str) -> RunSpec:
    params = registry.get(name).resolve({})
    changes = {"method": name, "label": companion(name, run.label), "params": params, "draw": 0}
    return run.model_copy(update=changes | {"surrogate_data": None})


def surrogate_data_of(suite: Suite, method: str) -> str | None:
    """Return the surrogate data of a suite, if a method has access to them."""
    return suite.surrogate_data if registry.get(method).access.surrogate else None


def _requests(scenario: Scenario) -> Sequence[int]:
    """Return the numbers of a stream's requests; 0 alone where there is no stream."""
    return range(1, len(scenario.forget.stream) + 1) if scenario.forget.stream else (0,)


def _draws(suite: Suite, specs: Sequence[MethodSpec]) -> list[tuple[MethodSpec, int]]:
    """Return every entry as often as it runs from one original.

    Methods unlearn as often as the suite says. Retraining and the controls run once, but for the
    further retrainings that are asked for.
    """

    def times(spec: MethodSpec) -> int:
        if spec.name == OTHER_RETRAIN and not spec.label:
            return suite.references - 1  # beside the reference itself
        return suite.seeds.unlearning if registry.get(spec.name).kind == "method" else 1

    return [(spec, draw) for spec in specs for draw in range(times(spec))]


def _label(spec: MethodSpec, draw: int) -> str:
    """Return the name in reports: several retrainings are rows of their own."""
    label = spec.label or spec.name
    return f"{label}-{draw + 1}" if draw and spec.name == OTHER_RETRAIN else label


def check_count(suite: Suite, specs: Sequence[MethodSpec]) -> None:
    """Refuse a suite of more runs than can be done.

    Raises:
        ConfigError: With how many there are, and what to do.
    """
    requests = sum(len(_requests(scenario)) for scenario in with_companions(suite.scenarios))
    places = len(suite.datasets) * len(suite.models) * requests
    asked = places * suite.seeds.originals * len(_draws(suite, specs))
    if asked > MAX_RUNS:
        raise ConfigError(
            f"the suite asks for {asked:,} runs, more than the limit of {MAX_RUNS:,}: "
            "split it, or use fewer seeds or methods"
        )
