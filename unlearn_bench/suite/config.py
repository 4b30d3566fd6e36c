"""From a suite's name or file and the command line's flags to keyed runs."""

import importlib.resources
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from unlearn_bench.core.errors import ConfigError, suggestion, unknown_name
from unlearn_bench.core.reading import expand_user
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import GIVEN, Method
from unlearn_bench.suite.casting import (
    left_out,
    notes_on,
    refuse_given_original,
    surrogates_notes,
)
from unlearn_bench.suite.cells import cells, check_count, in_shards
from unlearn_bench.suite.choices import Choices, Row
from unlearn_bench.suite.forget import Confused, Forget, Group, Memorised, Poisoned
from unlearn_bench.suite.given import unlearned_files, weights_file
from unlearn_bench.suite.params import only_params_of, without_params_of
from unlearn_bench.suite.published import FILE as PUBLISHED_FILE
from unlearn_bench.suite.published import Published, place_of, read_published
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.seeds import Seeds
from unlearn_bench.suite.spec import MethodSpec, ModelSpec, Normalize, RunSpec, Scenario, Suite
from unlearn_bench.suite.tuned import FILE as TUNED_FILE
from unlearn_bench.suite.tuned import Tuned, read_tuned
from unlearn_bench.suite.yaml_source import YamlSource, describe, parse

DEFAULT_SUITE = "digits"
_SUITES = "unlearn_bench_suites"

_COLUMNS = ("label_column", "group_column", "image_column", "split_column")
_SWITCHES = ("isolate", "skip_corrupt")  # which take back nothing that a suite asks for
# Flags that take a key's place as they are.
_AS_GIVEN = ("references", "image_size", "surrogate_data", *_COLUMNS)

_KEYS: dict[str, Sequence[str]] = {
    "": list(Suite.model_fields),
    "recipe": list(Recipe.model_fields),
    "models": [name for name in ModelSpec.model_fields if name != "sharding"],
    "methods": list(MethodSpec.model_fields),
    "scenarios": list(Scenario.model_fields),
    "forget": list(Forget.model_fields),
    "group": list(Group.model_fields),
    "memorised": list(Memorised.model_fields),
    "confused": list(Confused.model_fields),
    "poisoned": list(Poisoned.model_fields),
    "normalize": list(Normalize.model_fields),
    "seeds": list(Seeds.model_fields),
}


@dataclass(frozen=True)
class Overrides:
    """What the command line's flags change in a suite; None and empty mean unchanged.

    Attributes:
        params_from: A file of tuned settings in place of the suite's; "" for none at all.
    """

    methods: str | None = None
    model: str | None = None
    stem: str | None = None
    pretrained: bool = False
    dataset: str | None = None
    image_size: int | None = None
    label_column: str | None = None
    group_column: str | None = None
    image_column: str | None = None
    split_column: str | None = None
    skip_corrupt: bool = False
    surrogate_data: str | None = None
    forget: Sequence[str] = ()
    seeds: str | int | None = None
    references: int | None = None
    epochs: int | None = None
    settings: Sequence[str] = ()
    mean: str | None = None
    std: str | None = None
    unlearned: bool = False
    params_from: str | None = None
    isolate: bool = False

    @property
    def elsewhere(self) -> bool:
        """Whether they lead to other data, another model or another scenario."""
        given = (self.dataset, self.model, self.stem, self.image_size, self.mean, self.std)
        return any(flag is not None for flag in given) or self.pretrained or bool(self.forget)


@dataclass(frozen=True)
class Plan:
    """A suite made concrete: what will run, in order.

    Attributes:
        notes: What was left out, and why.
        source: The suite's file, before flags changed anything.
        tuned: Settings that were tuned, where the suite runs with such.
        rows: How the setting of each method came about, where there are tuned ones: by dataset,
            model and scenario in words, then by label.
        allow_stale: Whether tuned settings may be of other data than these.
        tuning: What every method gets, where settings are tuned and nothing is reported.
        searched: Names of the methods that are tuned then: their runs follow from results.
        published: Figures of a paper, where the suite names any.
    """

    suite: Suite
    runs: tuple[RunSpec, ...]
    notes: tuple[str, ...] = field(default=())
    source: Path | None = None
    tuned: Tuned | None = None
    rows: Mapping[str, Mapping[str, Row]] = field(default_factory=dict)
    allow_stale: bool = False
    tuning: Mapping[str, Any] = field(default_factory=dict)
    searched: tuple[str, ...] = ()
    published: Published | None = None


