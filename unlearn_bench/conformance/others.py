"""The rules for models, datasets and metrics of plug-ins: `unlearn-bench check` for these.

A network must be rebuilt from a seed and be copied; a dataset must read the same twice; a
metric must be a function of what it is shown.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from unlearn_bench.conformance.finding import Finding, Status
from unlearn_bench.core.errors import UserError, said
from unlearn_bench.data import datasets, plugged
from unlearn_bench.data.images import TensorImages
from unlearn_bench.measure.evaluate import SPLITS
from unlearn_bench.measure.metrics import Entry, compute_entry
from unlearn_bench.measure.outputs import Evaluation, Observed, Outputs
from unlearn_bench.plugins.parts import Part
from unlearn_bench.results.records import Record
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training import models

# Images that a network may be made for, the commonest first.
SHAPES = ((3, 32), (1, 28), (3, 224), (1, 8))
CLASSES = 7
# Name of a check, why it matters, and what looks.
Check = tuple[str, str, Callable[[], str]]


class _FailedError(Exception):
    """What was seen is not what must be."""


def examine_model(part: Part) -> Iterator[Finding]:
    """Check a network and yield a finding per check."""
    seen = _Network(part)
    yield from _findings(
        ("builds", "it must fit itself to images and classes", seen.builds),
        ("draws its weights", "a run is repeated from its seed", seen.draws),
        ("learns", "what gets no gradient is neither trained nor unlearned", seen.learns),
        ("judges each image", "metrics are computed example by example", seen.judges_each),
        ("copies", "models are stored as state_dicts, and methods get copies", seen.copies),
    )


def examine_dataset(part: Part, root: Path = datasets.DEFAULT_ROOT) -> Iterator[Finding]:
    """Check a dataset and yield a finding per check.

    Args:
        part: As registered.
        root: Folder of the datasets, which it is called with.
    """
    seen = _Images(part, root)
    yield from _findings(
        ("reads", "it must give uint8 images with labels", seen.reads),
        ("repeats", "results are kept under a hash of the data", seen.repeats),
        ("has all classes", "accuracy on a class needs examples of it", seen.has_all_classes),
        ("keeps test images apart", "attacks compare seen with unseen images", seen.keeps_apart),
    )


def examine_metric(entry: Entry) -> Iterator[Finding]:
    """Check a function of metrics and yield a finding per check."""
    seen = _Numbers(entry)
    needs = "retraining may fail: declare needs_retrained=True"
    yield from _findings(
        ("computes", "it must return a record of each metric it declares", seen.computes),
        ("repeats", "a metric is a function of what it is shown", seen.repeats),
        ("endures a flat model", "methods may ruin a model", seen.endures),
        ("does without retraining", needs, seen.does_without),
    )


def _findings(*checks: Check) -> Iterator[Finding]:
    """Yield what each check finds; where the first fails, the others have nothing to look at."""
    for place, (name, why, look) in enumerate(checks):
        start = time.process_time()
        status: Status = "failed"
        try:
            seen = look()
            status = "passed"
        except (_FailedError, UserError) as error:
            seen = str(error)
        except Exception as error:  # whatever a plug-in raises
            seen = f"{type(error).__name__}: {said(error)}"
        yield Finding(name, status, seen, why, time.process_time() - start)
        if place == 0 and status == "failed":
            return


class _Network:
    """A plug-in's model, for images of a size that it takes."""

    def __init__(self, part: Part) -> None:
        self._name = part.name
        self._shape = SHAPES[0]

    def _build(self, seed: int = 0) -> nn.Module:
        channels, side = self._shape
        return models.build(
            ModelSpec(name=self._name),
            channels=channels,
            image_size=(side, side),
            num_classes=CLASSES,
            seed=seed,
        )

    def _inputs(self, count: int) -> Tensor:
        channels, side = self._shape
        generator = torch.Generator().manual_seed(0)
        return torch.randn(count, channels, side, side, generator=generator)

    def builds(self) -> str:
        """See whether it takes any images at all."""
        reasons = []
        for channels, side in SHAPES:
            self._shape = channels, side
            try:
                self._build()
            except UserError as error:
                reasons.append(str(error))
                continue
            return f"logits [N, {CLASSES}] of {channels} x {side} x {side} images"
        raise _FailedError(reasons[0])

    def draws(self) -> str:
        """See whether a seed gives a model."""
        one, same, other = (self._build(seed).state_dict() for seed in (0, 0, 1))
        if not _equal(one, same):
            raise _FailedError("two models of one seed differ; draw weights with torch only")
        if _equal(one, other):
            raise _FailedError("models of two seeds are the same; draw new weights in every call")
        return "one seed gives one model, another gives another"

    def learns(self) -> str:
        """See whether every parameter gets a gradient."""
        model = self._build().train()
        model(self._inputs(8)).square().sum().backward()
        idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        if idle:
            raise _FailedError(f"no gradient reaches {', '.join(idle[:3])}")
        return f"gradients reach all {len(list(model.parameters()))} parameters"

    @torch.no_grad()
    def judges_each(self) -> str:
        """See whether images of a batch influence each other."""
        model, x = self._build(), self._inputs(4)
        together, alone = model(x), torch.cat([model(image[None]) for image in x])
        if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
            raise _FailedError("in eval mode the logits of an image depend on others of its batch")
        return "in eval mode every image has its own logits"

    @torch.no_grad()
    def copies(self) -> str:
        """See whether its weights are all of it."""
        model, x = self._build(), self._inputs(2)
        twin, loaded = copy.deepcopy(model), self._build(1)
        loaded.load_state_dict(model.state_dict())
        if not all(torch.equal(model(x), other(x)) for other in (twin, loaded)):
            raise _FailedError("a copy, or a model with its state_dict, answers differently")
        return "a copy, and a model with its state_dict, answer alike"


