"""Call a method on a model: timed, watched, and with what it returns checked.

The harness, its isolated processes and the Python library all call methods here.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from unlearn_bench.core.memory import noting_halved
from unlearn_bench.execution.returned import check_model, stored_log
from unlearn_bench.execution.task import Unlearning
from unlearn_bench.toolkit.state import State


@dataclass(frozen=True)
class Called:
    """What came of a method's call.

    Attributes:
        model: As returned, of the original's architecture and with finite weights.
        cost: As :meth:`Costs.notes` says it.
        log: As :func:`stored_log` says it.
        halved: What was done in smaller batches than planned, as memory did not suffice.
        state: What the method leaves for the next request, if it keeps any.
    """

    model: nn.Module
    cost: dict[str, Any]
    log: list[dict[str, float | None]]
    halved: dict[str, int]
    state: State | None = None


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
        unlearning.state,
    )
