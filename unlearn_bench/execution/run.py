"""One run: get the original, let the method unlearn, evaluate, and say what it cost.

Originals, unlearned models and logits are artifacts of the store, so that a run that was
killed goes on where the last artifact was finished, and nothing is computed twice.
"""

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import (
    DataError,
    MethodError,
    ModelError,
    OutputError,
    UserError,
    one_line,
)
from unlearn_bench.core.keys import content_key, file_hash
from unlearn_bench.core.memory import is_out_of_memory, noting_halved, release
from unlearn_bench.core.seeds import derive, seed_everything
from unlearn_bench.data import splits
from unlearn_bench.data.datasets import Dataset, TensorImages, load, on_device
from unlearn_bench.measure import evaluate, metrics
from unlearn_bench.measure.clock import Clock, Passes, PeakMemory, environment
from unlearn_bench.measure.lab import Lab
from unlearn_bench.measure.metrics.cost import cost_records
from unlearn_bench.measure.metrics.mia import loss_roc
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import Method
from unlearn_bench.results.records import EVALUATION, RunResult
from unlearn_bench.store.store import SCHEMA, Artifact, Built, Store
from unlearn_bench.suite.spec import Normalize, RunSpec
from unlearn_bench.toolkit.attacks import Pixels
from unlearn_bench.toolkit.context import MAX_LOG_ENTRIES, Context, Split, TrainingLog
from unlearn_bench.training import models
from unlearn_bench.training.loop import UpdateLog, train

Step = Callable[[str], None]
T = TypeVar("T")

# The method whose models are G, the reference of every metric that compares with retraining.
RETRAIN = "retrain"


KEPT_DATASETS = 2

# How the steps begin that are told of while an original is trained; what is told of when models
# are made and only looked at any more. A run that is ended there tells what others may rely on.
TRAINING = "train original"
EVALUATING = "evaluate"


class RunFailedError(Exception):
    """A run that ended without a result, told in one line; the suite goes on.

    The exception that a method raised is its ``__cause__``.
    """


