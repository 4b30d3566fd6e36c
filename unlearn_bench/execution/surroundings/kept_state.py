"""What a method keeps in its module from one call to the next.

A method is handed the data of one run. What it keeps for a later one, such as examples that are
forgotten there and retained here, is more than it may read.
"""

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace, TracebackType
from typing import Any, Self

from torch import Tensor

DEPTH = 4  # of containers in each other
MOST = 1000  # entries of a container that are looked at


@dataclass(frozen=True)
class _Seen:
    """An object, and what it held."""

    held: object
    content: tuple["_Seen", ...] = ()

    def is_as(self, other: "_Seen") -> bool:
        """Whether another look found the same."""
        equal = type(self.held) is int and self.held == other.held
        if not equal and self.held is not other.held or len(self.content) != len(other.content):
            return False
        return all(a.is_as(b) for a, b in zip(self.content, other.content, strict=True))


class KeptState:
    """Compares a method's module before and after a call, and puts it back.

    Found are names that are bound to something else, and containers, tensors, functions and
    classes with another content.

    Args:
        function: The method's.

    Attributes:
        kept: What was found, in words.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = function.__module__
        self._module: ModuleType | None = sys.modules.get(self._name)
        self._before: dict[str, tuple[_Seen, Any]] = {}
        self.kept: list[str] = []

    def __enter__(self) -> Self:
        self._before = {
            name: (_look(held, self._name), _copy(held)) for name, held in self._variables().items()
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        names = []
        for name, held in self._variables().items():
            if name not in self._before:
                if not isinstance(held, ModuleType):  # imported within the call
                    delattr(self._module, name)
                    names.append(name)
                continue
            seen, copy = self._before[name]
            if not seen.is_as(_look(held, self._name)):
                setattr(self._module, name, seen.held)
                with contextlib.suppress(Exception):  # of a class of the plug-in's
                    _refill(seen.held, copy)
                names.append(name)
        if names:
            self.kept.append(f"variables of its module: {', '.join(sorted(names))}")

    def _variables(self) -> dict[str, Any]:
        held = vars(self._module) if self._module else {}
        return {name: value for name, value in held.items() if not name.startswith("__")}


def _look(held: Any, module: str, depth: int = DEPTH) -> _Seen:
    """Note an object and what it holds; what another module defines, that looks after."""
    inside = _inside(held, module) if depth else ()
    seen = (_look(item, module, depth - 1) for item, _ in zip(inside, range(MOST), strict=False))
    return _Seen(held, tuple(seen))


def _inside(held: Any, module: str) -> Iterable[Any]:
    if isinstance(held, dict):
        return [part for pair in held.items() for part in pair]
    if isinstance(held, list | tuple | deque):
        return held
    if isinstance(held, set):
        return sorted(held, key=id)
    if isinstance(held, Tensor):
        return (held._version,)
    own = isinstance(held, SimpleNamespace) or module in (
        getattr(held, "__module__", ""),
        type(held).__module__,
    )
    if own and hasattr(held, "cache_info"):
        return (held.cache_info().currsize,)
    return [part for pair in _attributes(held).items() for part in pair] if own else ()


def _attributes(held: Any) -> dict[str, Any]:
    # Python itself notes things at classes, under names with two underscores.
    found = vars(held) if hasattr(held, "__dict__") else {}
    return {name: value for name, value in found.items() if not name.startswith("__")}


def _copy(held: Any) -> Any:
    """Return what :func:`_refill` puts back, one level deep."""
    if isinstance(held, dict | list | set | deque):
        return held.copy()
    return _attributes(held) if isinstance(held, type | SimpleNamespace) or callable(held) else None


def _refill(held: Any, copy: Any) -> None:
    if isinstance(held, dict | set):
        held.clear()
        held.update(copy)
    elif isinstance(held, list | deque):
        held.clear()
        held.extend(copy)
    elif hasattr(held, "cache_clear"):
        held.cache_clear()
    elif copy is not None:
        for name in _attributes(held).keys() - copy.keys():
            delattr(held, name)
        for name, value in copy.items():
            if vars(held).get(name) is not value:
                setattr(held, name, value)
