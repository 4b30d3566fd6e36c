"""A world small enough to run a method twenty times in a second or two: a few digits, a tiny net.

Real data and a trained original, so that a method meets what it is made for; images that note who
looked at them, so that nobody reads unseen.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_bench.core.seeds import derive, seed_everything
from unlearn_bench.data import splits
from unlearn_bench.data.datasets import Dataset, load
from unlearn_bench.data.images import Part, TensorImages
from unlearn_bench.data.splits import Indices
from unlearn_bench.measure.clock import Clock
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.access import SPLITS
from unlearn_bench.plugins.method import Method
from unlearn_bench.suite.spec import Forget, ModelSpec, Recipe
from unlearn_bench.toolkit.attacks import Pixels
from unlearn_bench.toolkit.context import Context, Split, TracedBatch, TrainingLog
from unlearn_bench.training import models
from unlearn_bench.training.loop import UpdateLog, train

CPU = torch.device("cpu")
RESNET = ModelSpec(name="test_resnet")
RECIPE = Recipe(epochs=4, batch_size=32, lr=4e-3, warmup=0.2, augment="none")
TEST_EXAMPLES = 20


class WatchedImages(TensorImages):
    """Images that remember which of them were looked at."""

    def __init__(self, data: Tensor) -> None:
        super().__init__(data)
        self.seen = torch.zeros(len(data), dtype=torch.bool)

    def fetch(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices``, and note it."""
        self.seen[indices] = True
        return super().fetch(indices)


class UnreadableImages(TensorImages):
    """Test images: nobody may look at them, and who tries is remembered."""

    def __init__(self, count: int) -> None:
        super().__init__(torch.zeros(count, 1, 8, 8, dtype=torch.uint8))
        self.attempts = 0

    def fetch(self, indices: Tensor) -> Tensor:
        """Refuse.

        Raises:
            AssertionError: Always.
        """
        self.attempts += 1
        raise AssertionError("a method read test images")


class ExactSplit(Split):
    """A split whose images are float64."""

    def _iterate(
        self, batch_size: int | None, generator: torch.Generator | None, augment: str
    ) -> Iterator[TracedBatch]:
        for x, y, positions in super()._iterate(batch_size, generator, augment):
            yield x.double(), y, positions


