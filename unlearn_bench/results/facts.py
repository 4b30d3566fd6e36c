"""What a results folder says of its metrics and methods beside the numbers.

The package's own metrics are looked up where they are declared; those of plug-ins were written
into ``suite.json``, so that a report needs neither the plug-in nor torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from unlearn_bench.core.errors import ConfigError, PluginError, UnknownNameError, unknown_name
from unlearn_bench.plugins.metric import REGISTERED, MetricInfo, Role, read_metric
from unlearn_bench.results.examples import Examples, read_examples
from unlearn_bench.results.metrics import BUILT_IN, DERIVED
from unlearn_bench.results.stream import STREAM
from unlearn_bench.suite.published import Published
from unlearn_bench.suite.sharding import companion
from unlearn_bench.suite.tuned import Tuned

_Kept = TypeVar("_Kept", bound=BaseModel)

# Results folders from before fakes were a fact of the control have none but these.
OLD_FAKES = frozenset({"logit_mask", "uniform_on_forget"})


def known_metrics() -> dict[str, MetricInfo]:
    """Return the metrics of the package and of all plug-ins that are loaded, ordered by name."""
    registered = {name: known.info for name, known in REGISTERED.items()}
    return dict(sorted({**registered, **BUILT_IN}.items()))


@dataclass(frozen=True)
class Ensemble:
    """A model trained in shards.

    Attributes:
        whole: Label of the architecture where one model is trained on all data.
        method: Label of the method that starts from it.
    """

    whole: str
    method: str


@dataclass(frozen=True)
class Facts:
    """What a results folder says of its metrics and methods beside the numbers.

    Attributes:
        metrics: Declarations by name: the package's own, and those of the plug-ins that the
            folder was made with.
        fakes: Labels of the controls that hide the forgotten behind untouched knowledge.
        rows: How each method's setting came about, and whether it was tuned, by dataset, model
            and scenario in words and then by label; empty where no suite said so.
        tuned: The settings that were tuned, if any were.
        examples: Of what scenarios changed in the training data, by dataset and scenario.
        chosen: Names of the primary metrics, where the suite chose them itself.
        ensembles: Models that were trained in shards, by label.
        published: Figures of a paper to be shown beside, where the suite names any.
    """

    metrics: Mapping[str, MetricInfo] = field(default_factory=lambda: BUILT_IN)
    fakes: frozenset[str] = OLD_FAKES
    rows: Mapping[str, Mapping[str, tuple[str, bool]]] = field(default_factory=dict)
    tuned: Tuned | None = None
    examples: Examples = field(default_factory=dict)
    chosen: tuple[str, ...] = ()
    ensembles: Mapping[str, Ensemble] = field(default_factory=dict)
    published: Published | None = None

    def original(self, model: str) -> str:
        """Return the label of the row that is a model's original as it was."""
        known = self.ensembles.get(model)
        return companion("original", known.method) if known else "original"

    def of(self, column: str) -> MetricInfo:
        """Return the declaration behind a table's column; one that nobody declared has defaults."""
        name = column.partition(" (")[0]
        found = self.metrics.get(name) or DERIVED.get(name) or STREAM.get(name)
        # Not in the first table: an old folder may hold many that are no longer known.
        return found or MetricInfo(_a_name(name), "", direction="none", main=False)

    def label(self, column: str) -> str:
        """Name a column in words."""
        return self.of(column).named(column)

    def heading(self, column: str, brief: bool = False) -> str:
        """Name a column with the unit of its cells, ``brief`` for two short lines."""
        info = self.of(column)
        return brief and info.heading.replace("\n", " ") or info.with_unit(column)

    def short(self, column: str) -> str:
        """Name a column in few words."""
        return self.of(column).short or self.label(column)

    def by_class(self) -> tuple[str, ...]:
        """Name the metrics with one number per class."""
        return tuple(name for name, info in self.metrics.items() if info.by_class)

    def judged(self, columns: Iterable[str], *roles: Role) -> dict[str, float]:
        """Return the columns that have one of the roles, with their floors, in order.

        Args:
            columns: Those of a table. A metric that is not among them is named all the same: it was
                not measured.
            roles: Some of ``primary``, ``secondary`` and ``legacy``.
        """
        places: dict[str, list[str]] = {}
        for column in columns:
            places.setdefault(column.partition(" (")[0], []).append(column)
        found = {}
        for info in self.metrics.values():
            if info.role:
                for column in places.get(info.name) or _declared(info):
                    if _role_of(info, column) in roles:
                        found[column] = info.floor
        return found


