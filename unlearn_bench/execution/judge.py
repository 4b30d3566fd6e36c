"""What is seen of a run's models, and what the metrics make of it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from unlearn_bench.core.memory import noting_halved
from unlearn_bench.core.seeds import derive
from unlearn_bench.core.threads import as_many_as_torch
from unlearn_bench.execution.failures import Failures
from unlearn_bench.execution.identity import plugged
from unlearn_bench.execution.models import SURROGATES, Trio, with_halved
from unlearn_bench.execution.surroundings import put_back
from unlearn_bench.execution.task import Task
from unlearn_bench.measure import metrics
from unlearn_bench.measure.clock import Clock
from unlearn_bench.measure.lab import Lab
from unlearn_bench.measure.metrics.cost import cost_records
from unlearn_bench.measure.metrics.mia import loss_roc
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.measure.scores import memorisation_curves, score_curves
from unlearn_bench.measure.stream import stream_records
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
            lab = self.lab(spec, task)
            evaluation = guard(lambda: self._observe(lab, spec, task, models))
            measured, metric_seconds = guard(lambda: measure(evaluation))
            if spec.request:
                measured += guard(lambda: self._of_stream(lab, spec, models, evaluation))
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
            "surrogates": notes.get(SURROGATES, {}),
            "metric_seconds": metric_seconds,
            "environment": with_halved(notes["environment"], halved),
            "hashes": {"data": task.data.fingerprint, **models.hashes},
            "curves": (
                loss_roc(evaluation),
                *score_curves(evaluation.unlearned, task.indices),
                *memorisation_curves(task.memorisation, task.indices),
            ),
        }

    def observe(self, spec: RunSpec, task: Task, models: Trio) -> Evaluation:
        """Look at U, O and G."""
        return self._observe(self.lab(spec, task), spec, task, models)

    def lab(self, spec: RunSpec, task: Task) -> Lab:
        """Return what looks at the models of a run."""
        model = {"model": spec.model.model_dump(mode="json"), "device": spec.device}
        identity = model | spec.input_identity() | plugged(spec)
        return lab_of(self._store, task, identity, spec.relearn_steps)

    def _observe(self, lab: Lab, spec: RunSpec, task: Task, models: Trio) -> Evaluation:
        outputs = registry.get(spec.method).outputs
        return observe(lab, task, models, outputs, scope=spec.forget.scope)

    def _of_stream(
        self, lab: Lab, spec: RunSpec, models: Trio, evaluation: Evaluation
    ) -> list[Record]:
        """Return what is measured of a request of a stream besides."""
        return stream_records(
            lab,
            evaluation.unlearned["forget"],
            models.unlearned,
            models.original,
            registry.get(spec.method).outputs,
            last=spec.request == len(spec.forget.stream),
        )


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


def observe(
    lab: Lab, task: Task, models: Trio, outputs: OutputFilter | None = None, scope: str = ""
) -> Evaluation:
    """Look at U, O and G.

    Args:
        lab: Of the task.
        task: What the models are of.
        models: U, O and, where there is one, G.
        outputs: What U's logits pass through before anyone sees them.
        scope: What kind of scenario it is, as methods name it in ``forgets=``.
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
        scope,
        memorised(task),
    )


def memorised(task: Task) -> dict[str, Tensor]:
    """Return the estimates of memorisation over F and R, where F was chosen by them."""
    if task.memorisation is None:
        return {}
    return {
        "forget": task.memorisation[task.indices.forget],
        "retain": task.memorisation[task.indices.retain],
    }


def measure(evaluation: Evaluation) -> tuple[list[Record], dict[str, float]]:
    """Compute every metric; return the records and the CPU seconds of each function of metrics.

    Raises:
        MethodError: If a metric left something changed that other runs share.
    """
    # What loads libraries and fills the table of metrics comes first: it changes what is watched.
    metrics.load_built_in()
    with as_many_as_torch(), put_back() as left:
        found = metrics.compute(evaluation)
    left.refuse("a metric")
    return found