def suite_files() -> dict[str, Path]:
    """Return the named suites and their files."""
    folder = Path(str(importlib.resources.files(_SUITES)))
    files = (path for path in sorted(folder.glob("*.yaml")) if path.name != PUBLISHED_FILE)
    return {path.stem: path for path in files}


def suite_file(name: str) -> Path:
    """Return the file of a suite that is given by name or as a YAML file.

    Raises:
        UnknownNameError: If it is neither a known name nor a file.
    """
    files = suite_files()
    if name in files:
        return files[name]
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        return expand_user(Path(name), "the suite")
    raise unknown_name("suite", name, files, "unlearn-bench list suites")


def load_suite(name: str) -> Suite:
    """Load a suite by name, or from a YAML file.

    Raises:
        ConfigError: If the file is not a valid suite; one line with file, line and key.
        UnknownNameError: If it is neither a known name nor a file.
    """
    path = suite_file(name)
    source = YamlSource(path)
    if not isinstance(source.value, dict):
        raise ConfigError(f"{path}: a suite is a mapping of keys such as name, datasets, models")
    try:
        suite = Suite.model_validate({"name": path.stem} | source.value)
    except ValidationError as error:
        raise ConfigError(describe(error, _KEYS, source)) from None
    named = {}
    if suite.params_from is not None:
        named["params_from"] = _beside(path, suite.params_from, "params_from")
    if suite.published is not None:
        file, entry = place_of(suite.published)
        named["published"] = f"{_beside(path, file, 'published')}#{entry}"
    return suite.model_copy(update=named)


def _beside(suite: Path, file: str, key: str) -> str:
    """Return the path of a file that a suite names relative to its own."""
    return str((suite.parent / expand_user(Path(file), f"{suite}: {key}")).absolute())


