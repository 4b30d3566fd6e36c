"""One run: get the original, let the method unlearn, evaluate, and say what it cost.

Originals, unlearned models and logits are artifacts of the store, so that a run that was
killed goes on where the last artifact was finished, and nothing is computed twice.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlearn_bench.core.fence import Fence
from unlearn_bench.core.keys import file_hash
from unlearn_bench.data.datasets import Dataset, places
from unlearn_bench.data.requests import InTurn
from unlearn_bench.data.splits import Indices
from unlearn_bench.data.surrogate_data import SurrogateData
from unlearn_bench.execution.capacity import usual_threads
from unlearn_bench.execution.failures import Failures
from unlearn_bench.execution.identity import Identities
from unlearn_bench.execution.inputs import Inputs
from unlearn_bench.execution.judge import Judge
from unlearn_bench.execution.memorisation import Memorisation
from unlearn_bench.execution.models import Models
from unlearn_bench.execution.task import Step, Task
from unlearn_bench.execution.trials import Trials
from unlearn_bench.measure.clock import environment
from unlearn_bench.plugins import registry
from unlearn_bench.results.records import RunResult
from unlearn_bench.store.store import Artifact, Store
from unlearn_bench.suite.spec import RunSpec
from unlearn_bench.training.models import load_weights
from unlearn_bench.training.numerics import repeat_itself

# The step in which models are made and only looked at any more: a run that is ended there has
# made what others may rely on.
EVALUATING = "evaluate"


class Runner:
    """Runs single specifications on one device.

    Args:
        store: Where artifacts are kept.
        device: Where models and data are put.
        data_root: Folder of the datasets.
        download: Whether missing datasets may be downloaded.
        threads: CPU threads of runs whose suite fixes none; by default torch's number.
        results: The results folder, which is closed to methods.

    Attributes:
        models: Makes the models of runs.
        memorisation: Estimates how far originals memorise each example.
        judge: Looks at them.
        trials: Does both while a method is tuned.
        notify: Receives in one line what the user should know.
    """

    def __init__(
        self,
        store: Store,
        device: torch.device,
        *,
        data_root: Path | None = None,
        download: bool = False,
        threads: int | None = None,
        results: Path | None = None,
    ) -> None:
        self._device, self._store = device, store
        self._results = results
        self._environment = dict(environment(device))
        self._threads = threads or usual_threads(torch.get_num_threads())
        repeat_itself()
        self.data_root, self.download = data_root, download
        self.notify = store.notify
        self._inputs = Inputs(device, data_root, download, store.notify)
        self._identities = Identities(self._inputs.fingerprint, self._inputs.surrogate_digest)
        self._failures = Failures(device)
        self._in_turn = InTurn()
        self._fence_of = lru_cache(maxsize=8)(self._fence)
        self.models = Models(
            store,
            self._identities,
            self._failures,
            self._environment_of,
            lambda spec: self._fence_of(spec.dataset, spec.surrogate_data),
            self.task,
            self._inputs.surrogates,
        )
        self.memorisation = Memorisation(store, self._identities, self._failures, self.models)
        self.judge = Judge(store, self._failures)
        self.trials = Trials(store, self._identities, self._failures, self.models)

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprint of every dataset loaded so far, by name."""
        return self._inputs.fingerprints

    @property
    def inputs(self) -> Mapping[str, Mapping[str, Any]]:
        """Of every dataset loaded so far: how pixels become inputs, and the order of classes."""
        return self._inputs.facts

    @property
    def device(self) -> torch.device:
        """Where models and data are put."""
        return self._device

    @property
    def failed(self) -> Mapping[str, str]:
        """What failed so far, by the key of a run or of an original, with the reason."""
        return self._failures.reasons

    @property
    def environment(self) -> Mapping[str, Any]:
        """Hardware and versions of this process."""
        return self._environment

    def _threads_of(self, spec: RunSpec) -> int:
        return spec.threads or self._threads

    def _environment_of(self, spec: RunSpec) -> dict[str, Any]:
        return self._environment | {"threads": self._threads_of(spec)}

    def _fence(self, *datasets: str | None) -> Fence:
        """Return what is closed to methods: store, results and data."""
        found = [place for name in datasets if name for place in places(name, self.data_root)]
        closed = dict.fromkeys(found, "data that models are made from")
        closed[self._store.home.absolute()] = "the store of models"
        if self._results is not None:
            closed[self._results] = "the results folder"
        return Fence(closed)

    def dataset(self, spec: RunSpec) -> Dataset:
        """Return the run's dataset; the last two stay in memory."""
        return self._inputs.dataset(spec)

    def data_bytes(self, specs: Iterable[RunSpec]) -> int:
        """Return the bytes of images that a process holds at most while it does these runs."""
        return self._failures.guard_suite(lambda: self._inputs.bytes_held(specs))

    def task(self, spec: RunSpec) -> Task:
        """Return what the run has in common with others of its dataset, model, scenario and seed.

        Where F follows from a trained model, others of the same number stand in for it: whatever
        can be wrong shows before anything is trained.

        Raises:
            DataError: If the data are missing, or the forget set does not exist.
        """
        return Task.of(spec, self.dataset(spec), self._device, in_turn=self._in_turn)

    def remember(self, failed: Mapping[str, str]) -> None:
        """Take over what failed elsewhere, by key with the reason, not to try it again."""
        self._failures.reasons.update(failed)

    def check_split(self, spec: RunSpec) -> Indices:
        """Find out before anything is trained whether the forget set exists, and return it.

        Raises:
            DataError: If it does not, or the data are missing.
            ModelError: If memory does not hold them.
        """
        return self._failures.guard_suite(lambda: self.task(spec).indices)

    def check_model(self, spec: RunSpec) -> nn.Module:
        """Find out before anything is trained whether the model fits the data, and return it.

        Raises:
            UserError: If it cannot be built, or the given weights do not fit it.
        """

        def build() -> nn.Module:
            model = self.task(spec).build(seed=0)
            for given in (spec.original, spec.unlearned):
                if given is not None:
                    for note in load_weights(model, given.path):
                        self.notify(note)
            return model

        return self._failures.guard_suite(build)

    def surrogates(self, spec: RunSpec) -> SurrogateData | None:
        """Return the surrogate images that a run names, None where it names none."""
        return self._inputs.surrogates(spec)

    def check_surrogates(self, spec: RunSpec) -> None:
        """Find out before anything is trained whether there are as many surrogates as asked for.

        Raises:
            UserError: If there are fewer or none, or they are the suite's own images.
        """
        self._failures.guard_suite(lambda: self.models.surrogates(spec, self.task(spec)))

    def identity(self, spec: RunSpec, kind: str) -> dict[str, Any]:
        """Return what determines something that the run keeps of its models in the store.

        Args:
            spec: The run.
            kind: ``original``, ``unlearned``, ``training_log`` or ``memorisation``.
        """
        of_kind: dict[str, Callable[[RunSpec], dict[str, Any]]] = {
            "original": self._identities.original,
            "unlearned": self._identities.unlearned,
            "training_log": self._identities.training_log,
            "memorisation": self.memorisation.identity,
        }
        return of_kind[kind](spec)

    def key(self, spec: RunSpec) -> str:
        """Return the key of the run's result: specification, data and method code."""
        return self._identities.key(spec)

    def original_key(self, spec: RunSpec) -> str:
        """Return a key of the original that the run starts from, for :attr:`failed`."""
        return self._identities.original_key(spec)

    def run(self, spec: RunSpec, step: Step) -> RunResult:
        """Execute one run.

        Args:
            spec: What to run.
            step: Receives in a few words what is being done.

        Returns:
            The result, status ``ok``.

        Raises:
            RunFailedError: If the method or its training failed; other runs are not concerned.
            UserError: If nothing can run: no data, no space.
        """
        # More threads than small tensors can feed only wait for each other.
        torch.set_num_threads(self._threads_of(spec))
        task = self._failures.guard(lambda: self.task(spec))
        if spec.forget.memorised is not None and spec.surrogate is None:
            estimate = self.memorisation.of(spec, task, step)
            task = Task.of(spec, self.dataset(spec), self._device, estimate, self._in_turn)
        if spec.surrogate is not None:
            return self.result(spec, "ok", **self.trials.run(spec, task, step))
        made = self.models.of(spec, task, step)
        step(EVALUATING)
        return self.result(spec, "ok", **self.judge.judge(spec, task, made))

    def original(self, spec: RunSpec, step: Step) -> Artifact:
        """Return the original that a run starts from, trained unless the store holds it.

        Raises:
            RunFailedError: If it cannot be trained.
        """
        return self.models.original(spec, self.task(spec), step)

    def given_accuracy(self, spec: RunSpec) -> float:
        """Return the share of test images that the user's own weights classify.

        Raises:
            ModelError: If it is little more than chance.
            RunFailedError: If it cannot be found out here.
        """
        return self.models.given_accuracy(spec, self.task(spec))

    def result(
        self, spec: RunSpec, status: Any, *, hashes: Mapping[str, str] | None = None, **rest: Any
    ) -> RunResult:
        """Return a result for ``spec`` with everything filled in that the specification says."""
        method = registry.get(spec.method)
        known = {"data": self._inputs.fingerprint(spec), "method_file": file_hash(method.file)}
        # How a model was unlearned makes no difference to how it is judged.
        kind = "method" if method.kind == "given" else method.kind
        return RunResult(
            key=self.key(spec),
            method=spec.label,
            kind=kind,
            dataset=spec.dataset,
            model=spec.model.label,
            scenario=spec.scenario,
            seed=spec.seed,
            params=spec.params,
            status=status,
            hashes=known | dict(hashes or {}),
            draw=spec.draw if kind == "method" else 0,
            request=spec.request,
            **{"environment": self._environment_of(spec)} | rest,
        )