BUILT_IN_FACTS = Facts()


def _a_name(text: str) -> str:
    """Return a name that any column can stand under; it is shown by the column's own text."""
    return text if text.isidentifier() else "unknown"


def _declared(info: MetricInfo) -> list[str]:
    """Return the columns that a metric would fill."""
    if len(info.splits) < 2:
        return [info.name]
    return [f"{info.name} ({split})" for split in info.splits]


def _role_of(info: MetricInfo, column: str) -> Role:
    split = column.partition(" (")[2].rstrip(")")
    if info.role == "primary" and info.primary_split and split not in ("", info.primary_split):
        return "secondary"
    return info.role


def with_primary(metrics: Mapping[str, MetricInfo], names: Sequence[str]) -> dict[str, MetricInfo]:
    """Return declarations in which the named metrics, and no others, decide the verdict.

    Raises:
        UnknownNameError: If a name is no metric's.
        ConfigError: If a metric cannot decide: it is not held against retraining, or has a number
            per class.
    """
    found = {
        name: replace(info, role="secondary") if info.role == "primary" else info
        for name, info in metrics.items()
    }
    for name in names:
        if name not in found:
            raise unknown_name("metric", name, found, "unlearn-bench list metrics")
        try:
            found[name] = replace(found[name], role="primary")
        except PluginError:
            raise ConfigError(
                f"primary: {name} cannot decide a verdict; name metrics with one number per run "
                "whose ideal is retraining's value"
            ) from None
    return found


def facts_of(suite: Mapping[str, Any]) -> Facts:
    """Read the facts that ``suite.json`` holds; what is missing or of another form is left out."""
    stored = suite.get("metrics")
    foreign = {
        str(name): info
        for name, given in (stored.items() if isinstance(stored, Mapping) else ())
        if isinstance(given, Mapping) and (info := read_metric(str(name), given))
    }
    methods = suite.get("methods")
    methods = methods if isinstance(methods, Mapping) else {}
    known = {str(label): facts for label, facts in methods.items() if isinstance(facts, Mapping)}
    if any("fake" in facts for facts in known.values()):
        fakes = frozenset(label for label, facts in known.items() if facts.get("fake"))
    else:
        named = {label for label, facts in known.items() if str(facts.get("name")) in OLD_FAKES}
        fakes = OLD_FAKES | named
    declared = {**BUILT_IN, **{n: i for n, i in foreign.items() if n not in BUILT_IN}}
    chosen = _chosen(suite.get("suite"), declared)
    return Facts(
        with_primary(declared, chosen) if chosen else declared,
        fakes,
        _rows(suite.get("rows")),
        _stored(suite.get("tuned_settings"), Tuned),
        read_examples(suite.get("changed_examples")),
        chosen,
        _ensembles(suite.get("ensembles")),
        _stored(suite.get("published"), Published),
    )


def _ensembles(stored: Any) -> dict[str, Ensemble]:
    if not isinstance(stored, Mapping):
        return {}
    return {
        str(model): Ensemble(*map(str, known))
        for model, known in stored.items()
        if isinstance(known, list) and len(known) == 2
    }


def _chosen(suite: Any, known: Mapping[str, MetricInfo]) -> tuple[str, ...]:
    """Return the primary metrics that a suite chose, if they can be that."""
    given = suite.get("primary") if isinstance(suite, Mapping) else None
    names = tuple(map(str, given)) if isinstance(given, list) else ()
    try:
        with_primary(known, names)
    except (ConfigError, UnknownNameError):
        return ()
    return names


def _rows(stored: Any) -> dict[str, dict[str, tuple[str, bool]]]:
    if not isinstance(stored, Mapping):
        return {}
    return {
        str(place): {
            str(label): (str(row[0]), bool(row[1]))
            for label, row in rows.items()
            if isinstance(row, list) and len(row) == 2
        }
        for place, rows in stored.items()
        if isinstance(rows, Mapping)
    }


def _stored(stored: Any, kind: type[_Kept]) -> _Kept | None:
    if not isinstance(stored, Mapping):
        return None
    try:
        return kind.model_validate(stored)
    except ValidationError:
        return None
