"""Over which values each hyper-parameter of a method is searched when it is tuned.

A parameter may say so in its annotation::

    lr: Annotated[PositiveFloat, Tunable(1e-5, 1e-1, log=True)] = 1e-3
    batch_size: Annotated[PositiveInt, Tunable(choices=(64, 128, 256))] = 128
    stop_examples: Annotated[PositiveInt, Tunable(tune=False)] = 256

Where nothing is declared, the type and the default decide: a positive number is searched on a
logarithmic scale from a tenth to ten times its default, a learning rate (``lr``, ``..._lr``) at
least from 1e-5 to 0.1 as in published searches, since a default for another task is often wrong by
more than ten times, a number between two bounds uniformly
between them, a whole number from a quarter to four times its default, a boolean or a Literal over
its values. A default of zero or null gives no scale, and stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from unlearn_bench.core.errors import PluginError

# Beyond this ratio whole numbers are searched on a logarithmic scale.
WIDE = 8
# How near a search comes to a bound that is not allowed itself, such as 1 for a momentum.
INSIDE = 0.01
# Over which publications search learning rates.
RATES = (1e-5, 1e-1)


@dataclass(frozen=True)
class Tunable:
    """How a parameter is searched, declared in its annotation.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether to search on a logarithmic scale.
        choices: Values to choose from, instead of a range.
        tune: If false, the parameter keeps its default.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    tune: bool = True

    def __str__(self) -> str:
        if self.choices:
            return f"Tunable(choices={self.choices!r})"
        return f"Tunable({self.low:g}, {self.high:g}{', log=True' * self.log})"


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included."""

    name: str
    low: float
    high: float
    log: bool
    integer: bool

    def __str__(self) -> str:
        scale = ", logarithmic" if self.log else ""
        return f"{self.low:g} to {self.high:g}{scale}"

    def holds(self, value: Any) -> bool:
        """Whether the search can come to this value."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """A few values without order."""

    name: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ", ".join("null" if value is None else str(value) for value in self.values)

    def holds(self, value: Any) -> bool:
        """Whether the search can come to this value."""
        return any(value == other and type(value) is type(other) for other in self.values)


Dimension = Range | Choice


def derive_space(
    fields: Mapping[str, FieldInfo], schema: Mapping[str, Any], fixed: tuple[str, ...] = ()
) -> tuple[Dimension, ...]:
    """Return the dimensions that a method's parameters are searched over, in their order.

    Args:
        fields: The parameters, as pydantic knows them.
        schema: JSON schema of each.
        fixed: Parameters that make no difference to what is computed.

    Raises:
        PluginError: If a declared range cannot be searched; names the parameter.
    """
    found = []
    for name, field in fields.items():
        declared = next((m for m in field.metadata if isinstance(m, Tunable)), None)
        declared = declared or _inside_union(field)
        if declared is not None:
            dimension = _declared(name, declared, field, schema[name])
        else:
            dimension = None if name in fixed else _derived(name, field.default, schema[name])
        if dimension is not None:
            found.append(dimension)
    return tuple(found)


def _inside_union(field: FieldInfo) -> Tunable | None:
    """Return what is declared in a part of ``Annotated[...] | None``."""
    for part in get_args(field.annotation):
        for found in getattr(part, "__metadata__", ()):
            if isinstance(found, Tunable):
                return found
    return None


def _declared(
    name: str, tunable: Tunable, field: FieldInfo, schema: Mapping[str, Any]
) -> Dimension | None:
    """Check a declaration against the parameter's own type and default."""
    if not tunable.tune:
        return None
    dimension: Dimension
    if tunable.choices:
        if tunable.low is not None or tunable.high is not None or tunable.log:
            raise PluginError(f"{name}: Tunable takes a range or choices, not both")
        dimension = Choice(name, tuple(tunable.choices))
    else:
        low, high = tunable.low, tunable.high
        if low is None or high is None:
            raise PluginError(f"{name}: Tunable takes low and high, choices=..., or tune=False")
        types = {part.get("type") for part in schema.get("anyOf", [schema])}
        if not types & {"number", "integer"}:
            raise PluginError(f"{name}: only numbers have a range; write Tunable(choices=(...))")
        if not low < high or tunable.log and low <= 0:
            above = " and above 0" if tunable.log else ""
            raise PluginError(f"{name}: {tunable} needs low below high{above}")
        integer = "number" not in types
        if integer and (low != int(low) or high != int(high)):
            raise PluginError(
                f"{name}: {tunable} needs integer bounds, because the parameter is an integer"
            )
        dimension = Range(name, low, high, tunable.log, integer)
    ends = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
    for end in ends:
        if not _is_allowed(field, int(end) if _is_integer(dimension) else end):
            raise PluginError(f"{name}: {tunable} holds {end!r}, which its type does not allow")
    # A null stands for what the method works out by itself; the search gives numbers.
    automatic = isinstance(dimension, Range) and field.default is None
    if not automatic and not dimension.holds(field.default):
        raise PluginError(f"{name}: its default {field.default!r} lies outside {tunable}")
    return dimension


def _is_integer(dimension: Dimension) -> bool:
    return isinstance(dimension, Range) and dimension.integer


def _is_allowed(field: FieldInfo, value: Any) -> bool:
    kind: Any = field.annotation
    for constraint in field.metadata:
        kind = _annotated(kind, constraint)
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def _annotated(kind: Any, constraint: Any) -> Any:
    return Annotated[kind, constraint]


def _derived(name: str, default: Any, schema: Mapping[str, Any]) -> Dimension | None:
    """Return what type and default suggest; None where they suggest nothing."""
    parts = schema.get("anyOf", [schema])
    kinds = [part for part in parts if part.get("type") != "null"]
    nullable = len(kinds) < len(parts)
    if len(kinds) != 1:
        return None
    kind = kinds[0]
    if "enum" in kind or kind.get("type") == "boolean":
        values = (*kind.get("enum", (False, True)), *((None,) if nullable else ()))
        return Choice(name, values) if len(values) > 1 else None
    if isinstance(default, bool) or not isinstance(default, int | float):
        return None
    low, high = _bounds(kind)
    if kind.get("type") == "integer":
        return _counted(name, int(default), low, high)
    if low is not None and high is not None:
        return Range(name, low, high, log=False, integer=False)
    if default <= 0:
        return None
    least, most = default / 10, default * 10
    if name == "lr" or name.endswith("_lr"):
        least, most = min(least, RATES[0]), max(most, RATES[1])
    least, most = max(least, low or 0), min(most, high or float("inf"))
    return Range(name, least, most, log=True, integer=False)


def _bounds(kind: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the ends of what a type allows, a little inside of those that it excludes."""
    low, high = kind.get("minimum"), kind.get("maximum")
    below, above = kind.get("exclusiveMinimum"), kind.get("exclusiveMaximum")
    if kind.get("type") == "integer":
        low = below + 1 if below is not None else low
        high = above - 1 if above is not None else high
        return low, high
    first, last = (low if low is not None else below), (high if high is not None else above)
    width = 0.0 if first is None or last is None else last - first
    if below is not None and low is None:
        low = below + INSIDE * width
    if above is not None and high is None:
        high = above - INSIDE * width
    return low, high


def _counted(name: str, default: int, low: float | None, high: float | None) -> Range | None:
    if default <= 0:
        return None
    least, most = max(1, default // 4), default * 4
    least = max(least, int(low)) if low is not None else least
    most = min(most, int(high)) if high is not None else most
    if least >= most:
        return None
    return Range(name, least, most, log=most / least >= WIDE, integer=True)
