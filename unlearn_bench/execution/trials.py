"""One run of tuning: unlearn a surrogate forget set, and say how far that is from retraining.

Originals and retrained models of surrogates are kept in the store and shared by all methods. What
a method makes of them under one of many settings is looked at once and not kept. All of it goes
on blindly: see ``core/blindness.py``.
"""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from unlearn_bench.core.blindness import blind
from unlearn_bench.core.memory import noting_halved
from unlearn_bench.execution.failures import Failures, RunFailedError
from unlearn_bench.execution.identity import RETRAIN, Identities, reference
from unlearn_bench.execution.models import SURROGATES, Models, with_halved
from unlearn_bench.execution.task import Step, Task
from unlearn_bench.measure import gap
from unlearn_bench.measure.clock import Clock
from unlearn_bench.measure.gap import Figures, View
from unlearn_bench.measure.metrics.cost import cost_records
from unlearn_bench.results.records import Record
from unlearn_bench.store.store import Artifact, Store
from unlearn_bench.suite.spec import RunSpec

# The figure that is minimised, and, by split, the gaps that it is the mean of; in points.
GAP = "tuning_gap"
MEASURING = "measure the gap"


class Trials:
    """Runs of tuning, on the surrogate that their specification names.

    Args:
        store: Where the models that all methods share are kept.
        identities: What determines each.
        failures: What becomes of an error.
        models: Makes them.

    Attributes:
        objective: Gives the figures that are compared.
    """

    def __init__(
        self, store: Store, identities: Identities, failures: Failures, models: Models
    ) -> None:
        self._store, self._identities = store, identities
        self._failures, self._models = failures, models
        self.objective: gap.Objective = gap.figures

    def run(self, spec: RunSpec, task: Task, step: Step) -> dict[str, Any]:
        """Return what a result says of the run, by the fields of :class:`RunResult`.

        Args:
            spec: Names a surrogate.
            task: Of that surrogate, its test part sealed.
            step: Notified of what is being done.

        Raises:
            RunFailedError: If the method failed, or it or the objective read what must not be
                read while tuning.
        """
        clock = Clock(task.device)
        try:
            return self._failures.guard(lambda: self._run(spec, task, step, clock))
        except RunFailedError as failure:
            # What failed has used up its share of the budget as well.
            seconds = {name: asdict(spent) for name, spent in clock.phases.items()}
            cost = {"seconds": seconds, "peak_bytes": None, "examples": {}}
            failure.records = tuple(cost_records(cost))
            raise

    def _run(self, spec: RunSpec, task: Task, step: Step, clock: Clock) -> dict[str, Any]:
        with blind():
            original = self._models.original(spec, task, step)
            retrained = self._models.unlearned(reference(spec), task, original, step)
            if spec.method == RETRAIN:
                weights, notes = retrained.tensors, retrained.notes
            else:
                with clock.phase("unlearn"):
                    state, notes = self._models.unlearn(spec, task, original, step)
                weights = dict(state)
            step(MEASURING)
            with noting_halved() as halved, clock.phase("evaluate"):
                wanted = self._figures_of(reference(spec), task, retrained)
                found = self._figures(task, weights)
        # Without what the method logged: of thousands of trials nobody reads it.
        return {
            "records": tuple(_records(gap.gaps(found, wanted), notes, clock)),
            "surrogates": notes.get(SURROGATES, {}),
            "environment": with_halved(notes["environment"], halved),
            "hashes": {"original": original.sha256, "retrained": retrained.sha256},
        }

    def _figures(self, task: Task, weights: dict[str, Tensor]) -> Figures:
        view = View(task.data, task.indices, task.device, task.seed)
        return self.objective(task.load(weights), view)

    def _figures_of(self, spec: RunSpec, task: Task, retrained: Artifact) -> Figures:
        """Return the figures of the retrained model, found once for all trials."""
        kept = self._store.get_or_build(
            "surrogate_figures",
            self._identities.figures(spec),
            lambda: ({}, {"figures": dict(self._figures(task, retrained.tensors))}),
        )
        figures: Figures = kept.notes["figures"]
        return figures


def _records(gaps: dict[str, float], notes: Any, clock: Clock) -> list[Record]:
    mean = sum(gaps.values()) / len(gaps)
    seconds = dict(notes["cost"]["seconds"]) | {"evaluate": asdict(clock.phases["evaluate"])}
    return [
        Record(GAP, "", mean),
        *(Record(GAP, name, value) for name, value in gaps.items()),
        *cost_records(notes["cost"] | {"seconds": seconds}),
    ]