@dataclass
class World:
    """One scenario on one dataset with its original model.

    Attributes:
        data: Digits; more training images than the scenario uses, and no readable test images.
        indices: Who is in F, R and V.
        original: Trained on F and R; methods get copies.
        log: What the original's training did in the batches that held F, if it was recorded.
        architecture: Of the original.
        recipe: What `ctx.train` does.
        exact: Whether models and images are float64.
        ledger: Examples touched in the last run, by split.
    """

    data: Dataset
    indices: Indices
    original: nn.Module
    log: TrainingLog | None = None
    architecture: ModelSpec = RESNET
    recipe: Recipe = RECIPE
    exact: bool = False
    ledger: Counter[str] = field(default_factory=Counter)

    @property
    def images(self) -> WatchedImages:
        """The training images."""
        assert isinstance(self.data.train.images, WatchedImages)
        return self.data.train.images

    def build(self, seed: int) -> nn.Module:
        """Return a model with fresh weights."""
        model = _build(self.architecture, self.data, seed)
        return model.double() if self.exact else model

    def split(self, name: str, seed: int = 0, share: float = 1.0) -> Split:
        """Return F, R or V as a method gets it, or a share of it."""
        chosen: Tensor = getattr(self.indices, name)
        if share < 1:
            generator = torch.Generator().manual_seed(derive(seed, name, "share"))
            count = max(1, round(share * len(chosen)))
            chosen = chosen[torch.randperm(len(chosen), generator=generator)[:count]]
        kind = ExactSplit if self.exact else Split
        return _split(name, self.data, chosen, derive(seed, name), self.ledger, kind)

    def context(
        self, method: Method, seed: int = 0, context_type: type[Context] = Context
    ) -> Context:
        """Return a context with what the method declares, as the harness would."""
        access = method.access
        shares = {"forget": 1.0, "retain": access.retain_fraction, "validation": 1.0}
        readable = {
            name: self.split(name, seed, shares[name]) for name in SPLITS if getattr(access, name)
        }
        return context_type(
            method.name,
            access,
            readable,
            device=CPU,
            seed=seed,
            num_classes=self.data.num_classes,
            forget_classes=self.indices.forget_classes,
            build=lambda seed, _pretrained: self.build(seed),
            clock=Clock(CPU),
            trainer=lambda model, split, only: train(
                model, split, self.recipe, seed=seed, step=_silent, only=only
            ),
            pixels=Pixels(
                torch.tensor(self.data.mean).view(-1, 1, 1),
                torch.tensor(self.data.std).view(-1, 1, 1),
            ),
            training_log=self.log if access.log else None,
        )

    def unlearn(self, name: str, seed: int = 0, **params: Any) -> nn.Module:
        """Return what a registered method makes of a copy of the original."""
        method = registry.get(name)
        self.ledger.clear()
        model = copy.deepcopy(self.original)
        context = self.context(method, seed)
        seed_everything(seed)
        returned: nn.Module = method.function(model, context, **method.resolve(params))
        return returned

    def exactly(self) -> "World":
        """Return the same world in float64."""
        log = self.log and replace(
            self.log, change={n: t.double() for n, t in self.log.change.items()}
        )
        original = copy.deepcopy(self.original).double()
        return replace(self, original=original, log=log, exact=True)

    def with_others(self, name: str, only: int | None = None) -> "World":
        """Return the same world with other examples of the same classes in a split.

        Args:
            name: Of the split.
            only: The class whose examples are exchanged; by default all are.
        """
        members: Tensor = getattr(self.indices, name)
        labels = self.data.train.labels[members]
        others = members.clone()
        for label in labels.unique() if only is None else [only]:
            places = (labels == label).nonzero().squeeze(1)
            others[places] = self._spare(int(label))[: len(places)]
        return self._with({name: others})

    def with_class(self, label: int, instead_of: int) -> "World":
        """Return the same world with another class to be forgotten; R is as it was."""
        forget = self.indices.forget.clone()
        places = (self.data.train.labels[forget] == instead_of).nonzero().squeeze(1)
        forget[places] = self._spare(label)[: len(places)]
        gone = sorted({*self.indices.forget_classes, label} - {instead_of})
        changed = self._with({"forget": forget})
        return replace(changed, indices=replace(changed.indices, forget_classes=tuple(gone)))

    def _spare(self, label: int) -> Tensor:
        """Return the examples of a class that are in no split."""
        free = self.data.train.labels == label
        free[torch.cat([self.indices.train, self.indices.validation])] = False
        return free.nonzero().squeeze(1)

    def reordered(self) -> "World":
        """Return the same world with the examples of each split stored in another order."""
        generator = torch.Generator().manual_seed(1)
        return self._with(
            {
                name: members[torch.randperm(len(members), generator=generator)]
                for name in SPLITS
                for members in [getattr(self.indices, name)]
            }
        )

    def reduced(self, count: int) -> "World":
        """Return the same world with about ``count`` examples in each split, of every class."""
        fewer = {}
        for name in SPLITS:
            members: Tensor = getattr(self.indices, name)
            labels = self.data.train.labels[members]
            each = max(1, count // len(labels.unique()))
            kept = [members[labels == label][:each] for label in labels.unique()]
            fewer[name] = torch.cat(kept).sort().values
        return self._with(fewer)

    def _with(self, changed: dict[str, Tensor]) -> "World":
        members = {name: getattr(self.indices, name) for name in SPLITS} | changed
        return replace(
            self,
            indices=replace(
                self.indices,
                forget=members["forget"],
                retain=members["retain"],
                validation=members["validation"],
            ),
        )


@cache
def digits(classes: int = 10) -> Dataset:
    """Return the digits below ``classes``, watched, with test images that nobody may look at."""
    real = load("digits")
    kept = (real.train.labels < classes).nonzero().squeeze(1)
    hidden = real.test.labels[real.test.labels < classes][:TEST_EXAMPLES]
    return Dataset(
        "digits",
        Part(WatchedImages(real.train.images.fetch(kept)), real.train.labels[kept]),
        Part(UnreadableImages(len(hidden)), hidden),
        real.classes[:classes],
        real.mean,
        real.std,
        "small",
    )


def make_world(
    forget: str,
    *,
    data: Dataset | None = None,
    examples: int = 300,
    architecture: str | ModelSpec = RESNET,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    logged: bool = True,
) -> World:
    """Divide a dataset for a scenario and train an original.

    Args:
        forget: The scenario, such as ``class:8``.
        data: Digits by default.
        examples: How many training examples the scenario divides; others stay spare.
        architecture: Of the original, or its name in timm.
        recipe: What the original is trained by, and `ctx.train` trains by.
        seed: Of split and training.
        logged: Whether the training log is recorded. Without it, scenarios that divide the same
            examples share an original.
    """
    data = data or digits()
    indices = splits.make(
        Forget.model_validate(forget),
        data.train.labels[:examples],
        data.test.labels,
        data.classes,
        validation=0.1,
        seed=seed,
    )
    spec = ModelSpec.model_validate(architecture)
    world = World(data, indices, nn.Identity(), None, spec, recipe)
    if logged:
        world.original = _build(spec, data, seed)
        updates = UpdateLog(world.original, indices.forget)
        _train(world.original, data, indices.train, recipe, seed, updates)
        world.log = TrainingLog(updates.change, updates.hits, updates.steps)
    else:
        world.original = _original(spec, data, tuple(indices.train.tolist()), recipe, seed)
    return world


_ORIGINALS: dict[tuple[object, ...], nn.Module] = {}


def _original(
    architecture: ModelSpec, data: Dataset, members: tuple[int, ...], recipe: Recipe, seed: int
) -> nn.Module:
    model = architecture.model_dump_json()
    key = (model, data.fingerprint, data.num_classes, members, recipe, seed)
    if key not in _ORIGINALS:
        trained = _build(architecture, data, seed)
        _train(trained, data, torch.tensor(members), recipe, seed)
        _ORIGINALS[key] = trained
    return _ORIGINALS[key]


def _build(architecture: ModelSpec, data: Dataset, seed: int) -> nn.Module:
    return models.build(
        architecture,
        channels=data.channels,
        image_size=data.image_size,
        num_classes=data.num_classes,
        seed=seed,
    )


def _train(
    model: nn.Module,
    data: Dataset,
    members: Tensor,
    recipe: Recipe,
    seed: int,
    log: UpdateLog | None = None,
) -> None:
    torch.set_num_threads(1)  # more threads than such small tensors can feed wait for each other
    everyone = _split("train", data, members, seed, Counter())
    train(model, everyone, recipe, seed=seed, step=_silent, log=log)


def _split(
    name: str,
    data: Dataset,
    members: Tensor,
    seed: int,
    ledger: Counter[str],
    kind: type[Split] = Split,
) -> Split:
    return kind(
        name,
        data.train,
        members,
        mean=data.mean,
        std=data.std,
        device=CPU,
        batch_size=RECIPE.batch_size,
        augment=RECIPE.augment,
        seed=seed,
        ledger=ledger,
    )


def _silent(text: str) -> None:
    """Nobody watches the training."""
