"""In which order runs go on: which run makes what others need, and who waits for it.

An original is trained by one run, and the retrained model that a scenario is compared with by
one run of that scenario; all others wait for it. So nothing is computed twice, and no worker waits
at another's lock.
"""

from collections.abc import Mapping

from unlearn_bench.core.keys import canonical_json
from unlearn_bench.execution.models import wants_log
from unlearn_bench.suite.spec import RunSpec


def awaited(runs: Mapping[int, RunSpec]) -> dict[int, int | None]:
    """Say for each run which other one it waits for, None for those that train an original.

    An original is trained by a run that wants its training log, if there is one: it is recorded
    on the way then, and not by training again.

    Args:
        runs: By their place in the plan.
    """
    originals: dict[str, int] = {}
    cells: dict[tuple[str, str, str], int] = {}
    after: dict[int, int | None] = {}
    for position, spec in sorted(runs.items(), key=lambda item: not wants_log(item[1])):
        training = canonical_json(spec.training_identity())
        cell = (training, spec.forget.model_dump_json(), spec.scenario)
        if training not in originals:
            after[position] = None
        elif cell not in cells:
            after[position] = originals[training]
        else:
            after[position] = cells[cell]
        originals.setdefault(training, position)
        cells.setdefault(cell, position)
    return after


def in_turn(runs: Mapping[int, RunSpec], at_a_time: int) -> dict[int, int | None]:
    """Return what :func:`awaited` says, in the order in which runs are to begin.

    One at a time they keep to the plan as far as nothing is missing: cell after cell is complete,
    and its data are loaded once. Side by side those come first that train an original, which is
    what the others wait for.
    """
    after = awaited(runs)
    first = {position: at_a_time > 1 and after[position] is None for position in after}
    return {p: after[p] for p in sorted(after, key=lambda p: (not first[p], p))}
