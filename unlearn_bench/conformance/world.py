"""A world small enough to run a method twenty times in a second or two: a few digits, a tiny net.

Real data and a trained original, so that a method meets what it is made for; images that note who
looked at them, so that nobody reads unseen.
"""

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_bench.data import changes, splits
from unlearn_bench.data.datasets import Dataset, load
from unlearn_bench.data.images import Part, TensorImages
from unlearn_bench.data.splits import Indices
from unlearn_bench.execution.task import Task, Unlearning, silent
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.access import SPLITS
from unlearn_bench.plugins.method import Method
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.sharding import Sharding
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.toolkit.checkpoints import Checkpoints, Restart
from unlearn_bench.toolkit.context import Context, Split, TrainingLog
from unlearn_bench.training.loop import UpdateLog
from unlearn_bench.training.sharded import division, first_hits

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

    def only(self, members: Tensor) -> TensorImages:
        """Return these images themselves: they tell who looks at others."""
        return self


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


@dataclass
class World:
    """A task with its original model, in which methods are called as in any run.

    Attributes:
        task: On digits; more training images than the scenario uses, and no readable test images.
        original: Trained on F and R; methods get copies.
        log: What the original's training did in the batches that held F, if it was recorded.
        kept: Of an original trained in shards, the state of each shard before each stage.
        ledger: Examples touched in the last run, by split.
        surrogates: Seed of the surrogate images, which are noise; None where there are none.
    """

    task: Task
    original: nn.Module
    log: TrainingLog | None = None
    kept: Mapping[tuple[int, int], Mapping[str, Tensor]] = field(default_factory=dict)
    ledger: Counter[str] = field(default_factory=Counter)
    surrogates: int | None = None

    @property
    def data(self) -> Dataset:
        """The digits."""
        return self.task.data

    @property
    def indices(self) -> Indices:
        """Who is in F, R and V."""
        return self.task.indices

    @property
    def images(self) -> WatchedImages:
        """The training images."""
        assert isinstance(self.data.train.images, WatchedImages)
        return self.data.train.images

    @property
    def exact(self) -> bool:
        """Whether models and images are float64."""
        return self.task.dtype == torch.float64

    def build(self, seed: int) -> nn.Module:
        """Return a model with fresh weights."""
        return self.task.build(seed)

    def split(self, name: str, seed: int = 0) -> Split:
        """Return F, R or V, to look at."""
        task = replace(self.task, seed=seed)
        return task.split(name, getattr(self.indices, name), "look")

    @property
    def checkpoints(self) -> Checkpoints:
        """Where each shard that holds an example of F is to be restarted."""
        sharding, seed = self.task.model.sharding, self.task.original_seed
        assert sharding is not None
        cells = division(sharding, seed, len(self.data.train.labels))
        hits = first_hits(sharding, cells, self.indices.forget)
        restarts = (Restart(shard, at, self.kept[shard, at]) for shard, at in hits.items())
        return Checkpoints(tuple(restarts), seed)

    def surrogate_images(self, count: int) -> Tensor | None:
        """Return what stands for images of another dataset, uint8; None where there are none."""
        if self.surrogates is None:
            return None
        generator = torch.Generator().manual_seed(self.surrogates)
        shape = (count, *self.images.shape)
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)

    def unlearning(
        self,
        method: Method,
        seed: int = 0,
        context_type: type[Context] = Context,
        params: Mapping[str, Any] | None = None,
    ) -> Unlearning:
        """Return a method at work in this world, as in a run of that seed.

        Args:
            method: What is to work.
            seed: Of all that it draws; data and original stay the same.
            context_type: What it is handed.
            params: All hyper-parameters; by default the method's own.
        """
        count = method.resolve(params or {})["surrogates"] if method.access.surrogate else 0
        unlearning = Unlearning(
            replace(self.task, seed=seed),
            method,
            training_log=self.log if method.access.log else None,
            context_type=context_type,
            checkpoints=self.checkpoints if method.access.checkpoints else None,
            surrogates=self.surrogate_images(count) if method.access.surrogate else None,
        )
        self.ledger = unlearning.costs.ledger
        return unlearning

    def of(self, method: Method, params: Mapping[str, Any]) -> "World":
        """Return the world that a method starts in: with an ensemble, if it needs one.

        Args:
            method: As registered.
            params: Hyper-parameters that differ from the defaults.
        """
        if not method.access.checkpoints or self.task.model.sharding is not None:
            return self
        given = method.resolve(params)
        sharding = Sharding(shards=given["shards"], slices=given["slices"])
        model = self.task.model.model_copy(update={"sharding": sharding})
        return _in_shards(replace(self.task, model=model))

    def context(self, method: Method, seed: int = 0) -> Context:
        """Return a context with what the method declares; all methods draw alike from it."""
        return self._unlearning_as_any(method, seed).context

    def unlearn(self, name: str, seed: int = 0, **params: Any) -> nn.Module:
        """Return what a registered method makes of a copy of the original.

        All methods draw alike: what tells two results apart is not their names.
        """
        method = registry.get(name)
        world = self.of(method, params)
        model = copy.deepcopy(world.original)
        returned = world._unlearning_as_any(method, seed, params).run(model, method.resolve(params))
        assert isinstance(returned, nn.Module)
        return returned

    def _unlearning_as_any(
        self, method: Method, seed: int, params: Mapping[str, Any] | None = None
    ) -> Unlearning:
        # Seeds are derived from the name.
        return self.unlearning(replace(method, name="any method"), seed, params=params)

    def exactly(self) -> "World":
        """Return the same world in float64."""
        log = self.log and replace(
            self.log, change={n: t.double() for n, t in self.log.change.items()}
        )
        task = replace(self.task, dtype=torch.float64)
        kept = {place: {n: _exact(t) for n, t in of.items()} for place, of in self.kept.items()}
        original = copy.deepcopy(self.original).double()
        return replace(self, task=task, original=original, log=log, kept=kept)

    def with_recipe(self, recipe: Recipe) -> "World":
        """Return the same world with another recipe for `ctx.train`."""
        return replace(self, task=replace(self.task, recipe=recipe))

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
        return changed._divided(replace(changed.indices, forget_classes=tuple(gone)))

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
        return self._divided(
            replace(
                self.indices,
                forget=members["forget"],
                retain=members["retain"],
                validation=members["validation"],
            )
        )

    def _divided(self, indices: Indices) -> "World":
        return replace(self, task=replace(self.task, indices=indices))


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
    scenario = Forget.model_validate(forget)
    indices = splits.make(
        scenario,
        data.train.labels[:examples],
        data.test.labels,
        data.classes,
        validation=0.1,
        seed=seed,
    )
    change = changes.change_of(scenario, data.classes)
    if change is not None:
        changed = changes.in_part(data.train, indices.changed, change)
        assert isinstance(changed.images, TensorImages)
        watched = Part(WatchedImages(changed.images.data), changed.labels)
        data = replace(data, train=watched, fingerprint=f"{data.fingerprint} {scenario.name}")
    spec = ModelSpec.model_validate(architecture)
    task = Task(data, indices, spec, recipe, scenario.name, seed, CPU)
    if spec.sharding is not None:
        return _in_shards(task)
    if not logged:
        return World(task, _original(task))
    original = task.new_original()
    updates = UpdateLog(original, indices.forget)
    _train(task, original, updates)
    return World(task, original, TrainingLog(updates.change, updates.hits, updates.steps))


def _in_shards(task: Task) -> World:
    """Return a world whose original is an ensemble, with a checkpoint before each stage."""
    kept: dict[tuple[int, int], dict[str, Tensor]] = {}

    def keep(shard: int, stage: int, member: nn.Module) -> None:
        kept[shard, stage] = copy.deepcopy(member.state_dict())

    original = task.new_original()
    torch.set_num_threads(1)
    task.train(original, task.everyone(), seed=task.original_seed, step=silent, before=keep)
    return World(task, original, kept=kept)


def _exact(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


_ORIGINALS: dict[tuple[object, ...], nn.Module] = {}


def _original(task: Task) -> nn.Module:
    members = tuple(task.indices.train.tolist())
    data, model = task.data, task.model.model_dump_json()
    key = (model, data.fingerprint, data.num_classes, members, task.recipe, task.seed)
    if key not in _ORIGINALS:
        trained = task.new_original()
        _train(task, trained)
        _ORIGINALS[key] = trained
    return _ORIGINALS[key]


def _train(task: Task, model: nn.Module, log: UpdateLog | None = None) -> None:
    torch.set_num_threads(1)  # more threads than such small tensors can feed wait for each other
    task.train_original(model, log=log)
