"""The models that runs compare: made once and kept in the store, with the log of a training.

Nothing is made twice: what the store holds is loaded, and what failed is not tried again.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from unlearn_bench.core.errors import MethodError
from unlearn_bench.core.fence import FENCED, ISOLATION, Fence
from unlearn_bench.core.seeds import derive
from unlearn_bench.data.surrogate_data import SurrogateData
from unlearn_bench.execution.calling import call
from unlearn_bench.execution.failures import Failures, RunFailedError
from unlearn_bench.execution.given import check_classifies, given_original, given_unlearned
from unlearn_bench.execution.identity import Identities, previous, reference
from unlearn_bench.execution.isolation import Isolation
from unlearn_bench.execution.isolation.call import Call
from unlearn_bench.execution.isolation.confine import weight_caches
from unlearn_bench.execution.returned import check_state
from unlearn_bench.execution.shards import Shards
from unlearn_bench.execution.task import Step, Task, Unlearning
from unlearn_bench.measure.clock import Clock
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.access import SPLITS
from unlearn_bench.store.layout import CODE, is_made_by_other_code
from unlearn_bench.store.store import Artifact, Built, Store
from unlearn_bench.suite.spec import RunSpec
from unlearn_bench.toolkit.checkpoints import Checkpoints
from unlearn_bench.toolkit.context import TrainingLog
from unlearn_bench.toolkit.state import State
from unlearn_bench.training.loop import UpdateLog

# How the steps begin that are told of while an original is trained.
TRAINING = "train original"
RECORDING = "record training log"
# What a method keeps between requests: the kind of artifact, and its hash in the weights' notes.
STATE = "state"
# The surrogate images of a run: how many, as a parameter, and what its notes say of them.
SURROGATES = "surrogates"


@dataclass(frozen=True)
class Trio:
    """The models that a run compares.

    Attributes:
        original: O.
        unlearned: U, what the method made of O.
        retrained: G of the same seed, or None.
        missing: Why there is no G.
    """

    original: Artifact
    unlearned: Artifact
    retrained: Artifact | None
    missing: str = ""

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the weights of each, by what it is."""
        all_three = {
            "original": self.original,
            "unlearned": self.unlearned,
            "retrained": self.retrained,
        }
        hashes = {name: made.sha256 for name, made in all_three.items() if made is not None}
        state = self.unlearned.notes.get(STATE)
        return hashes | ({STATE: str(state)} if state else {})


@dataclass(frozen=True)
class _Begin:
    """What the call of a method begins with.

    Attributes:
        start: The weights that it starts from.
        log: Of the original's training, for methods that declare it.
        given: Weights of the user's own, where these stand in for the method's work.
        state: What the method left at the last request, for methods that keep any.
        checkpoints: Of the original's shards, for methods that declare them.
        surrogates: Images of the surrogate data that the run names, uint8.
    """

    start: Artifact
    log: TrainingLog | None
    given: Mapping[str, Tensor] | None
    state: State | None
    checkpoints: Checkpoints | None
    surrogates: Tensor | None


# Weights, notes, and what the method leaves for its next request.
_Made = tuple[Mapping[str, Tensor], dict[str, Any], State | None]


