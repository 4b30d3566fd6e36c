"""What a check is, and the list of all, filled by the modules that define them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unlearn_bench.conformance.subject import Subject

Look = Callable[[Subject], str]


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        name: What must hold, in a few words.
        why: Why it matters, in one line.
        look: Returns what was seen; raises `FailedError` or `NotApplicableError`.
    """

    name: str
    why: str
    look: Look


REGISTERED: list[Check] = []


def check(name: str, why: str) -> Callable[[Look], Look]:
    """Register a check; within a module they are made in order."""

    def register(look: Look) -> Look:
        REGISTERED.append(Check(name, why, look))
        return look

    return register


def listed(params: Mapping[str, Any]) -> str:
    """Say hyper-parameters in one line."""
    return ", ".join(f"{name}={value}" for name, value in params.items()) or "defaults"
