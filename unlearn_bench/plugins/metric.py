"""The declaration of a metric, which verdict, page, tables and listings share.

Free of torch, so that a report can be made where nothing is measured.
"""

import inspect
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from unlearn_bench.core.errors import PluginError
from unlearn_bench.core.keys import code_hash
from unlearn_bench.plugins import PLUGIN_MODULE
from unlearn_bench.plugins.method import SCOPES, Scope

# How a value is written: shares in percent, points, a ratio to retraining in percent, whole
# numbers of steps or examples, scores with three decimals, or four significant digits.
Unit = Literal[
    "percent", "points", "ratio", "steps", "count", "score", "seconds", "bytes", "number"
]
# Which way is better: closer to retraining's value, less, or neither.
Direction = Literal["retrain", "less", "none"]
# Its say in the verdict: one of the primary set; judged beside it; judged for being fooled only.
Role = Literal["", "primary", "secondary", "legacy"]


@dataclass(frozen=True)
class MetricInfo:
    """Everything that listings, tables and the verdict say about a metric.

    Attributes:
        name: As in the records.
        definition: One sentence, with the formula where there is one.
        ideal: The value that exact unlearning has.
        cost: What it takes to compute.
        source: Publication, or ``""``.
        splits: Splits it is measured on, as in the records, for when it cannot be measured.
        label: Name in words, for tables; by default the name itself.
        short: Name for a narrow column; by default the label.
        heading: Column heading with its unit, two lines at most; by default the label.
        unit: How values are written.
        direction: ``retrain`` if retraining's value is the ideal.
        role: ``primary`` if it decides the verdict.
        primary_split: The primary one of several splits; it is secondary on the others. Empty if
            it is primary on all of them.
        floor: The difference to retraining that never matters, in the unit of the values.
        inward: Whether it sees more than the largest logit. At least one primary metric that does
            must distinguish the original from retraining; otherwise nothing is evidence.
        utility: Whether it measures what a method must preserve, so that the original has it too.
        by_class: Whether each class has its own number, shown by name and not as columns.
        main: Whether it stands in the first table of a report, and so in LaTeX and Markdown.
        forgets: Kinds of scenarios that it is measured in, as methods name them; empty for all.

    Raises:
        PluginError: If a declaration contradicts itself, or a value is not allowed.
    """

    name: str
    definition: str
    ideal: str = "that of retrain"
    cost: str = "one forward pass, shared by all"
    source: str = ""
    splits: tuple[str, ...] = ("",)
    label: str = ""
    short: str = ""
    heading: str = ""
    unit: Unit = "number"
    direction: Direction = "retrain"
    role: Role = ""
    primary_split: str = ""
    floor: float = 0.0
    inward: bool = False
    utility: bool = False
    by_class: bool = False
    main: bool = True
    forgets: tuple[Scope, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", self.name):
            raise PluginError(
                f"a metric cannot be named {self.name!r}; use letters, digits, _, ., + and -"
            )
        for field, allowed in (("unit", Unit), ("direction", Direction), ("role", Role)):
            if getattr(self, field) not in get_args(allowed):
                raise PluginError(
                    f"metric {self.name!r}: {field}={getattr(self, field)!r} is not one of "
                    f"{', '.join(map(repr, get_args(allowed)))}"
                )
        if unknown := set(self.forgets) - set(SCOPES):
            raise PluginError(
                f"metric {self.name!r}: forgets={self.forgets!r} names {sorted(unknown)[0]!r}, "
                f"which is none of {', '.join(SCOPES)}"
            )
        if not (math.isfinite(self.floor) and self.floor >= 0):
            raise PluginError(f"metric {self.name!r}: floor={self.floor!r} must be 0 or more")
        if self.role and (self.direction != "retrain" or self.by_class):
            raise PluginError(
                f"metric {self.name!r}: role={self.role!r} compares it with retraining, which "
                'needs direction="retrain", and one number per run, not per class'
            )

    def named(self, column: str) -> str:
        """Name a column of this metric in words: the label, and the split where there are several.

        A metric without a label keeps the column's name.
        """
        split = column.partition(" (")[2]
        if not self.label or not split:
            return self.label or column
        # Splits are named by their files' names; several are joined by a plus.
        return f"{self.label} ({split.replace('_', ' ').replace('+', ' + ')}"

    def with_unit(self, column: str) -> str:
        """Name a column with the unit of its cells."""
        suffix = {"percent": ", %", "points": ", points"}.get(self.unit, "")
        return self.named(column) + suffix


@dataclass(frozen=True)
class Registered:
    """A metric that is not built in, the file that declares it, and whether by ``--plugin``."""

    info: MetricInfo
    file: Path
    is_plugin: bool


REGISTERED: dict[str, Registered] = {}


def register_metric(info: MetricInfo, function: Callable[..., Any]) -> None:
    """Add a metric; the same name from the same file replaces the older entry.

    Raises:
        PluginError: If another file already registered the name.
    """
    file = Path(inspect.getfile(inspect.unwrap(function))).resolve()
    known = REGISTERED.get(info.name)
    if known is not None and known.file != file:
        raise PluginError(
            f"two metrics are named {info.name!r}: in {known.file} and {file}; rename one"
        )
    REGISTERED[info.name] = Registered(info, file, function.__module__.startswith(PLUGIN_MODULE))


def plugin_metric_files() -> set[Path]:
    """Return the files of ``--plugin`` that declare metrics."""
    return {known.file for known in REGISTERED.values() if known.is_plugin}


def metrics_key() -> dict[str, Any]:
    """Return what results depend on beside the built-in metrics: nothing, or the files' hashes."""
    hashes = sorted({code_hash(known.file) for known in REGISTERED.values()})
    return {"metrics": hashes} if hashes else {}


def stored_metrics() -> dict[str, dict[str, Any]]:
    """Return the declarations of all metrics that are not built in, for ``suite.json``."""
    return {name: asdict(known.info) for name, known in sorted(REGISTERED.items())}


# What a field may be in JSON, by the type of its default; those without one are texts.
_TYPES: Mapping[type, type | tuple[type, ...]] = defaultdict(
    lambda: str, {str: str, bool: bool, float: (float, int), tuple: (list, tuple)}
)


def read_metric(name: str, stored: Mapping[str, Any]) -> MetricInfo | None:
    """Return a stored declaration; None where it is none, for the file may be of any version."""
    known = {field.name: _TYPES[type(field.default)] for field in fields(MetricInfo)}
    given = {field: value for field, value in stored.items() if field in known and field != "name"}
    if not all(isinstance(value, known[field]) for field, value in given.items()):
        return None
    try:
        # JSON has lists only.
        given = {k: tuple(map(str, v)) if isinstance(v, list) else v for k, v in given.items()}
        return MetricInfo(name, **{"definition": "", **given})
    except (PluginError, TypeError):
        return None