class _Images:
    """A plug-in's dataset, once it is read."""

    def __init__(self, part: Part, root: Path) -> None:
        self._part, self._root = part, root

    @cached_property
    def _data(self) -> datasets.Dataset:
        return datasets.load(self._part.name, root=self._root)

    def reads(self) -> str:
        """See what it gives."""
        data = self._data
        size = " x ".join(map(str, (data.channels, *data.image_size)))
        count = f"{len(data.train.labels):,} + {len(data.test.labels):,}"
        return f"{count} images of {size}, {data.num_classes} classes"

    def repeats(self) -> str:
        """See whether it gives the same again."""
        again = datasets.load(self._part.name, root=self._root)
        if again.fingerprint != self._data.fingerprint:
            raise _FailedError("read twice it differs; draw nothing at random in it")
        return "read twice it is the same"

    def has_all_classes(self) -> str:
        """See whether a class is missing in a part."""
        data = self._data
        for which, labels in (("training", data.train.labels), ("test", data.test.labels)):
            absent = sorted(set(range(data.num_classes)) - set(labels.tolist()))
            if absent:
                raise _FailedError(f"the {which} part has no {data.classes[absent[0]]!r}")
        return "each class is in both parts"

    def keeps_apart(self) -> str:
        """See whether an image is in both parts."""
        raw = plugged.read(self._part, self._root)
        seen, unseen = (
            {image.numpy().tobytes() for image in part.images.data}
            for part in (raw.train, raw.test)
            if isinstance(part.images, TensorImages)
        )
        if shared := len(seen & unseen):
            raise _FailedError(f"{shared} test images are training images as well")
        return "no test image is a training image"


class _Numbers:
    """A plug-in's function of metrics, on invented models."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def computes(self) -> str:
        """See what it returns."""
        return _listed(compute_entry(self._entry, _evaluation()))

    def repeats(self) -> str:
        """See whether it returns the same again, and leaves what it is shown."""
        evaluation, before = _evaluation(), _evaluation()
        first, second = (compute_entry(self._entry, evaluation) for _ in range(2))
        if first != second:
            raise _FailedError("the same models get two values; draw from evaluation.seed")
        for name in ("unlearned", "original", "retrained"):
            for split, outputs in getattr(before, name).outputs.items():
                if not torch.equal(outputs.logits, getattr(evaluation, name)[split].logits):
                    raise _FailedError(f"it changes the logits of {name} on {split}")
        return "the same models get the same value, and stay as they were"

    def endures(self) -> str:
        """See what it makes of models that know nothing."""
        found = compute_entry(self._entry, _evaluation(scale=0.0))
        return f"of models that say the same of every image: {_listed(found)}"

    def does_without(self) -> str:
        """See what it makes of a seed whose retraining failed."""
        alone = replace(_evaluation(), retrained=None, missing="retraining failed")
        return _listed(compute_entry(self._entry, alone))


def _listed(records: list[Record]) -> str:
    return ", ".join(map(_shown, records))


def _shown(record: Record) -> str:
    on = f" on {record.split}" if record.split else ""
    value = record.status if record.value is None else f"{record.value:.4g}"
    return f"{record.metric}{on} = {value}"


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _evaluation(scale: float = 1.0) -> Evaluation:
    """Return invented models on invented examples, their logits multiplied by ``scale``."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(6 * CLASSES) % CLASSES

    def seen(split: str, knows: float) -> Outputs:
        logits = torch.randn(len(labels), CLASSES, generator=generator).double()
        logits[torch.arange(len(labels)), labels] += knows
        return Outputs(split, scale * logits, labels)

    unlearned, original, retrained = (
        Observed({split: seen(split, knows) for split in SPLITS}) for knows in (1.0, 4.0, 0.5)
    )
    return Evaluation(unlearned, original, retrained, tuple(map(str, range(CLASSES))))
