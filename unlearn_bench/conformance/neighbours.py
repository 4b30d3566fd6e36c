"""Other values of a hyper-parameter, from its type, its range and the value in force."""

from collections.abc import Iterator
from typing import Any

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.plugins.method import Method

MOST = 4  # a parameter that four other values do not bring to life needs a probe of its own


def neighbours(method: Method, name: str, value: Any) -> list[Any]:
    """Return other allowed values, the most telling first.

    Args:
        method: Whose parameter it is.
        name: The parameter.
        value: In force.
    """
    schema = method.schema.model_json_schema()["properties"][name]
    found: list[Any] = []
    for candidate in _candidates(schema, name, value):
        if candidate == value or candidate in found:
            continue
        try:
            method.resolve({name: candidate})
        except ParameterError:
            continue
        found.append(candidate)
    return found[:MOST]


def _candidates(schema: dict[str, Any], name: str, value: Any) -> Iterator[Any]:
    kinds = schema.get("anyOf", [schema])
    for kind in kinds:
        yield from kind.get("enum", [])
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int) and "batch_size" in name:
        yield from (60, 8, 2)  # two batches of R here, then two of F
    elif isinstance(value, int):
        yield from (value + 1, value // 2, value * 2) if value < 8 else (value // 2, value * 2)
    elif isinstance(value, float):
        yield from (value * 2, value / 2, value * 10) if value else (0.1, 1.0)
    elif isinstance(value, list) and value:
        yield from (value[:-1], value[::-1])
        yield [2 * entry for entry in value if isinstance(entry, int | float)]
    for kind in kinds:
        bounds = [kind[edge] for edge in ("maximum", "minimum") if edge in kind]
        if kind.get("type") == "integer":
            yield from (int(bound) for bound in bounds)
            yield from (1, 2)
        elif kind.get("type") == "number":
            yield from map(float, bounds)
            yield from (0.5, 1.0)
        elif kind.get("type") == "boolean":
            yield from (True, False)
        elif kind.get("type") == "null":
            yield None
