"""What a method keeps in its module is found after the call, and gone before the next."""

import functools
import sys
from collections import deque
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from unlearn_bench.execution.surroundings.kept_state import KeptState


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with a method and some of everything that could hold something."""
    made: Any = ModuleType("of_a_method")
    text = "def method(): ...\nclass Own: seen = 0\ndef double(x): return 2 * x"
    exec(text, vars(made))
    made.double = functools.cache(made.double)
    made.own, made.table, made.nested, made.items = made.Own(), {"a": 1}, {"deep": {"er": []}}, [1]
    made.places, made.line, made.count, made.pair = {1}, deque([1]), 0, ([],)
    made.space, made.tensor, made.foreign = SimpleNamespace(x=1), torch.zeros(2), torch
    monkeypatch.setitem(sys.modules, "of_a_method", made)
    return made


KEEPING: dict[str, Callable[[Any], object]] = {
    "count": lambda m: setattr(m, "count", 1),
    "later": lambda m: setattr(m, "later", [1]),
    "table": lambda m: m.table.update(b=2),
    "nested": lambda m: m.nested["deep"]["er"].append(1),
    "items": lambda m: m.items.append(2),
    "pair": lambda m: m.pair[0].append(2),
    "places": lambda m: m.places.add(2),
    "line": lambda m: m.line.append(2),
    "space": lambda m: setattr(m.space, "x", 2),
    "tensor": lambda m: m.tensor.add_(1),
    "own": lambda m: setattr(m.own, "y", 2),
    "Own": lambda m: setattr(m.Own, "seen", 1),
    "method": lambda m: setattr(m.method, "calls", 1),
    "double": lambda m: m.double(2),
}


@pytest.mark.parametrize("name", KEEPING)
def test_what_is_kept_is_named_and_put_back(name: str, module: Any) -> None:
    with KeptState(module.method) as state:
        KEEPING[name](module)
    assert state.kept == [f"variables of its module: {name}"]
    assert not hasattr(module, "later") and module.count == 0 and module.table == {"a": 1}
    assert module.items == [1] and module.places == {1} and module.line == deque([1])
    assert module.Own.seen == 0 and not hasattr(module.method, "calls")


def test_nothing_is_said_of_a_module_that_is_as_it_was(module: Any) -> None:
    with KeptState(module.method) as state:
        module.table["b"] = 2
        del module.table["b"]
        module.system = sys  # as a `global` import does
        module.own = module.own
    assert state.kept == [] and module.system is sys
