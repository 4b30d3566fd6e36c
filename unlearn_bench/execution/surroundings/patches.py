"""Functions that a plug-in replaces in modules and classes: torch's, the harness's, the clock."""

import builtins
import functools
import math
import os
import random
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from operator import is_
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
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
    torch.serialization,
    torch.utils.data,
    np,
    np.linalg,
    np.random,
    safetensors,
    safetensors.torch,
    builtins,
    math,
    os,
    random,
    time,
)
_WITH_CLASSES = (torch.nn, torch.optim, torch.utils.data)
_OURS = ("unlearn_bench", "unlearn_bench_methods")


class Functions:
    """Which functions the modules and classes hold, at the moment when this is made."""

    def __init__(self) -> None:
        loaded = len(sys.modules)
        self._held = [(name, place, dict(vars(place))) for name, place in places(loaded)]
        self._parts = [(function, _parts(function)) for function in _own_functions(loaded)]

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
        for function, parts in self._parts:
            if not _same(_parts(function), parts):
                function.__code__, function.__defaults__, *named = parts
                half = len(named) // 2
                function.__kwdefaults__ = dict(zip(named[:half], named[half:], strict=True))
                found.append(f"{function.__module__}.{function.__qualname__}")
        return found


def is_ours(name: str) -> bool:
    """Whether a module or class of this name belongs to the harness."""
    return name.partition(".")[0] in _OURS


@functools.lru_cache(maxsize=1)
def _own_functions(loaded: int) -> list[FunctionType]:
    """Return the harness's functions, with those that they wrap; the count is of modules."""
    held = [h for name, place in places(loaded) if is_ours(name) for h in vars(place).values()]
    return list(dict.fromkeys(function for one in held for function in _functions(one)))


def _functions(held: Any) -> Iterator[FunctionType]:
    """Yield what is called in the end: a function, and those that it wraps."""
    if isinstance(held, staticmethod | classmethod):
        held = held.__func__
    while isinstance(held, FunctionType):
        yield held
        held = held.__dict__.get("__wrapped__")


def _parts(function: FunctionType) -> tuple[Any, ...]:
    """Return what a function does: its code and its defaults, those of keywords by name."""
    named = function.__kwdefaults__ or {}
    return function.__code__, function.__defaults__, *named, *named.values()


def _same(now: Collection[Any], before: Collection[Any]) -> bool:
    """Whether both hold the same objects: what a plug-in puts in may say that it equals all."""
    return len(now) == len(before) and all(map(is_, now, before))


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names that hold something else."""
    if _same(now.values(), before.values()):  # mostly, and quick
        return []
    return [name for name, old in before.items() if now.get(name) is not old]


@functools.lru_cache(maxsize=1)
def places(modules: int) -> list[tuple[str, Any]]:
    """Return modules and classes by name.

    Args:
        modules: How many are loaded: others are looked through again.
    """
    ours = [
        module for name, module in list(sys.modules.items()) if is_ours(name) and module is not None
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
