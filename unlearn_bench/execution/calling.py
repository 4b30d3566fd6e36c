"""Call a method on a model: timed, watched, and with what it returns checked.

The harness, its isolated processes and the Python library all call methods here.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import MethodError, one_line
from unlearn_bench.core.memory import noting_halved
from unlearn_bench.execution.task import Unlearning
from unlearn_bench.results.checks import LARGEST
from unlearn_bench.toolkit.context import MAX_LOG_ENTRIES


@dataclass(frozen=True)
class Called:
    """What came of a method's call.

    Attributes:
        model: As returned, of the original's architecture and with finite weights.
        cost: As :meth:`Costs.notes` says it.
        log: As :func:`stored_log` says it.
        halved: What was done in smaller batches than planned, as memory did not suffice.
    """

    model: nn.Module
    cost: dict[str, Any]
    log: list[dict[str, float | None]]
    halved: dict[str, int]


def call(unlearning: Unlearning, model: nn.Module, params: Mapping[str, Any]) -> Called:
    """Call a method and check what it returns.

    Args:
        unlearning: The method with all that it is handed.
        model: A private copy of the original, in eval mode, on the task's device.
        params: All hyper-parameters.

    Raises:
        MethodError: If it left something changed that other runs share, or what it returned is
            no model of the original's architecture with finite weights.
    """
    expected = copy.deepcopy(model.state_dict())
    with noting_halved() as halved:
        returned = unlearning.run(model, params)
    unlearning.left.refuse("the method")
    return Called(
        check_model(returned, expected),
        unlearning.costs.notes(),
        stored_log(unlearning.context.log_entries),
        halved,
    )


def check_model(returned: object, expected: Mapping[str, Tensor]) -> nn.Module:
    """Return a method's model if it has the original's architecture and finite weights.

    Args:
        returned: What the method gave back.
        expected: State of the original.

    Raises:
        MethodError: With what is wrong and what is expected.
    """
    if not isinstance(returned, nn.Module):
        raise MethodError(
            f"the method returned {type(returned).__name__}, not a model; end it with "
            "`return model`"
        )
    check_state(returned.state_dict(), expected)
    return returned


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse weights of another architecture than the original's, or that are not finite.

    Raises:
        MethodError: With what is wrong and what is expected.
    """
    for name in sorted(expected.keys() | state.keys()):
        if name not in state or name not in expected:
            what = "lacks the" if name in expected else "has an additional"
            raise MethodError(f"the returned model {what} tensor {name}; keep the architecture")
        given, wanted = state[name], expected[name]
        if given.shape != wanted.shape or given.dtype != wanted.dtype:
            raise MethodError(
                f"tensor {name} came back as {given.dtype} {list(given.shape)}, expected "
                f"{wanted.dtype} {list(wanted.shape)}; keep the architecture"
            )
        if not torch.isfinite(given).all():
            raise MethodError(
                f"tensor {name} holds NaN or infinity; lower the learning rate, or watch the "
                "loss with unlearn_bench.api.check_finite"
            )


def _number(name: str, value: Tensor | float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        shape = f" of shape {list(value.shape)}" if isinstance(value, Tensor) else ""
        raise MethodError(
            f"ctx.log({name}=...) was given a {type(value).__name__}{shape}; log single numbers"
        ) from error


def stored_log(entries: list[dict[str, Tensor | float]]) -> list[dict[str, float | None]]:
    """Turn a method's log into numbers; very long ones are thinned evenly, the last entry kept.

    Numbers that are not finite become None, as JSON has no word for them.

    Raises:
        MethodError: If something other than a single number was logged.
    """
    stride = math.ceil(len(entries) / MAX_LOG_ENTRIES) or 1
    kept = {*range(0, len(entries), stride), len(entries) - 1} if entries else set()
    log = []
    for position in sorted(kept):
        entry = entries[position].items()
        values = {one_line(name): _number(name, value) for name, value in entry}
        # Not finite, or beyond what results hold: JSON and averages have no number for it.
        finite = {name: v if abs(v) <= LARGEST else None for name, v in values.items()}
        log.append({"step": float(position), **finite})
    return log
