"""Constants of the harness that a plug-in replaces, or whose entries it does: limits, tables.

A constant is an upper-case name of a module or class of ours. Watched are the object that it names
and, of a dict, list or set, the objects that are in it; what lies deeper is not.
"""

import functools
import re
import sys
from operator import is_
from typing import Any

from unlearn_bench.execution.surroundings.patches import is_ours, places

_NAME = re.compile(r"_{0,2}[A-Z][A-Z0-9_]*")
_TABLES = (dict, list, set)  # a defaultdict gains entries by being read


class Constants:
    """The constants of the harness, at the moment when this is made."""

    def __init__(self) -> None:
        self._held = [
            (name, place, at, vars(place)[at])
            for name, place, at in _names(len(sys.modules))
            if at in vars(place)
        ]
        self._tables = [
            (name, at, held, _content(held))
            for name, _, at, held in self._held
            if type(held) in _TABLES
        ]

    def restore(self) -> list[str]:
        """Put back what was replaced since, and return its names."""
        found = []
        for name, place, attribute, old in self._held:
            if vars(place).get(attribute) is not old:
                setattr(place, attribute, old)
                found.append(f"{name}.{attribute}")
        for name, attribute, table, before in self._tables:
            now = _content(table)
            if len(now) != len(before) or not all(map(is_, now, before)):
                _refill(table, before)
                found.append(f"{name}.{attribute}")
        return list(dict.fromkeys(found))


@functools.lru_cache(maxsize=1)
def _names(modules: int) -> list[tuple[str, Any, str]]:
    """Return every constant: the place's name, the place, the attribute.

    Args:
        modules: How many are loaded: others are looked through again.
    """
    return [
        (name, place, attribute)
        for name, place in places(modules)
        if is_ours(name)
        for attribute in vars(place)
        if _NAME.fullmatch(attribute)
    ]


def _content(table: Any) -> list[Any]:
    """Return what is in a table: of a dict the keys, then the values."""
    return [*table, *table.values()] if isinstance(table, dict) else list(table)


def _refill(table: Any, content: list[Any]) -> None:
    if isinstance(table, dict):
        half = len(content) // 2
        table.clear()
        table.update(zip(content[:half], content[half:], strict=True))
    elif isinstance(table, set):
        table.clear()
        table.update(content)
    else:
        table[:] = content
