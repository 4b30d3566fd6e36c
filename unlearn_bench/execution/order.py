"""In which order runs go on: which run makes what others need, and who waits for it.

An original is trained by one run, and the retrained model that a scenario is compared with by
one run of that scenario; all others wait for it. So nothing is computed twice, and no worker waits
at another's lock.
"""

from collections.abc import Mapping

from unlearn_bench.core.keys import canonical_json
from unlearn_bench.execution.identity import previous
from unlearn_bench.execution.models import wants_log
from unlearn_bench.suite.spec import RunSpec


def awaited(runs: Mapping[int, RunSpec]) -> dict[int, frozenset[int]]:
    """Say for each run which others it waits for; those that train an original wait for none.

    An original is trained by a run that wants its training log, if there is one: it is recorded
    on the way then, and not by training again. A later request of a stream waits for the one
    before, which leaves the model that it starts from.

    Args:
        runs: By their place in the plan.
    """
    originals: dict[str, int] = {}
    cells: dict[tuple[str, str, str], int] = {}
    chains: dict[tuple[str, str], int] = {}
    after: dict[int, frozenset[int]] = {}
    # Earlier requests first: a run that others wait for must not wait for one of them.
    for position, spec in sorted(
        runs.items(), key=lambda item: (not wants_log(item[1]), item[1].request)
    ):
        training = canonical_json(spec.training_identity())
        cell = (training, spec.asked.model_dump_json(), spec.scenario)
        trainer = originals.setdefault(training, position)
        maker = cells.setdefault(cell, position)
        waits = {trainer if maker == position else maker}
        if (before := previous(spec)) is not None and _chain(before) in chains:
            waits.add(chains[_chain(before)])
        chains[_chain(spec)] = position
        after[position] = frozenset(waits - {position})
    return after


def _chain(spec: RunSpec) -> tuple[str, str]:
    """Name the model that a run leaves, as long as it is one of a stream."""
    return spec.scenario, canonical_json(spec.identity()) if spec.request else ""


def in_turn(runs: Mapping[int, RunSpec], at_a_time: int) -> dict[int, frozenset[int]]:
    """Return what :func:`awaited` says, in the order in which runs are to begin.

    One at a time they keep to the plan as far as nothing is missing: cell after cell is complete,
    and its data are loaded once. Side by side those come first that train an original, which is
    what the others wait for.
    """
    after = awaited(runs)
    first = {position: at_a_time > 1 and not after[position] for position in after}
    return {p: after[p] for p in sorted(after, key=lambda p: (not first[p], p))}
