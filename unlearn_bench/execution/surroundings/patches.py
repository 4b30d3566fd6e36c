"""Functions that a plug-in replaces in modules and classes: torch's, the harness's, the clock."""

import builtins
import contextlib
import functools
import math
import os
import random
import sys
import time
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

# Without what is loaded at need: a new name replaces nothing.
_FOREIGN: tuple[ModuleType, ...] = (
    torch,
    torch.autograd,
    torch.linalg,
    torch.nn,
    torch.nn.functional,
    torch.nn.init,
    torch.optim,
    torch.optim.lr_scheduler,
    torch.random,
    torch.utils.data,
    np,
    np.random,
    builtins,
    math,
    os,
    random,
    time,
)
_WITH_CLASSES = (torch.nn, torch.optim, torch.utils.data)


class Functions:
    """Which functions the modules and classes hold, at the moment when this is made."""

    def __init__(self) -> None:
        self._held = [(name, place, dict(vars(place))) for name, place in _places(len(sys.modules))]
        self._codes = {
            held: held.__code__
            for name, _, names in self._held
            if name.startswith("unlearn_bench")
            for held in names.values()
            if isinstance(held, FunctionType)
        }

    def restore(self) -> list[str]:
        """Put back what was replaced since, and return its names."""
        found = []
        for name, place, before in self._held:
            now = vars(place)
            for attribute in _changed(before, now):
                old = before[attribute]
                if _is_function(old) and not _wrapped_by_torch(now.get(attribute), old):
                    setattr(place, attribute, old)
                    found.append(f"{name}.{attribute}")
        for function, code in self._codes.items():
            if function.__code__ is not code:
                function.__code__ = code
                found.append(f"{function.__module__}.{function.__qualname__}")
        return found


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names that hold something else."""
    # Mostly nothing changed, and this comparison is quick; it raises at what has no truth value.
    with contextlib.suppress(Exception):
        if now == before:
            return []
    return [name for name, old in before.items() if now.get(name) is not old]


@functools.lru_cache(maxsize=1)
def _places(modules: int) -> list[tuple[str, Any]]:
    """Return modules and classes by name.

    Args:
        modules: How many are loaded: others are looked through again.
    """
    ours = [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("unlearn_bench", "unlearn_bench_methods")
    ]
    found: dict[int, tuple[str, Any]] = {id(torch.Tensor): ("torch.Tensor", torch.Tensor)}
    for module in (*_FOREIGN, *ours):
        found[id(module)] = module.__name__, module
        if module in _WITH_CLASSES or module in ours:
            for name, held in list(vars(module).items()):
                if isinstance(held, type) and held.__module__.startswith(module.__name__):
                    found.setdefault(id(held), (f"{module.__name__}.{name}", held))
    return list(found.values())


def _is_function(held: object) -> bool:
    return callable(held) or isinstance(held, property | staticmethod | classmethod)


def _wrapped_by_torch(new: object, old: object) -> bool:
    """Whether it is torch itself that wraps a function, as torch.compile does with optimisers."""
    code = getattr(new, "__code__", None)
    if code is None or not code.co_filename.startswith(torch.__path__[0]):
        return False
    while new is not None and new is not old:
        new = getattr(new, "__wrapped__", None) or getattr(new, "_torchdynamo_orig_callable", None)
    return new is old