class Runner:
    """Runs single specifications on one device.

    Args:
        store: Where artifacts are kept.
        device: Where models and data are put.
        data_root: Folder of the datasets.
        download: Whether missing datasets may be downloaded.
        threads: CPU threads of runs whose suite fixes none; by default torch's number.
    """

    def __init__(
        self,
        store: Store,
        device: torch.device,
        *,
        data_root: Path | None = None,
        download: bool = False,
        threads: int | None = None,
    ) -> None:
        self._store = store
        self._device = device
        self._environment = dict(environment(device))
        self._threads = threads or torch.get_num_threads()
        # A GPU picks its convolution algorithm by speed unless told to repeat itself.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        self._dataset = lru_cache(maxsize=KEPT_DATASETS)(self._load_dataset)
        self._failed: dict[str, str] = {}
        self._fingerprints: dict[tuple[str, int | None], str] = {}
        self._inputs: dict[str, dict[str, Any]] = {}
        self.data_root, self.download = data_root, download

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprint of every dataset loaded so far, by name."""
        return {name: fingerprint for (name, _), fingerprint in self._fingerprints.items()}

    @property
    def inputs(self) -> Mapping[str, Mapping[str, Any]]:
        """Of every dataset loaded so far: how pixels become inputs, and the order of classes."""
        return self._inputs

    @property
    def device(self) -> torch.device:
        """Where models and data are put."""
        return self._device

    @property
    def failed(self) -> Mapping[str, str]:
        """What failed so far, by the key of a run or of an original, with the reason."""
        return self._failed

    @property
    def environment(self) -> Mapping[str, Any]:
        """Hardware and versions of this process."""
        return self._environment

    def _environment_of(self, spec: RunSpec) -> dict[str, Any]:
        return self._environment | {"threads": spec.threads or self._threads}

    def _load_dataset(
        self, name: str, image_size: int | None, normalize: Normalize | None
    ) -> Dataset:
        data = load(
            name,
            root=self.data_root,
            image_size=image_size,
            download=self.download,
            normalize=normalize,
        )
        self._fingerprints[name, image_size] = data.fingerprint
        for note in data.notes if name not in self._inputs else ():
            self._store.notify(note)
        self._inputs[name] = {"normalization": data.normalization, "classes": list(data.classes)}
        return on_device(data, self._device)

    def dataset(self, spec: RunSpec) -> Dataset:
        """Return the run's dataset; the last two stay in memory."""
        return self._dataset(spec.dataset, spec.image_size, spec.normalize)

    def data_bytes(self, specs: Iterable[RunSpec]) -> int:
        """Return the bytes of images that a process holds at most while it does these runs."""
        sizes = {}
        for spec in specs:
            name = spec.dataset, spec.image_size
            if name not in sizes:
                data = self._look(partial(self.dataset, spec))
                images = [part.images for part in (data.train, data.test)]
                sizes[name] = sum(i.nbytes for i in images if isinstance(i, TensorImages))
        return sum(sorted(sizes.values())[-KEPT_DATASETS:])

    def _fingerprint(self, spec: RunSpec) -> str:
        # Known of what was loaded once, also where the device then had no room for it.
        known = self._fingerprints.get((spec.dataset, spec.image_size))
        return known or self.dataset(spec).fingerprint

    def remember(self, failed: Mapping[str, str]) -> None:
        """Take over what failed elsewhere, by key with the reason, not to try it again."""
        self._failed.update(failed)

    def check_split(self, spec: RunSpec) -> splits.Indices:
        """Find out before anything is trained whether the forget set exists, and return it.

        Raises:
            DataError: If it does not, or the data are missing.
            ModelError: If memory does not hold them.
        """
        return self._look(lambda: self._split(spec))

    def check_model(self, spec: RunSpec) -> nn.Module:
        """Find out before anything is trained whether the model fits the data, and return it.

        Raises:
            UserError: If it cannot be built, or the given weights do not fit it.
        """

        def build() -> nn.Module:
            model = self._build(spec, seed=0)
            for given in (spec.original, spec.unlearned):
                if given is not None:
                    for note in models.load_weights(model, given.path):
                        self._store.notify(note)
            return model

        return self._look(build)

    def _look(self, look: Callable[[], T]) -> T:
        """Refuse the whole suite where memory does not even suffice for a look at what it needs."""
        try:
            return look()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(f"{type(error).__name__}: {self._memory_reason(error)}") from error

    def identities(self, spec: RunSpec) -> dict[str, dict[str, Any]]:
        """Return what determines what the run keeps of its models in the store, by kind."""
        original = self._original_identity(spec)
        return {
            "original": original,
            "unlearned": self._identity(spec),
            "training_log": original | {"forget": spec.forget.model_dump(mode="json")},
        }

    def key(self, spec: RunSpec) -> str:
        """Return the key of the run's result: specification, data and method code."""
        return content_key(self._identity(spec) | {"schema": SCHEMA, "evaluation": EVALUATION})

    def original_key(self, spec: RunSpec) -> str:
        """Return a key of the original that the run starts from, for :attr:`failed`."""
        return content_key(self._original_identity(spec))

    def _original_identity(self, spec: RunSpec) -> dict[str, Any]:
        return spec.training_identity() | {"data": self._fingerprint(spec)}

    def _identity(self, spec: RunSpec) -> dict[str, Any]:
        method = registry.get(spec.method)
        return spec.identity() | {"data": self._fingerprint(spec), "code": method.code_key}

    def _split(self, spec: RunSpec) -> splits.Indices:
        data = self.dataset(spec)
        return splits.make(
            spec.forget,
            data.train.labels,
            data.test.labels,
            data.classes,
            validation=spec.validation,
            seed=spec.seed,
            numbers=data.train.numbers,
        )

    def _build(self, spec: RunSpec, seed: int, pretrained: bool = True) -> nn.Module:
        data = self.dataset(spec)
        model = spec.model if pretrained else spec.model.model_copy(update={"pretrained": False})
        return models.build(
            model,
            channels=data.channels,
            image_size=data.image_size,
            num_classes=data.num_classes,
            seed=seed,
        )

    def run(self, spec: RunSpec, step: Step) -> RunResult:
        """Execute one run.

        Args:
            spec: What to run.
            step: Told in a few words what is being done.

        Returns:
            The result, status ``ok``.

        Raises:
            RunFailedError: If the method or its training failed; other runs are not concerned.
            UserError: If nothing can run: no data, no space.
        """
        # More threads than small tensors can feed only wait for each other.
        torch.set_num_threads(spec.threads or self._threads)
        data = self._guard(lambda: self.dataset(spec))
        indices = self._split(spec)
        original = self._original(spec, step)
        unlearned = self._unlearned(spec, data, indices, original, step)
        retrained, missing = self._retrained(spec, data, indices, original, step)
        notes = unlearned.notes
        step(EVALUATING)
        clock = Clock(self._device)
        with noting_halved() as halved, clock.phase("evaluate"):
            evaluation = self._guard(
                lambda: self._evaluation(spec, unlearned, original, retrained, missing)
            )
            measured, metric_seconds = self._guard(lambda: metrics.compute(evaluation))
            probed = evaluation.unlearned.probed
            for name, spent in (probed.seconds if probed else {}).items():
                metric_seconds[f"probe {name}"] = spent
        seconds = dict(notes["cost"]["seconds"])
        seconds["evaluate"] = asdict(clock.phases["evaluate"])
        if "seconds" in original.notes:
            seconds["original"] = original.notes["seconds"]
        records = measured + cost_records(notes["cost"] | {"seconds": seconds})
        return self.result(
            spec,
            "ok",
            records=tuple(records),
            log=tuple(notes["log"]),
            error=missing,
            metric_seconds=metric_seconds,
            environment=_with_halved(notes["environment"], halved),
            hashes={
                name: artifact.sha256
                for name, artifact in (
                    ("original", original),
                    ("unlearned", unlearned),
                    ("retrained", retrained),
                )
                if artifact is not None
            },
            curves=(loss_roc(evaluation),),
        )

    def _unlearned(
        self, spec: RunSpec, data: Dataset, indices: splits.Indices, original: Artifact, step: Step
    ) -> Artifact:
        """Return what the method of ``spec`` made of the original."""
        return self._made(
            "unlearned",
            self._identity(spec),
            self.key(spec),
            lambda: self._unlearn(spec, data, indices, original, step),
        )

    def _made(
        self, kind: str, identity: Mapping[str, Any], key: str, build: Callable[[], Built]
    ) -> Artifact:
        """Return an artifact, built unless it is there or building it failed before.

        Raises:
            RunFailedError: If building fails or failed, which is noted under ``key``.
        """

        def build_unless_failed() -> Built:
            # Only here: what was made after all, by another process or run, is as good as any.
            if key in self._failed:
                raise RunFailedError(self._failed[key])
            return build()

        try:
            return self._guard(
                lambda: self._store.get_or_build(kind, identity, build_unless_failed)
            )
        except RunFailedError as failure:
            self._failed.setdefault(key, str(failure))
            raise

    def _retrained(
        self, spec: RunSpec, data: Dataset, indices: splits.Indices, original: Artifact, step: Step
    ) -> tuple[Artifact | None, str]:
        """Return G, the retrained model of the same seed, or None and why there is none."""
        try:
            return self._unlearned(reference(spec), data, indices, original, step), ""
        except RunFailedError as failure:
            return None, f"retraining failed: {failure}"

    def result(
        self, spec: RunSpec, status: Any, *, hashes: Mapping[str, str] | None = None, **rest: Any
    ) -> RunResult:
        """Return a result for ``spec`` with everything filled in that the specification says."""
        method = registry.get(spec.method)
        known = {"data": self._fingerprint(spec), "method_file": file_hash(method.file)}
        # How a model was unlearned makes no difference to how it is judged.
        kind = "method" if method.kind == "given" else method.kind
        return RunResult(
            key=self.key(spec),
            method=spec.label,
            kind=kind,
            dataset=spec.dataset,
            model=spec.model.label,
            scenario=spec.forget.name,
            seed=spec.seed,
            params=spec.params,
            status=status,
            hashes=known | dict(hashes or {}),
            **{"environment": self._environment_of(spec)} | rest,
        )

    def _original(self, spec: RunSpec, step: Step) -> Artifact:
        """Return the original model: trained by the recipe, or the user's own weights."""
        data = self.dataset(spec)

        def build() -> Built:
            if spec.original is not None:
                model = self._build(spec, seed=0)
                models.load_weights(model, spec.original.path)
                right = self._check_original(spec, data, model)
                return model.state_dict(), {"test_accuracy": right}
            step(TRAINING)
            model = self._new_original(spec)
            log = UpdateLog(model, self._split(spec).forget) if wants_log(spec) else None
            clock = Clock(self._device)
            with clock.phase("original"):
                self._train_original(spec, data, model, step, log=log)
            if log is not None:
                self._kept_log(spec, lambda: log)
            return model.state_dict(), {
                "seconds": asdict(clock.phases["original"]),
                "environment": self._environment_of(spec),
            }

        step("load original")
        identity, key = self._original_identity(spec), self.original_key(spec)
        before = key in self._failed
        try:
            return self._made("original", identity, key, build)
        except RunFailedError as failure:
            if before:  # in another run, which the reader may not have in mind
                raise RunFailedError(f"training the original failed: {failure}") from failure
            raise

    def given_accuracy(self, spec: RunSpec) -> float:
        """Return the share of test images that the user's own weights classify.

        Raises:
            ModelError: If it is little more than chance.
            RunFailedError: If it cannot be found out here.
        """
        original = self._original(spec, lambda _: None)
        if "test_accuracy" in original.notes:
            return float(original.notes["test_accuracy"])
        model = self._build(spec, seed=0)  # stored before this was noted
        model.load_state_dict(original.tensors)
        return self._guard(lambda: self._check_original(spec, self.dataset(spec), model))

    def _new_original(self, spec: RunSpec) -> nn.Module:
        return self._build(spec, seed=derive(spec.seed, "original")).to(self._device)

    def _train_original(
        self,
        spec: RunSpec,
        data: Dataset,
        model: nn.Module,
        step: Step,
        what: str = TRAINING,
        log: UpdateLog | None = None,
    ) -> None:
        everyone = self._as_split(
            spec, "train", self._split(spec).train, data, "original", Counter()
        )
        train(
            model,
            everyone,
            spec.recipe,
            seed=derive(spec.seed, "original"),
            log=log,
            step=lambda text: step(f"{what}: {text}"),
        )

    def _training_log(
        self, spec: RunSpec, data: Dataset, original: Artifact, step: Step
    ) -> TrainingLog:
        """Return what the original's training did in the batches that held F.

        A run that wants it and trains the original itself records it at once. Otherwise nobody
        knew what would be forgotten, and a log of every step would take the model's size
        thousands of times: the training, which is deterministic, is gone through once more, and
        must end in the very same weights.
        """

        def record() -> UpdateLog:
            # Another step than the original's training: that is in the store already.
            what = "record training log"
            step(what)
            model = self._new_original(spec)
            updates = UpdateLog(model, self._split(spec).forget)
            self._train_original(spec, data, model, step, what, updates)
            for name, tensor in model.state_dict().items():
                if not torch.equal(tensor.cpu(), original.tensors[name]):
                    raise MethodError(
                        f"training again gave other weights than the original's (in {name}): "
                        "without a log of that very training this method cannot run"
                    )
            return updates

        stored = self._kept_log(spec, record)
        change = {name: tensor.to(self._device) for name, tensor in stored.tensors.items()}
        return TrainingLog(change, stored.notes["hits"], stored.notes["steps"])

    def _kept_log(self, spec: RunSpec, record: Callable[[], UpdateLog]) -> Artifact:
        """Return the stored training log, recorded unless it is there."""

        def build() -> Built:
            log = record()
            return log.change, {"hits": log.hits, "steps": log.steps}

        identity = self.identities(spec)["training_log"]
        return self._store.get_or_build("training_log", identity, build)

    def _check_original(self, spec: RunSpec, data: Dataset, model: nn.Module) -> float:
        """Return the test accuracy; refuse weights that do not classify this dataset at all."""
        logits = evaluate.logits(model.to(self._device), data, data.test, self._device)
        right = float((logits.argmax(1) == data.test.labels).double().mean())
        # Twice chance is asked of many classes; of two or three it would be near perfection.
        chance = 1 / data.num_classes
        if right < min(2 * chance, chance + (1 - chance) / 10):
            raise ModelError(
                f"the weights classify {right:.1%} of the {spec.dataset} test images, little more "
                f"than chance; they expect other data, another order of the classes, or inputs "
                f"normalised otherwise than {data.normalization}: see --mean, --std, --image-size"
            )
        return right

    def _as_split(
        self,
        spec: RunSpec,
        name: str,
        indices: Tensor,
        data: Dataset,
        purpose: str,
        ledger: Counter[str],
    ) -> Split:
        return Split(
            name,
            data.train,
            indices,
            mean=data.mean,
            std=data.std,
            device=self._device,
            batch_size=spec.recipe.batch_size,
            augment=spec.recipe.augment,
            seed=derive(spec.seed, purpose, name),
            ledger=ledger,
        )

    def _unlearn(
        self, spec: RunSpec, data: Dataset, indices: splits.Indices, original: Artifact, step: Step
    ) -> Built:
        """Call the method on a private copy of the original, timed and watched."""
        method = registry.get(spec.method)
        model = self._build(spec, seed=0)
        model.load_state_dict(original.tensors)
        model.to(self._device).eval()
        seed = derive(spec.seed, spec.method, spec.forget.name)
        ledger: Counter[str] = Counter()
        clock = Clock(self._device)
        log = self._training_log(spec, data, original, step) if wants_log(spec) else None
        passes = Passes()
        context = self._context(spec, method, data, indices, seed, ledger, clock, step, log, passes)
        expected = copy.deepcopy(model.state_dict())

        step(spec.label)
        seed_everything(derive(seed, "method"))
        memory = PeakMemory(self._device)
        # What a method leaves switched off must not fail the next one.
        with noting_halved() as halved, clock.phase("unlearn"), torch.enable_grad():
            passes.watch(model)
            returned = method.function(model, context, **spec.params)
            passes.stop()
        peak = memory.growth()
        check_model(returned, expected)
        cost = {
            "seconds": {name: asdict(spent) for name, spent in clock.phases.items()},
            "peak_bytes": peak,
            "examples": dict(ledger),
            "passes": passes.examples,
        }
        if method.kind == "given":  # reading the file is not what unlearning it has cost
            cost = {"seconds": {}, "peak_bytes": None, "examples": {}, "passes": {}}
        return returned.state_dict(), {
            "cost": cost,
            "log": stored_log(context.log_entries),
            "environment": _with_halved(self._environment_of(spec), halved),
        }

    def _context(
        self,
        spec: RunSpec,
        method: Method,
        data: Dataset,
        indices: splits.Indices,
        seed: int,
        ledger: Counter[str],
        clock: Clock,
        step: Step,
        log: TrainingLog | None,
        passes: Passes,
    ) -> Context:
        retain = indices.retain
        if method.access.retain_fraction < 1:
            generator = torch.Generator().manual_seed(derive(seed, "retain"))
            share = max(1, round(method.access.retain_fraction * len(retain)))
            retain = retain[torch.randperm(len(retain), generator=generator)[:share]].sort().values
        # Only what is declared is handed over: nothing undeclared is within reach.
        readable = {"forget": indices.forget, "retain": retain, "validation": indices.validation}
        handed_over = {
            name: self._as_split(spec, name, chosen, data, f"unlearn/{spec.method}", ledger)
            for name, chosen in readable.items()
            if getattr(method.access, name)
        }

        def retrain(
            model: nn.Module, split: Split, only: Sequence[nn.Module] | None = None
        ) -> None:
            train(
                model,
                split,
                spec.recipe,
                seed=seed,
                only=only,
                step=lambda text: step(f"{spec.label}: {text}"),
                losses=lambda loss: context.log(training_loss=loss),
            )

        context = Context(
            spec.method,
            method.access,
            handed_over,
            device=self._device,
            seed=seed,
            num_classes=data.num_classes,
            forget_classes=indices.forget_classes,
            build=lambda model_seed, pretrained: passes.watch(
                self._build(spec, model_seed, pretrained)
            ),
            trainer=retrain,
            clock=clock,
            pixels=Pixels(
                *(
                    torch.tensor(values, device=self._device).view(-1, 1, 1)
                    for values in (data.mean, data.std)
                )
            ),
            training_log=log,
            given=self._given_weights(spec),
        )
        return context

    def _given_weights(self, spec: RunSpec) -> dict[str, Tensor] | None:
        """Return the user's unlearned weights, which fit the model, if the run is about such."""
        if spec.unlearned is None:
            return None
        model = self._build(spec, seed=0)
        models.load_weights(model, spec.unlearned.path)
        return model.state_dict()

    def _evaluation(
        self,
        spec: RunSpec,
        unlearned: Artifact,
        original: Artifact,
        retrained: Artifact | None,
        missing: str,
    ) -> Evaluation:
        """Look at U, O and G."""
        data, indices = self.dataset(spec), self._split(spec)
        lab = Lab(
            self._store,
            data,
            indices,
            self._device,
            build=lambda seed: self._build(spec, seed),
            identity={"model": spec.model.model_dump(mode="json"), "device": spec.device}
            | spec.input_identity(),
            seed=derive(spec.seed, "probes"),
        )
        return Evaluation(
            lab.observe(unlearned, original, registry.get(spec.method).outputs),
            lab.observe(original, original),
            lab.observe(retrained, original) if retrained else None,
            data.classes,
            lab.random_logits(),
            missing,
            indices.forget_classes,
            derive(spec.seed, "evaluate"),
        )

    def _guard(self, call: Callable[[], T]) -> T:
        """Turn whatever a method raises into a failed run with a one-line reason.

        Missing data, misfit weights and a full disk are no method's fault: they end the suite.
        """
        try:
            return call()
        except (RunFailedError, DataError, ModelError, OutputError):
            raise
        except UserError as error:
            raise RunFailedError(one_line(str(error))) from error
        except (Exception, SystemExit) as error:
            reason = one_line(str(error))
            if is_out_of_memory(error):
                release()
                reason = self._memory_reason(error)
            raise RunFailedError(f"{type(error).__name__}: {reason}") from error

    def _memory_reason(self, error: BaseException) -> str:
        what = "the GPU's" if self._device.type == "cuda" else "the machine's"
        said = one_line(str(error))[:200].rstrip(". ")
        return f"{said}; " * bool(said) + (
            f"{what} memory does not hold this run: use fewer --workers, a smaller "
            "recipe.batch_size, --set METHOD.batch_size=... where the method has one, or a "
            "smaller model or image_size"
        )


def wants_log(spec: RunSpec) -> bool:
    """Whether the run's method reads the log of the original's training."""
    return registry.get(spec.method).access.log


def reference(spec: RunSpec) -> RunSpec:
    """Return the run that makes G, which the metrics of ``spec`` compare with."""
    params = registry.get(RETRAIN).resolve({})
    return spec.model_copy(
        update={"method": RETRAIN, "label": RETRAIN, "params": params, "unlearned": None}
    )


def check_model(returned: object, expected: Mapping[str, Tensor]) -> None:
    """Accept only a model of the original's architecture with finite weights.

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
    state = returned.state_dict()
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


def _with_halved(environment: Mapping[str, Any], halved: Mapping[str, int]) -> dict[str, Any]:
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
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        log.append({"step": float(position), **finite})
    return log