class Models:
    """Gets models from the store, or makes them and puts them there.

    Args:
        store: Where they are kept.
        identities: What determines each.
        failures: What is not to be tried again.
        environment: Gives what a run's times cannot be read without.
        fence: Gives what is closed to a run's method.
        task: Gives the task of another run that a run builds on.
        surrogate_data: Gives the surrogate images that a run names, if it names any.
    """

    def __init__(
        self,
        store: Store,
        identities: Identities,
        failures: Failures,
        environment: Callable[[RunSpec], dict[str, Any]],
        fence: Callable[[RunSpec], Fence],
        task: Callable[[RunSpec], Task],
        surrogate_data: Callable[[RunSpec], SurrogateData | None],
    ) -> None:
        self._task, self._surrogate_data = task, surrogate_data
        self._store, self._identities = store, identities
        self._failures, self._environment = failures, environment
        self._fence, self._isolation = fence, Isolation()
        self._shards = Shards(store, identities)

    def of(self, spec: RunSpec, task: Task, step: Step) -> Trio:
        """Return O, U and G of a run.

        Args:
            spec: The run.
            task: Its dataset, model, scenario and seed.
            step: Notified of what is being made.

        Raises:
            RunFailedError: If O or U cannot be made.
        """
        original = self.original(spec, task, step)
        unlearned = self.unlearned(spec, task, original, step)
        try:
            retrained = self.unlearned(reference(spec), task, original, step)
        except RunFailedError as failure:
            return Trio(original, unlearned, None, f"retraining failed: {failure}")
        return Trio(original, unlearned, retrained)

    def original(self, spec: RunSpec, task: Task, step: Step) -> Artifact:
        """Return the original: trained by the recipe, or the user's own weights.

        Raises:
            RunFailedError: If it cannot be trained.
            ModelError: If the user's weights classify little more than chance.
        """
        step("load original")
        key = self._identities.original_key(spec)
        before = key in self._failures.reasons

        def make() -> Built:
            if spec.original is not None:
                return given_original(spec, task)
            return self._train(spec, task, step)

        try:
            return self.made("original", self._identities.original(spec), key, make)
        except RunFailedError as failure:
            if before:  # in another run, which the reader may not have in mind
                raise RunFailedError(f"training the original failed: {failure}") from failure
            raise

    def given_accuracy(self, spec: RunSpec, task: Task) -> float:
        """Return the share of test images that the user's own weights classify.

        Raises:
            ModelError: If it is little more than chance.
            RunFailedError: If it cannot be found out here.
        """
        original = self.original(spec, task, lambda _: None)
        if "test_accuracy" in original.notes:
            return float(original.notes["test_accuracy"])
        # Stored before this was noted.
        return self._failures.guard(
            lambda: check_classifies(task.load(original.tensors), task.data, task.device)
        )

    def made(
        self, kind: str, identity: Mapping[str, Any], key: str, build: Callable[[], Built]
    ) -> Artifact:
        """Return an artifact, built unless it is there or building it failed before.

        Raises:
            RunFailedError: If building fails or failed, which is noted under ``key``.
        """
        reasons = self._failures.reasons

        def build_unless_failed() -> Built:
            # Only here: what was made after all, by another process or run, is as good as any.
            if key in reasons:
                raise RunFailedError(reasons[key])
            return build()

        try:
            return self._failures.guard(
                lambda: self._store.get_or_build(kind, identity, build_unless_failed)
            )
        except RunFailedError as failure:
            reasons.setdefault(key, str(failure))
            raise

    def _train(self, spec: RunSpec, task: Task, step: Step) -> Built:
        step(TRAINING)
        if spec.model.sharding is not None:
            tensors, seconds = self._shards.original(
                spec, task, lambda text: step(f"{TRAINING}: {text}")
            )
            return tensors, {"seconds": seconds, "environment": self._environment(spec)}
        model = task.new_original()
        log = UpdateLog(model, task.indices.forget) if wants_log(spec) else None
        clock = Clock(task.device)
        with clock.phase("original"):
            task.train_original(model, lambda text: step(f"{TRAINING}: {text}"), log)
        if log is not None:
            self._kept_log(spec, lambda: log)
        return model.state_dict(), {
            "seconds": asdict(clock.phases["original"]),
            "environment": self._environment(spec),
        }

    def _training_log(
        self, spec: RunSpec, task: Task, original: Artifact, step: Step
    ) -> TrainingLog:
        """Return what the original's training did in the batches that held F.

        A run that wants it and trains the original itself records it at once. Otherwise nobody
        knew what would be forgotten, and a log of every step would take the model's size
        thousands of times: the training, which is deterministic, is gone through once more, and
        must end in the very same weights.
        """

        def record() -> UpdateLog:
            # Another step than the original's training: that is in the store already.
            step(RECORDING)
            model = task.new_original()
            updates = UpdateLog(model, task.indices.forget)
            task.train_original(model, lambda text: step(f"{RECORDING}: {text}"), updates)
            for name, tensor in model.state_dict().items():
                if not torch.equal(tensor.cpu(), original.tensors[name]):
                    raise MethodError(
                        f"training again gave weights other than the original's (in {name}); "
                        "this method needs a log of the original training itself"
                    )
            return updates

        stored = self._kept_log(spec, record)
        change = {name: tensor.to(task.device) for name, tensor in stored.tensors.items()}
        return TrainingLog(change, stored.notes["hits"], stored.notes["steps"])

    def _kept_log(self, spec: RunSpec, record: Callable[[], UpdateLog]) -> Artifact:
        """Return the stored training log, recorded unless it is there."""

        def build() -> Built:
            log = record()
            return log.change, {"hits": log.hits, "steps": log.steps}

        return self._store.get_or_build("training_log", self._identities.training_log(spec), build)

    def unlearned(self, spec: RunSpec, task: Task, original: Artifact, step: Step) -> Artifact:
        """Return what the method of ``spec`` made of the original, request by request."""
        identity, key = self._identities.unlearned(spec), self._identities.key(spec)

        def get_or_make() -> Artifact:
            return self.made(
                "unlearned", identity, key, lambda: self.unlearn(spec, task, original, step)
            )

        made = get_or_make()
        if made.reused and is_made_by_other_code(identity, made.notes):
            self._store.reject("unlearned", identity, "made by code other than its own")
            made = get_or_make()
        return made

    def unlearn(self, spec: RunSpec, task: Task, original: Artifact, step: Step) -> Built:
        """Call the method on a private copy of what it starts from, timed and watched."""
        method = registry.get(spec.method)
        start = self._start(spec, original, step)
        begin = _Begin(
            start,
            self._training_log(spec, task, original, step) if wants_log(spec) else None,
            given_unlearned(spec, task),
            self._left_state(spec, task, start),
            self._shards.checkpoints(spec, task, step) if method.access.checkpoints else None,
            self.surrogates(spec, task),
        )

        def tell(text: str) -> None:
            step(f"{spec.label}: {text}")

        step(spec.label)
        call = self._call_apart if spec.isolate else self._call_here
        weights, notes, state = call(spec, task, begin, tell)
        if state is not None and spec.request:
            notes[STATE] = self._kept_state(spec, task, state).sha256
        if (data := self._surrogate_data(spec)) is not None and begin.surrogates is not None:
            notes[SURROGATES] = data.facts(len(begin.surrogates))
        if method.kind == "given":  # reading the file is not what unlearning it has cost
            notes["cost"] = {"seconds": {}, "peak_bytes": None, "examples": {}, "passes": {}}
        return weights, {**notes, CODE: method.running_code}

    def surrogates(self, spec: RunSpec, task: Task) -> Tensor | None:
        """Return the surrogate images that the method of a run is handed, uint8 [M, C, H, W].

        Raises:
            DataError: If there are fewer than it asks for, or they are the suite's own images.
        """
        data = self._surrogate_data(spec)
        if data is None:
            return None
        seed = derive(task.seed_of(registry.get(spec.method), spec.draw), SURROGATES)
        return data.draw(spec.params[SURROGATES], seed)

    def _start(self, spec: RunSpec, original: Artifact, step: Step) -> Artifact:
        """Return what the method starts from: the original, or what it left a request ago.

        Raises:
            RunFailedError: If that request failed.
        """
        before = previous(spec)
        if before is None:
            return original
        try:
            made = self.unlearned(before, self._task(before), original, step)
            if STATE in made.notes and self._state_of(before, made) is None:
                why = "the state that belongs to it is missing"
                self._store.reject("unlearned", self._identities.unlearned(before), why)
                made = self.unlearned(before, self._task(before), original, step)
            return made
        except RunFailedError as failure:
            told = str(failure)
            if not told.startswith("request "):  # the first that failed is the one to mend
                told = f"request {before.request} failed: {told}"
            raise RunFailedError(told) from failure

    def _state_of(self, spec: RunSpec, made: Artifact) -> Artifact | None:
        """Return the stored state that belongs to weights, if it is there."""
        found = self._store.find(STATE, self._identities.unlearned(spec))
        return found if found is not None and found.sha256 == made.notes.get(STATE) else None

    def _left_state(self, spec: RunSpec, task: Task, start: Artifact) -> State | None:
        """Return what the method left beside ``start``; nothing where it keeps none."""
        before = previous(spec)
        stored = self._state_of(before, start) if before is not None else None
        if stored is None:
            return None
        tensors = {name: tensor.to(task.device) for name, tensor in stored.tensors.items()}
        return State(tensors, stored.notes["plain"])

    def _kept_state(self, spec: RunSpec, task: Task, state: State) -> Artifact:
        """Store what the method leaves, before the weights that it belongs to."""
        handed = task.handed_to(registry.get(spec.method), spec.draw)
        members = torch.cat([getattr(handed.indices, name) for name in SPLITS])
        checked = state.checked(handed.data, members)
        return self._store.get_or_build(
            STATE,
            self._identities.unlearned(spec),
            lambda: (checked.tensors, {"plain": checked.plain}),
        )

    def _call_here(self, spec: RunSpec, task: Task, begin: _Begin, tell: Step) -> _Made:
        """Call the method in this process, behind a fence."""
        method = registry.get(spec.method)
        model = task.load(begin.start.tensors)
        unlearning = Unlearning(
            task,
            method,
            step=tell,
            training_log=begin.log,
            given=begin.given,
            limit=spec.limit,
            fence=self._fence(spec),
            draw=spec.draw,
            state=begin.state,
            checkpoints=begin.checkpoints,
            surrogates=begin.surrogates,
        )
        called = call(unlearning, model, spec.params)
        environment = with_halved(self._environment(spec), called.halved)
        notes = {
            "cost": called.cost,
            "log": called.log,
            "environment": environment | {ISOLATION: FENCED},
        }
        return called.model.state_dict(), notes, called.state

    def _call_apart(self, spec: RunSpec, task: Task, begin: _Begin, tell: Step) -> _Made:
        """Call the method in a process of its own, which can reach nothing else."""
        call = Call(
            task,
            registry.get(spec.method),
            spec.params,
            begin.start.tensors,
            begin.log,
            begin.given,
            spec.limit,
            torch.get_num_threads(),
            spec.draw,
            begin.state,
            begin.checkpoints,
            begin.surrogates,
            stream=bool(spec.request),
        )
        extra = weight_caches().values() if spec.model.pretrained else ()
        returned = self._isolation.call(call, self._fence(spec).closed, extra, tell)
        check_state(returned.weights, begin.start.tensors)
        answer = returned.answer.model_dump()
        environment = with_halved(self._environment(spec), answer["halved"])
        notes = {
            "cost": answer["cost"],
            "log": answer["log"],
            "environment": environment | {ISOLATION: returned.in_force},
        }
        return returned.weights, notes, returned.state


def wants_log(spec: RunSpec) -> bool:
    """Whether the run's method reads the log of the original's training."""
    return registry.get(spec.method).access.log


def with_halved(environment: Mapping[str, Any], halved: Mapping[str, int]) -> dict[str, Any]:
    """Add what was done in smaller batches than planned, as memory did not suffice."""
    before = environment.get("halved_batches", {})
    both = {**before, **halved}
    return {**environment, **({"halved_batches": both} if both else {})}
