"""Look at models: forward passes and probes, each done once per weights and kept in the store.

Whatever is seen of a model depends on its weights, the data and the scenario alone, so all
methods of a scenario share what is seen of the original and of the retrained model.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_bench.core import small_maps
from unlearn_bench.core.errors import MethodError
from unlearn_bench.core.keys import content_key
from unlearn_bench.core.seeds import derive
from unlearn_bench.core.threads import as_many_as_torch
from unlearn_bench.data.datasets import Dataset, Part
from unlearn_bench.data.splits import Indices
from unlearn_bench.measure import evaluate, probes
from unlearn_bench.measure.metrics.zrf import RANDOM_MODELS
from unlearn_bench.measure.outputs import Observed, Outputs, Probed, Recovered, Relearned
from unlearn_bench.measure.probes import batch_norm, copies, inputs, layers, linear, relearn
from unlearn_bench.plugins.method import OutputFilter
from unlearn_bench.store.store import Artifact, Built, Keeps
from unlearn_bench.suite.spec import RELEARN_STEPS

# What the probes look at again: under other statistics, and shifted.
AGAIN = ("forget", "test_forget")


@dataclass(frozen=True)
class Lab:
    """Observes the models of one dataset, architecture, scenario and seed.

    Attributes:
        store: Where what was seen is kept.
        data: The dataset.
        indices: The scenario's index sets.
        device: Where forward passes run.
        blank: Gives a model of the architecture, to load weights into.
        build: Gives one with weights drawn from a seed; None where none can be had.
        identity: What determines architecture and device, as JSON values.
        seed: Determines what the probes draw.
        relearn_steps: After how many steps relearning is given up.
    """

    store: Keeps
    data: Dataset
    indices: Indices
    device: torch.device
    blank: Callable[[], nn.Module]
    build: Callable[[int], nn.Module] | None
    identity: Mapping[str, Any]
    seed: int
    relearn_steps: int = RELEARN_STEPS

    def observe(
        self, weights: Artifact, original: Artifact, outputs: OutputFilter | None = None
    ) -> Observed:
        """Return everything that is seen of a model.

        Args:
            weights: The model.
            original: The model that the scenario's methods start from.
            outputs: What the model's logits pass through before anyone sees them. Probes that
                train the weights do without it, as anyone with the weights can.

        Raises:
            MethodError: If the filter's logits are not finite or of another shape.
        """
        seen = evaluate.split_outputs(self.logits(weights), self.data, self.indices)
        probed = self._probed(weights, original)
        if outputs is not None:
            seen = {split: self._filtered(part, outputs) for split, part in seen.items()}
            probed = replace(
                probed,
                renewed={s: self._filtered(part, outputs) for s, part in probed.renewed.items()},
                copies={s: self._filtered(part, outputs) for s, part in probed.copies.items()},
            )
        return Observed(seen, probed)

    def _filtered(self, seen: Outputs, outputs: OutputFilter) -> Outputs:
        logits = outputs(seen.logits.clone(), self.indices.hidden_by_filters)
        if logits.shape != seen.logits.shape or not logits.isfinite().all():
            raise MethodError(
                f"the output filter turned logits {list(seen.logits.shape)} into "
                f"{list(logits.shape)}, or into NaN or infinity; keep the shape, stay finite"
            )
        return replace(seen, logits=logits.double())

    def what_went(
        self, weights: Artifact, outputs: OutputFilter | None = None
    ) -> tuple[Outputs, ...]:
        """Return what a model says of the examples that each earlier request of a stream took."""
        rows = self.logits(weights)["train"]
        labels = self.data.train.labels
        seen = (
            Outputs("forget", rows[torch.searchsorted(self._trained, g.forget)], labels[g.forget])
            for g in self.indices.gone
        )
        return tuple(part if outputs is None else self._filtered(part, outputs) for part in seen)

    def relearned(self, weights: Artifact, original: Artifact) -> Relearned:
        """Return how fast a model relearns F, without any other probe.

        Args:
            weights: The model.
            original: The model whose accuracy on TF it has to come near.
        """
        target = self._target(original)
        identity = self._probe_identity(weights, target) | {"only": "relearn_time"}

        def build() -> Built:
            model = self._copy(weights)
            return {}, self._relearned(model, self._examples.relearned, target)

        return Relearned(**self._kept("probes", identity, build).notes)

    def logits(self, weights: Artifact) -> dict[str, Tensor]:
        """Return the logits on F and R, as ``train``, and on the whole test part, as ``test``.

        They are kept per weights and training set, so all scenarios of one original share them.
        """

        def build() -> Built:
            model, data = self._load(weights), self.data
            chosen = {"train": (data.train, self._trained), "test": (data.test, None)}
            if len(self.indices.unseen):
                chosen["unseen"] = (data.train, self.indices.unseen)
            return {
                name: evaluate.logits(model, data, part, self.device, indices)
                for name, (part, indices) in chosen.items()
            }, {}

        examples = content_key(self._trained.tolist())
        identity = {"weights": weights.sha256, "examples": examples}
        if len(self.indices.unseen):
            identity["unseen"] = content_key(self.indices.unseen.tolist())
        return self._kept("logits", identity, build).tensors

    def random_logits(self) -> tuple[Tensor, ...]:
        """Return what freshly initialised models say of F; the same models in every run.

        Nothing, where no model can be initialised.
        """
        fresh = self.build
        if fresh is None:
            return ()

        def build() -> Built:
            found = {}
            for number in range(RANDOM_MODELS):
                model = fresh(derive(number, "random model")).to(self.device)
                found[str(number)] = evaluate.logits(
                    model, self.data, self.data.train, self.device, self.indices.forget
                )
            return found, {}

        examples = content_key(self.indices.forget.tolist())
        found = self._kept("random", {"models": RANDOM_MODELS, "examples": examples}, build)
        return tuple(found.tensors[str(number)] for number in range(RANDOM_MODELS))

    def _kept(self, kind: str, more: Mapping[str, Any], build: Callable[[], Built]) -> Artifact:
        identity = {"data": self.data.fingerprint, **self.identity, **more}
        return self.store.get_or_build(kind, identity, build)

    def _load(self, weights: Artifact) -> nn.Module:
        """Return a model for one forward pass after the other; the next call changes it."""
        self._named.load_state_dict(weights.tensors)
        return self._named.to(self.device).eval()

    def _copy(self, weights: Artifact) -> nn.Module:
        """Return a model for probes, which make many small passes."""
        return small_maps.multiply(copy.deepcopy(self._load(weights)))

    @cached_property
    def _trained(self) -> Tensor:
        return self.indices.train

    @cached_property
    def _named(self) -> nn.Module:
        return self.blank()

    @cached_property
    def _examples(self) -> probes.Examples:
        return probes.choose(self.indices, self.data.train.labels, self.seed)

    def _target(self, original: Artifact) -> float:
        """Return the accuracy on TF at which a model has relearned."""
        logits = self.logits(original)["test"][self.indices.test_forget]
        labels = self.data.test.labels[self.indices.test_forget]
        # Reachable by a count of right answers, whatever the rounding of the difference.
        return round(Outputs("", logits, labels).accuracy() - relearn.WITHIN, 9)

    def _probe_identity(self, weights: Artifact, target: float) -> dict[str, Any]:
        examples = vars(self._examples).items()
        identity = {
            "version": probes.VERSION,
            "weights": weights.sha256,
            "target": target,
            "seed": self.seed,
            "classes": list(self.indices.forget_classes),
            "examples": {name: content_key(found.tolist()) for name, found in examples},
        }
        if self.relearn_steps != RELEARN_STEPS:
            identity["relearn_steps"] = self.relearn_steps
        return identity

    def _probed(self, weights: Artifact, original: Artifact) -> Probed:
        chosen = self._examples
        target = self._target(original)
        identity = self._probe_identity(weights, target)
        kept = self._kept("probes", identity, lambda: self._probe(weights, target))
        notes = dict(kept.notes)
        labels_of = {
            "forget": self.data.train.labels[chosen.forget],
            "test_forget": self.data.test.labels[chosen.tested],
        }
        blank = self._named
        return Probed(
            Relearned(**notes["relearn_time"]),
            notes["relearn_time_features"] and Relearned(**notes["relearn_time_features"]),
            notes["recall"],
            len(chosen.tested),
            notes["no_recall"],
            renewed={
                split: Outputs(split, kept.tensors[f"renewed_{split}"], labels_of[split])
                for split in AGAIN
                if f"renewed_{split}" in kept.tensors
            },
            copies={
                split: Outputs(
                    split,
                    kept.tensors[f"copies_{split}"].flatten(0, 1),
                    labels_of[split].repeat(len(copies.SHIFTS)),
                )
                for split in AGAIN
            },
            recovered=Recovered(**notes["input_recovery"]),
            layers=layers.distances(blank, weights.tensors, original.tensors),
            heads=layers.heads(blank),
            seconds=notes["seconds"],
        )

    def _relearned(
        self, model: nn.Module, trained: Tensor, target: float, **options: Any
    ) -> dict[str, Any]:
        found = relearn.relearn(
            model,
            self.data,
            trained,
            self._examples.watched,
            retained=self._examples.estimated,
            target=target,
            seed=self.seed,
            device=self.device,
            cap=self.relearn_steps,
            **options,
        )
        return asdict(found)

    def _probe(self, weights: Artifact, target: float) -> Built:
        """Run every probe on one model; it is as it was afterwards."""
        data, chosen, device = self.data, self._examples, self.device
        model = self._copy(weights)
        renewed = relearn.renew(model, data, chosen.estimated, device)
        tensors: dict[str, Tensor] = {}
        notes: dict[str, Any] = {"relearn_time_features": None, "recall": None, "no_recall": ""}
        seconds: dict[str, float] = {}

        @contextmanager
        def timed(name: str) -> Iterator[None]:
            start = time.process_time()
            yield
            seconds[name] = time.process_time() - start

        def relearned(trained: Tensor, **options: Any) -> dict[str, Any]:
            return self._relearned(model, trained, target, renewed=renewed, **options)

        with probes.untouched(model), as_many_as_torch():
            with timed("relearn_time"):
                notes["relearn_time"] = relearned(chosen.relearned)
            if probes.has_features(model):
                with timed("relearn_time_features"):
                    notes["relearn_time_features"] = relearned(
                        chosen.balanced,
                        fresh_head=True,
                        others=chosen.others,
                        forget_classes=self.indices.forget_classes,
                    )
            if not self.indices.forget_classes:
                notes["no_recall"] = "no class is forgotten"
            elif not probes.has_features(model):
                notes["no_recall"] = "the model has no interface for its features"
            else:
                with timed("probe_recall"):
                    for name, part, indices in (
                        ("fit", data.train, chosen.fit),
                        ("tested", data.test, chosen.tested),
                    ):
                        tensors[name] = linear.features(model, data, part, indices, device)
                    notes["recall"] = linear.recall(
                        tensors["fit"],
                        data.train.labels[chosen.fit],
                        tensors["tested"],
                        data.test.labels[chosen.tested],
                    )
            with timed("input_recovery"):
                notes["input_recovery"] = self._recovered(model)
            with timed("label_only"):
                tensors |= self._on_copies(model)
            if batch_norm.has_running_statistics(model):
                with timed("bn_recovery"):
                    tensors |= self._renewed(model)
        return tensors, notes | {"seconds": seconds}

    def _recovered(self, model: nn.Module) -> dict[str, Any]:
        """Return what small changes of the images bring back, as a mapping."""
        chosen, gone = self._examples, self.indices.forget_classes
        found = inputs.recover(model, self.data, chosen.forget, chosen.estimated, self.device, gone)
        return asdict(found)

    def _on_copies(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the logits on shifted copies of F and TF."""
        return {
            f"copies_{split}": copies.logits_on_copies(model, self.data, part, indices, self.device)
            for split, part, indices in self._again
        }

    def _renewed(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the logits on F and TF after BatchNorm's statistics were estimated again."""
        renewed = batch_norm.reestimated(model, self.data, self._examples.estimated, self.device)
        return {
            f"renewed_{split}": evaluate.logits(renewed, self.data, part, self.device, indices)
            for split, part, indices in self._again
        }

    @property
    def _again(self) -> tuple[tuple[str, Part, Tensor], ...]:
        data, chosen = self.data, self._examples
        return tuple(
            zip(AGAIN, (data.train, data.test), (chosen.forget, chosen.tested), strict=True)
        )
