"""What is seen of a run's models, and what the metrics make of it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unlearn_bench.core.memory import noting_halved
from unlearn_bench.core.seeds import derive
from unlearn_bench.execution.failures import Failures
from unlearn_bench.execution.identity import plugged
from unlearn_bench.execution.models import Trio, with_halved
from unlearn_bench.execution.surroundings import put_back
from unlearn_bench.execution.task import Task
from unlearn_bench.measure import metrics
from unlearn_bench.measure.clock import Clock
from unlearn_bench.measure.lab import Lab
from unlearn_bench.measure.metrics.cost import cost_records
from unlearn_bench.measure.metrics.mia import loss_roc
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.measure.scores import score_curves
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import OutputFilter
from unlearn_bench.results.records import Record
from unlearn_bench.store.store import Keeps, Store
from unlearn_bench.suite.spec import RELEARN_STEPS, RunSpec


class Judge:
    """Looks at the models of runs and computes every metric.

    Args:
        store: Where what was seen is kept.
        failures: What becomes of an error.
    """

    def __init__(self, store: Store, failures: Failures) -> None:
        self._store, self._failures = store, failures

    def judge(self, spec: RunSpec, task: Task, models: Trio) -> dict[str, Any]:
        """Return what a result says of the models, by the fields of :class:`RunResult`.

        Raises:
            RunFailedError: If a metric fails.
        """
        clock = Clock(task.device)
        guard = self._failures.guard
        with noting_halved() as halved, clock.phase("evaluate"):
            evaluation = guard(lambda: self.observe(spec, task, models))
            measured, metric_seconds = guard(lambda: measure(evaluation))
            probed = evaluation.unlearned.probed
            for name, spent in (probed.seconds if probed else {}).items():
                metric_seconds[f"probe {name}"] = spent
        notes = models.unlearned.notes
        seconds = dict(notes["cost"]["seconds"])
        seconds["evaluate"] = asdict(clock.phases["evaluate"])
        if "seconds" in models.original.notes:
            seconds["original"] = models.original.notes["seconds"]
        records = measured + cost_records(notes["cost"] | {"seconds": seconds})
        return {
            "records": tuple(records),
            "log": tuple(notes["log"]),
            "error": models.missing,
            "metric_seconds": metric_seconds,
            "environment": with_halved(notes["environment"], halved),
            "hashes": models.hashes,
            "curves": (
                loss_roc(evaluation),
                *score_curves(evaluation.unlearned, task.indices),
            ),
        }

    def observe(self, spec: RunSpec, task: Task, models: Trio) -> Evaluation:
        """Look at U, O and G."""
        return observe(self.lab(spec, task), task, models, registry.get(spec.method).outputs)

    def lab(self, spec: RunSpec, task: Task) -> Lab:
        """Return what looks at the models of a run."""
        model = {"model": spec.model.model_dump(mode="json"), "device": spec.device}
        identity = model | spec.input_identity() | plugged(spec)
        return lab_of(self._store, task, identity, spec.relearn_steps)


def lab_of(
    store: Keeps, task: Task, identity: Mapping[str, Any], relearn_steps: int = RELEARN_STEPS
) -> Lab:
    """Return what looks at the models of a task.

    Args:
        store: Where what was seen is kept.
        task: What the models are of.
        identity: What determines architecture, inputs and device, as JSON values.
        relearn_steps: After how many steps relearning is given up.
    """
    return Lab(
        store,
        task.data,
        task.indices,
        task.device,
        blank=task.blank,
        build=task.build if task.builds else None,
        identity=identity,
        seed=derive(task.seed, "probes"),
        relearn_steps=relearn_steps,
    )


def observe(lab: Lab, task: Task, models: Trio, outputs: OutputFilter | None = None) -> Evaluation:
    """Look at U, O and G.

    Args:
        lab: Of the task.
        task: What the models are of.
        models: U, O and, where there is one, G.
        outputs: What U's logits pass through before anyone sees them.
    """
    original, retrained = models.original, models.retrained
    return Evaluation(
        lab.observe(models.unlearned, original, outputs),
        lab.observe(original, original),
        lab.observe(retrained, original) if retrained else None,
        task.data.classes,
        lab.random_logits(),
        models.missing,
        task.indices.forget_classes,
        derive(task.seed, "evaluate"),
    )


def measure(evaluation: Evaluation) -> tuple[list[Record], dict[str, float]]:
    """Compute every metric; return the records and the CPU seconds of each function of metrics.

    Raises:
        MethodError: If a metric left something changed that other runs share.
    """
    with put_back() as left:
        found = metrics.compute(evaluation)
    left.refuse("a metric")
    return found
