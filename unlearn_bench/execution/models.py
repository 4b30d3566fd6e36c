"""The models that runs compare: made once and kept in the store, with the log of a training.

Nothing is made twice: what the store holds is loaded, and what failed is not tried again.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import MethodError, ModelError, one_line
from unlearn_bench.core.fence import Fence
from unlearn_bench.core.memory import noting_halved
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.execution.failures import Failures, RunFailedError
from unlearn_bench.execution.identity import Identities, reference
from unlearn_bench.execution.isolation import FENCED, ISOLATION, Isolation
from unlearn_bench.execution.isolation.call import Call
from unlearn_bench.execution.isolation.confine import weight_caches
from unlearn_bench.execution.task import Step, Task, Unlearning
from unlearn_bench.measure import evaluate
from unlearn_bench.measure.clock import Clock
from unlearn_bench.plugins import registry
from unlearn_bench.results.checks import LARGEST
from unlearn_bench.store.layout import CODE, is_made_by_other_code
from unlearn_bench.store.store import Artifact, Built, Store
from unlearn_bench.suite.spec import RunSpec
from unlearn_bench.toolkit.context import MAX_LOG_ENTRIES, TrainingLog
from unlearn_bench.training.loop import UpdateLog
from unlearn_bench.training.models import load_weights

# How the steps begin that are told of while an original is trained.
TRAINING = "train original"
RECORDING = "record training log"


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
        return {name: made.sha256 for name, made in all_three.items() if made is not None}


class Models:
    """Gets models from the store, or makes them and puts them there.

    Args:
        store: Where they are kept.
        identities: What determines each.
        failures: What is not to be tried again.
        environment: Gives what a run's times cannot be read without.
        fence: Gives what is closed to a run's method.
    """

    def __init__(
        self,
        store: Store,
        identities: Identities,
        failures: Failures,
        environment: Callable[[RunSpec], dict[str, Any]],
        fence: Callable[[RunSpec], Fence],
    ) -> None:
        self._store, self._identities = store, identities
        self._failures, self._environment = failures, environment
        self._fence, self._isolation = fence, Isolation()

    def of(self, spec: RunSpec, task: Task, step: Step) -> Trio:
        """Return O, U and G of a run.

        Args:
            spec: The run.
            task: Its dataset, model, scenario and seed.
            step: Told what is being made.

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
        make = self._load_given if spec.original is not None else self._train
        try:
            return self._made(
                "original",
                self._identities.original(spec),
                key,
                lambda: make(spec, task, step),
            )
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

    def _made(
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

    def _load_given(self, spec: RunSpec, task: Task, step: Step) -> Built:
        assert spec.original is not None
        model = task.build(seed=0)
        load_weights(model, spec.original.path)
        if spec.surrogate is not None:  # the test part stays unread while tuning
            return model.state_dict(), {}
        right = check_classifies(model.to(task.device), task.data, task.device)
        return model.state_dict(), {"test_accuracy": right}

    def _train(self, spec: RunSpec, task: Task, step: Step) -> Built:
        step(TRAINING)
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
        """Return what the method of ``spec`` made of the original."""
        identity, key = self._identities.unlearned(spec), self._identities.key(spec)

        def get_or_make() -> Artifact:
            return self._made(
                "unlearned", identity, key, lambda: self.unlearn(spec, task, original, step)
            )

        made = get_or_make()
        if made.reused and is_made_by_other_code(identity, made.notes):
            self._store.reject("unlearned", identity, "made by code other than its own")
            made = get_or_make()
        return made

    def unlearn(self, spec: RunSpec, task: Task, original: Artifact, step: Step) -> Built:
        """Call the method on a private copy of the original, timed and watched."""
        method = registry.get(spec.method)
        log = self._training_log(spec, task, original, step) if wants_log(spec) else None
        given = _given_weights(spec, task)

        def tell(text: str) -> None:
            step(f"{spec.label}: {text}")

        step(spec.label)
        call = self._call_apart if spec.isolate else self._call_here
        weights, notes = call(spec, task, original, log, given, tell)
        if method.kind == "given":  # reading the file is not what unlearning it has cost
            notes["cost"] = {"seconds": {}, "peak_bytes": None, "examples": {}, "passes": {}}
        return weights, {**notes, CODE: method.running_code}

    def _call_here(
        self,
        spec: RunSpec,
        task: Task,
        original: Artifact,
        log: TrainingLog | None,
        given: Mapping[str, Tensor] | None,
        tell: Step,
    ) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """Call the method in this process, behind a fence."""
        model = task.load(original.tensors)
        unlearning = Unlearning(
            task,
            registry.get(spec.method),
            step=tell,
            training_log=log,
            given=given,
            limit=spec.limit,
            fence=self._fence(spec),
            draw=spec.draw,
        )
        expected = copy.deepcopy(model.state_dict())
        with noting_halved() as halved:
            returned = unlearning.run(model, spec.params)
        unlearning.left.refuse("the method")
        return check_model(returned, expected).state_dict(), {
            "cost": unlearning.costs.notes(),
            "log": stored_log(unlearning.context.log_entries),
            "environment": with_halved(self._environment(spec), halved) | {ISOLATION: FENCED},
        }

    def _call_apart(
        self,
        spec: RunSpec,
        task: Task,
        original: Artifact,
        log: TrainingLog | None,
        given: Mapping[str, Tensor] | None,
        tell: Step,
    ) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """Call the method in a process of its own, which can reach nothing else."""
        call = Call(
            task,
            registry.get(spec.method),
            spec.params,
            original.tensors,
            log,
            given,
            spec.limit,
            torch.get_num_threads(),
            spec.draw,
        )
        extra = weight_caches().values() if spec.model.pretrained else ()
        returned = self._isolation.call(call, self._fence(spec).closed, extra, tell)
        check_state(returned.weights, original.tensors)
        answer = returned.answer.model_dump()
        environment = with_halved(self._environment(spec), answer["halved"])
        return returned.weights, {
            "cost": answer["cost"],
            "log": answer["log"],
            "environment": environment | {ISOLATION: returned.in_force},
        }


def wants_log(spec: RunSpec) -> bool:
    """Whether the run's method reads the log of the original's training."""
    return registry.get(spec.method).access.log


def _given_weights(spec: RunSpec, task: Task) -> dict[str, Tensor] | None:
    """Return the user's unlearned weights, which fit the model, if the run is about such."""
    if spec.unlearned is None:
        return None
    model = task.build(seed=0)
    load_weights(model, spec.unlearned.path)
    return model.state_dict()


def check_classifies(model: nn.Module, data: Dataset, device: torch.device) -> float:
    """Return the test accuracy of given weights; refuse such as classify other data.

    Raises:
        ModelError: If it is little more than chance.
    """
    logits = evaluate.logits(model, data, data.test, device)
    right = float((logits.argmax(1) == data.test.labels).double().mean())
    # Twice chance is asked of many classes; of two or three it would be near perfection.
    chance = 1 / data.num_classes
    if right < min(2 * chance, chance + (1 - chance) / 10):
        raise ModelError(
            f"the weights classify {right:.1%} of the {data.name} test images, little more than "
            "chance; they may expect other data, another class order, or inputs not normalised "
            f"as {data.normalization}: see --mean, --std, --image-size"
        )
    return right


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


def with_halved(environment: Mapping[str, Any], halved: Mapping[str, int]) -> dict[str, Any]:
    """Add what was done in smaller batches than planned, as memory did not suffice."""
    before = environment.get("halved_batches", {})
    both = {**before, **halved}
    return {**environment, **({"halved_batches": both} if both else {})}


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
