"""How far the original memorises each training example: its confidence beyond what others teach.

The original's training set is divided into two halves, class by class and by the seed, and a model
is trained on each by the suite's recipe. One of the two has seen an example (x, y), the other has
not: ``mem = p_seen(y | x) - p_unseen(y | x)``, in [-1, 1]. It is an estimate from one pair of
models on half of the data, which orders examples well enough to choose among them, and costs about
one training of the original. Both models and the estimate are kept in the store; every scenario,
level and method of the same original shares them.

Sources: Feldman 2020, arXiv:1906.05271, for the quantity; Zhao et al. 2024, arXiv:2406.01257, for
its part in unlearning.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from unlearn_bench.core.seeds import derive
from unlearn_bench.execution.failures import Failures
from unlearn_bench.execution.identity import Identities
from unlearn_bench.execution.models import Models
from unlearn_bench.execution.task import Step, Task
from unlearn_bench.measure import evaluate
from unlearn_bench.measure.clock import Clock
from unlearn_bench.store.store import Artifact, Built, Store
from unlearn_bench.suite.forget import MEMORISATION
from unlearn_bench.suite.spec import RunSpec
from unlearn_bench.toolkit.memorisation import halves_by_class
from unlearn_bench.training.loop import train

HALVES = (0, 1)
TRAINING = "train on half of the data"
SCORING = "score memorisation"


def halves(members: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Divide examples into two halves, each with half of every class, sorted.

    Args:
        members: int64 [M], into the training part.
        labels: Class of every training example, [N].
        seed: Determines the division.
    """
    generator = torch.Generator().manual_seed(derive(seed, "memorisation"))
    first, second = halves_by_class(labels[members], generator)
    return members[first].sort().values, members[second].sort().values


class Memorisation:
    """Estimates memorisation once per original.

    Args:
        store: Where models and estimates are kept.
        identities: What determines each.
        failures: What becomes of an error.
        models: Makes models once, or says again why they cannot be made.
    """

    def __init__(
        self, store: Store, identities: Identities, failures: Failures, models: Models
    ) -> None:
        self._store, self._identities = store, identities
        self._failures, self._models = failures, models

    def identity(self, spec: RunSpec) -> dict[str, Any]:
        """Return what determines the estimate: what determines the original."""
        return self._identities.original(_whole(spec)) | {"memorisation": MEMORISATION}

    def of(self, spec: RunSpec, task: Task, step: Step) -> Tensor:
        """Return the estimate for every training example, float64 [N].

        Args:
            spec: The run.
            task: Of the run; who is forgotten makes no difference.
            step: Notified of what is being done.

        Returns:
            NaN for examples that the original is not trained on.

        Raises:
            RunFailedError: If one of the two models cannot be trained.
        """
        # Of an ensemble as of one model: who is memorised is not to depend on the method.
        spec, task = _whole(spec), replace(task, model=task.model.whole)
        parts = halves(task.indices.train, task.data.train.labels, task.seed)
        trained = [self._model(spec, task, parts[number], number, step) for number in HALVES]

        def build() -> Built:
            step(SCORING)
            return {"scores": scores(task, parts, [made.tensors for made in trained])}, {}

        kept = self._failures.guard(
            lambda: self._store.get_or_build("memorisation", self.identity(spec), build)
        )
        return kept.tensors["scores"]

    def _model(
        self, spec: RunSpec, task: Task, members: Tensor, number: int, step: Step
    ) -> Artifact:
        """Return the model trained on one half."""

        def build() -> Built:
            step(f"{TRAINING} ({number + 1} of {len(HALVES)})")
            seed = derive(task.seed, "memorisation", number)
            model = task.build(seed).to(task.device)
            clock = Clock(task.device)
            with clock.phase("half"):
                half = task.split(f"half {number}", members, "memorisation")
                train(model, half, task.recipe, seed=seed, step=lambda text: None)
            return model.state_dict(), {"seconds": asdict(clock.phases["half"])}

        key = f"{self._identities.original_key(spec)} half {number}"
        return self._models.made(
            "memorisation_half", self.identity(spec) | {"half": number}, key, build
        )


def _whole(spec: RunSpec) -> RunSpec:
    return spec.model_copy(update={"model": spec.model.whole})


def scores(task: Task, parts: tuple[Tensor, Tensor], weights: list[Mapping[str, Tensor]]) -> Tensor:
    """Return ``p_seen(y | x) - p_unseen(y | x)`` of every example in either half, float64 [N].

    Args:
        task: Gives data and architecture.
        parts: The halves, int64 into the training part.
        weights: Of the model trained on each.
    """
    labels = task.data.train.labels
    found = torch.full((len(labels),), torch.nan, dtype=torch.float64)
    found[torch.cat(parts)] = 0
    for number, state in enumerate(weights):
        model = task.load(state)
        for half, members in enumerate(parts):
            logits = evaluate.logits(model, task.data, task.data.train, task.device, members)
            true = logits.softmax(1).gather(1, labels[members][:, None]).squeeze(1)
            found[members] += true if half == number else -true
    return found