def parse_settings(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Turn ``name.param=value`` texts into parameters by method.

    Raises:
        ConfigError: If a text is not of that form.
    """
    params: dict[str, dict[str, Any]] = {}
    for text in settings:
        target, equals, value = text.partition("=")
        method, dot, name = target.partition(".")
        if not (equals and dot and method and name):
            raise ConfigError(f"--set {text}: write --set METHOD.PARAMETER=VALUE")
        try:
            params.setdefault(method.strip(), {})[name.strip()] = parse(value)[1]
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: {value!r} is not a YAML value") from error
    return params


def resolve_suite(name: str | None, flags: Overrides) -> Suite:
    """Load the suite and apply the command line's flags to it.

    Without a suite, flags that name other data or another model describe a suite of their own,
    named ``DATASET-MODEL``; otherwise the default suite runs.

    Raises:
        UserError: If the suite or a flag is wrong.
    """
    suite = load_suite(name or DEFAULT_SUITE)
    changes: dict[str, Any] = {}
    if flags.dataset:
        changes["datasets"] = (flags.dataset,)
    if flags.model or flags.stem or flags.pretrained:
        # Models that the suite names stay as they are there, but for what the flags say.
        kept = [m.model_dump() for m in suite.models if flags.model in (None, m.name)]
        asked: dict[str, Any] = {"stem": flags.stem} if flags.stem else {}
        asked |= {"pretrained": True} if flags.pretrained else {}
        changes["models"] = [model | asked for model in kept or [{"name": flags.model}]]
    methods = flags.methods
    if flags.unlearned and not methods and (name is None or name in suite_files()):
        methods = "retrain"  # with the controls, which are always added: the question is one model
    if methods:
        names = [m.strip() for m in methods.split(",") if m.strip()]
        changes["methods"] = names
        suite = only_params_of(suite, set(registry.methods() if "all" in names else names))
    if flags.forget:
        changes["scenarios"] = [_scenario(text, suite) for text in flags.forget]
    given: dict[str, Any] = {name: getattr(flags, name) for name in _AS_GIVEN}
    given["seeds"] = None if flags.seeds is None else _seeds(flags.seeds)
    given |= {switch: getattr(flags, switch) or None for switch in _SWITCHES}
    changes |= {name: value for name, value in given.items() if value is not None}
    if flags.mean is not None or flags.std is not None:
        changes["normalize"] = normalize(flags.mean, flags.std)
    if flags.params_from:
        suite = without_params_of(suite, read_tuned(Path(flags.params_from), "--params"))
    recipe = suite.recipe.model_dump()
    dataset, model = flags.dataset or suite.datasets[0], flags.model or suite.models[0].name
    if name is None and (dataset, model) != (suite.datasets[0], suite.models[0].name):
        plain = f"{dataset.partition(':')[0]}-{model}"
        # Mistyped names must get as far as the error that suggests the right one.
        changes["name"] = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("._-") or "suite"
        changes["description"] = f"{model} on {dataset}, described by command-line flags."
    if name is None and dataset not in suite.datasets:
        # The default suite's recipe is made for its tiny images; other data get the standard one.
        recipe = Recipe().model_dump()
    if flags.epochs is not None:
        recipe["epochs"] = flags.epochs
    changes["recipe"] = recipe
    params = {method: dict(values) for method, values in suite.params.items()}
    for method, values in parse_settings(flags.settings).items():
        params.setdefault(method, {}).update(values)
    changes["params"] = params
    if flags.params_from is not None:
        changes["params_from"] = flags.params_from or None
    dumped = suite.model_dump(exclude=set(changes))
    try:
        return Suite.model_validate(dumped | changes)
    except ValidationError as error:
        raise ConfigError(describe(error, _KEYS, None)) from None


def _seeds(given: str | int) -> Seeds:
    """Return what ``--seeds`` gives."""
    try:
        return Seeds.model_validate(given)
    except ValidationError:
        raise ConfigError(
            f"--seeds {given}: give a number of at least 1, or originals x unlearnings from each, "
            "such as 5x3"
        ) from None


def normalize(mean: str | None, std: str | None) -> dict[str, list[float]] | None:
    """Return the constants that ``--mean`` and ``--std`` give; None for neither."""
    if mean is None and std is None:
        return None
    constants = {}
    for name, text in (("mean", mean), ("std", std)):
        if text is None:
            raise ConfigError(f"--{name} is missing: give --mean and --std together, or neither")
        try:
            constants[name] = [float(word) for word in text.split(",")]
        except ValueError:
            raise ConfigError(
                f"--{name} {text}: give one number or one per channel, such as 0.485,0.456,0.406"
            ) from None
    return constants


def _scenario(text: str, suite: Suite) -> Scenario | str:
    """Return the suite's own scenario for ``--forget``, which may set parameters, if it has one."""
    try:
        asked = Forget.model_validate(text)
    except ValidationError:
        return text  # reported together with whatever else is wrong
    return next((known for known in suite.scenarios if known.forget == asked), text)


def _method_specs(suite: Suite) -> list[MethodSpec]:
    """Return the suite's entries, ``all`` written out, reference and controls put first."""
    known = registry.methods()
    given = list(suite.methods)
    listed = [spec for spec in given if spec.name != "all"]
    if len(listed) < len(given):
        named = {spec.name for spec in listed if not spec.label}
        listed = [MethodSpec(name=n) for n in known if n not in named] + listed
    for spec in listed:
        if registry.get(spec.name).kind == "given":
            raise ConfigError(
                f"methods: {spec.name!r} is a placeholder for a file; give --unlearned FILE"
            )
    named = {spec.name for spec in listed}
    always = [n for n, m in known.items() if m.kind != "method" and n not in named]
    specs = [MethodSpec(name=n) for n in always] + listed
    order = {"reference": 0, "control": 1, "method": 2}
    return sorted(specs, key=lambda spec: order[known[spec.name].kind])


def _resolve_params(
    suite: Suite, spec: MethodSpec, scenario: Scenario, tuned: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge defaults, tuned setting, suite, entry and scenario; the more specific wins."""
    given = (
        dict(tuned)
        | suite.params.get(spec.name, {})
        | spec.params
        | scenario.params.get(spec.name, {})
    )
    if spec.label:
        given |= suite.params.get(spec.label, {}) | scenario.params.get(spec.label, {})
    return registry.get(spec.name).resolve(given)


def expand(
    suite: Suite,
    *,
    device: str,
    original: Path | None = None,
    source: Path | None = None,
    unlearned: Sequence[Path] = (),
    tuned_elsewhere: bool = False,
    allow_stale: bool = False,
) -> Plan:
    """Turn a suite into its runs, ordered so that references come before what needs them.

    Retraining and the controls are added to every suite: without them no figure means anything.

    Args:
        suite: What to run.
        device: ``cpu`` or ``cuda``.
        original: The user's own weights, to start from instead of training originals.
        source: The suite's file, for the report.
        unlearned: The user's unlearned models, to judge beside the methods.
        tuned_elsewhere: Whether a suite's own tuned settings may be for other data, another model
            or scenario, as flags can lead there: methods then run with their defaults.
        allow_stale: Whether tuned settings are taken for what they were not tuned for.

    Raises:
        UserError: For unknown methods, wrong parameters, or two entries that run the same.
    """
    if suite.recipe.precision == "tf32" and device == "cpu":
        raise ConfigError("recipe.precision is tf32, which needs --device cuda; set fp32 or bf16")
    suite = suite.model_copy(update={"recipe": suite.recipe.on(device)})
    given = unlearned_files(suite, unlearned, original)
    specs = _method_specs(suite) + [MethodSpec(name=GIVEN, label=n) for n in given]
    _check_methods(suite, specs)
    check_count(suite, specs)
    refuse_given_original(suite, original)
    weights = weights_file("--original", original) if original else None
    notes = dict.fromkeys(notes_on(suite, tuple(given), weights is not None))  # in order, each once
    choices = Choices.of(suite, lenient=tuned_elsewhere, allow_stale=allow_stale)
    asked: list[RunSpec] = []
    for run, scenario, spec in cells(suite, specs):
        if reason := left_out(spec, run.forget, weights is not None):
            notes.setdefault(reason)
            continue
        here = {"device": device, "original": weights, "unlearned": given.get(spec.label)}
        run = run.model_copy(update=here)
        params = _resolve_params(suite, spec, scenario, choices.params_for(run))
        asked.append(run.model_copy(update={"params": params}))
    runs = _with_ensembles(asked)
    if choices.tuned is not None:
        suite = suite.model_copy(update={"params_from": TUNED_FILE})
    suite, published = _with_published(suite)
    return Plan(
        suite,
        runs,
        (*notes, *choices.notes, *surrogates_notes(suite, runs)),
        source,
        tuned=choices.tuned,
        rows=choices.rows(runs),
        allow_stale=allow_stale,
        published=published,
    )


def _with_ensembles(asked: Iterable[RunSpec]) -> tuple[RunSpec, ...]:
    """Add what methods of sharded training are compared with; entries may share an ensemble."""
    made: dict[object, RunSpec] = {}
    for one in itertools.chain.from_iterable(map(in_shards, asked)):
        key = one.model_dump_json(exclude={"label"}) if one.model.sharding else len(made)
        made.setdefault(key, one)
    return tuple(made.values())


def _with_published(suite: Suite) -> tuple[Suite, Published | None]:
    """Read the figures that a suite names; it then names the copy that lies beside the results."""
    if suite.published is None:
        return suite, None
    found, (_, entry) = read_published(suite.published), place_of(suite.published)
    return suite.model_copy(update={"published": f"{PUBLISHED_FILE}#{entry}"}), found


def _check_methods(suite: Suite, specs: Sequence[MethodSpec]) -> None:
    """Refuse labels that repeat, and parameters of methods that take no part."""
    labels = [spec.label or spec.name for spec in specs]
    for label, times in Counter(labels).items():
        if times > 1:
            raise ConfigError(f"methods: {label!r} is named twice; give one of them another label")
    addressed = set(suite.params).union(*(s.params for s in suite.scenarios))
    for name in sorted(addressed - set(labels) - {spec.name for spec in specs}):
        raise ConfigError(
            f"params: {name!r} is not among the methods of this suite"
            f"{suggestion(name, labels)} (methods: {', '.join(labels)})"
        )


def methods_in_force(plan: Plan) -> Mapping[str, Method]:
    """Return the registered methods that the plan runs, by name."""
    names = (*(spec.method for spec in plan.runs), *plan.searched)
    return {name: registry.get(name) for name in names}
