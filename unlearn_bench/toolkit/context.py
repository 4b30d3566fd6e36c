"""What a method sees of the world: the splits it declared, and nothing of the rest.

The harness builds one :class:`Context` per run. Reading an undeclared split raises; the test
part is not in here at all. Everything a method touches is counted.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import AccessError, ParameterError
from unlearn_bench.core.seeds import derive
from unlearn_bench.data.batches import iterate
from unlearn_bench.data.images import Dataset, Part
from unlearn_bench.measure.clock import Clock
from unlearn_bench.plugins.access import Access
from unlearn_bench.suite.spec import Recipe
from unlearn_bench.toolkit.attacks import Pixels
from unlearn_bench.toolkit.state import State

Batch = tuple[Tensor, Tensor]
TracedBatch = tuple[Tensor, Tensor, Tensor]

# Longer logs are thinned evenly when stored; a curve needs no more points.
MAX_LOG_ENTRIES = 2000


class Split:
    """A set of training examples that yields normalised batches on the run's device.

    Three ways to read it: :meth:`batches` gives one pass in stored order, unaugmented, for
    scores and importances; :meth:`epochs` and :meth:`forever` give training passes, shuffled
    anew and augmented as the recipe says.

    Args:
        name: ``forget``, ``retain`` or ``validation``; joined by ``+`` for unions.
        data: The dataset; only its training part is read.
        indices: Examples of it, [N].
        recipe: Gives the batch size where a call names none, and the augmentation.
        device: Where batches are put.
        seed: Determines the shuffles.
        ledger: Counts the examples touched, by split name.
        dtype: Of the inputs.
        labels: Targets, [N]; the dataset's unless a method relabels.
        origins: For each example the index into ``names`` it is counted under.

    Attributes:
        name: As given.
        indices: As given.
        labels: Targets, [N].
        device: Where batches are put.
        batch_size: Used where a call names none.
        augment: Augmentation of training passes.
    """

    def __init__(
        self,
        name: str,
        data: Dataset,
        indices: Tensor,
        recipe: Recipe,
        *,
        device: torch.device,
        seed: int,
        ledger: Counter[str],
        dtype: torch.dtype = torch.float32,
        labels: Tensor | None = None,
        origins: Tensor | None = None,
    ) -> None:
        self.name = name
        self.indices = indices
        self.labels = data.train.labels[indices] if labels is None else labels
        self.device = device
        self.batch_size: int = recipe.batch_size
        self.augment: str = recipe.augment
        self._data, self._part = data, data.train
        self._recipe = recipe
        self._dtype = dtype
        self._seed = seed
        self._ledger = ledger
        self._names = name.split("+")
        self._origins = torch.zeros(len(indices), dtype=torch.long) if origins is None else origins
        self._passes = count()

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Yield (x, y) once over the split in stored order, without augmentation."""
        return _pairs(self._iterate(batch_size, None, "none"))

    def epochs(
        self,
        n: int,
        batch_size: int | None = None,
        *,
        augment: bool = True,
    ) -> Iterator[Batch]:
        """Yield (x, y) over ``n`` training passes, each freshly shuffled and augmented."""
        return _pairs(self.traced(n, batch_size, augment=augment))

    def traced(
        self,
        n: int,
        batch_size: int | None = None,
        *,
        augment: bool = True,
    ) -> Iterator[TracedBatch]:
        """Yield (x, y, positions) as :meth:`epochs` does.

        ``positions`` [B] say which examples a batch holds: into ``labels`` and ``indices``.
        """
        return chain.from_iterable(self._pass(batch_size, augment) for _ in range(n))

    def forever(self, batch_size: int | None = None, *, augment: bool = True) -> Iterator[Batch]:
        """Yield training batches without end, to accompany another split.

        Raises:
            ParameterError: If the split is empty.
        """
        if not len(self):
            raise ParameterError(f"the {self.name} split is empty: it cannot be repeated")
        passes = (self._pass(batch_size, augment) for _ in repeat(None))
        return _pairs(chain.from_iterable(passes))

    def subset(self, n: int, generator: torch.Generator) -> "Split":
        """Return ``n`` examples drawn without replacement, or all where there are fewer."""
        return self.at(torch.randperm(len(self), generator=generator)[:n].sort().values)

    def at(self, positions: Tensor) -> "Split":
        """Return the examples at these positions, [M] int64 on the CPU."""
        return self._with(
            self.name, self.indices[positions], self.labels[positions], self._origins[positions]
        )

    def relabelled(self, labels: Tensor) -> "Split":
        """Return the same examples with other targets, [N] int64.

        Raises:
            ParameterError: If there is not one label per example.
        """
        if labels.shape != self.labels.shape:
            raise ParameterError(
                f"relabelling {len(self)} examples takes {len(self)} labels, "
                f"not a tensor of shape {list(labels.shape)}"
            )
        return self._with(self.name, self.indices, labels.cpu(), self._origins)

    def __add__(self, other: "Split") -> "Split":
        """Return the union; its batches mix both, examples are counted where they belong.

        Raises:
            ParameterError: If the splits share examples.
        """
        if torch.isin(self.indices, other.indices).any():
            raise ParameterError(f"{self.name} and {other.name} share examples: no union of them")
        return self._with(
            f"{self.name}+{other.name}",
            torch.cat([self.indices, other.indices]),
            torch.cat([self.labels, other.labels]),
            torch.cat([self._origins, other._origins + len(self._names)]),
        )

    def _with(self, name: str, indices: Tensor, labels: Tensor, origins: Tensor) -> "Split":
        derived = type(self)(
            name,
            self._data,
            indices,
            self._recipe,
            device=self.device,
            ledger=self._ledger,
            seed=derive(self._seed, "derived"),
            dtype=self._dtype,
            labels=labels,
            origins=origins,
        )
        # Passes are counted together: relabelled once an epoch, a split would else be shuffled
        # and augmented alike in all of them.
        derived._passes = self._passes
        return derived

    def _pass(self, batch_size: int | None, augment: bool) -> Iterator[TracedBatch]:
        seed = derive(self._seed, "pass", next(self._passes))
        generator = torch.Generator().manual_seed(seed)
        yield from self._iterate(batch_size, generator, self.augment if augment else "none")

    def _iterate(
        self, batch_size: int | None, generator: torch.Generator | None, augment: str
    ) -> Iterator[TracedBatch]:
        # Positions stand in for labels on the way through the loader: they tell which examples
        # a batch holds, and with that both its targets and the splits it is counted under.
        tickets = torch.zeros(len(self._part.labels), dtype=torch.long)
        tickets[self.indices] = torch.arange(len(self))
        batches = iterate(
            Part(self._part.images, tickets),
            self.indices,
            batch_size=batch_size or self.batch_size,
            device=self.device,
            mean=self._data.mean,
            std=self._data.std,
            augment=augment,
            generator=generator,
        )
        labels = self.labels.to(self.device)
        full = min(len(self), batch_size or self.batch_size)
        for x, positions in batches:
            if generator is not None and len(x) == 1 < full:
                continue  # a left-over single example: BatchNorm cannot train on it
            if len(self._names) == 1:
                self._ledger[self.name] += len(x)
            else:
                for origin, touched in enumerate(
                    self._origins[positions.cpu()].bincount(minlength=len(self._names)).tolist()
                ):
                    self._ledger[self._names[origin]] += touched
            yield x.to(self._dtype), labels[positions], positions


def contents(split: Split) -> tuple[Dataset, Tensor]:
    """Return the dataset that a split is a part of, and which training examples of it, [N].

    For whoever hands splits out: a method reads batches.
    """
    return split._data, split.indices


def _pairs(batches: Iterator[TracedBatch]) -> Iterator[Batch]:
    return ((x, y) for x, y, _ in batches)


# Trains a model on a split with the suite's recipe, in place; of the modules given only those.
Trainer = Callable[[nn.Module, Split, Sequence[nn.Module] | None], None]


@dataclass(frozen=True)
class TrainingLog:
    """What the training of the original did to the weights in the batches that held F.

    Attributes:
        change: By parameter name, the sum over those steps of weights after minus before.
        hits: Optimiser steps whose batch held an example of F.
        steps: All optimiser steps.
    """

    change: dict[str, Tensor]
    hits: int
    steps: int


class Context:
    """Everything a method may use: declared splits, fresh models, training, randomness, a log.

    Attributes:
        device: Where the model and all batches are.
        rng: The method's own random numbers, a CPU generator seeded per run.
        num_classes: Width of the model's output.
        forget_classes: Classes forgotten whole; empty when examples are forgotten.
        input_shape: Of one image, (channels, height, width).
        pixels: The way between inputs and pixels in [0, 1].
        log_entries: What :meth:`log` collected; values may be tensors on the device.
    """

    def __init__(
        self,
        method: str,
        access: Access,
        splits: dict[str, Split],
        *,
        device: torch.device,
        seed: int,
        num_classes: int,
        forget_classes: tuple[int, ...],
        input_shape: tuple[int, int, int],
        build: Callable[[int, bool], nn.Module],
        trainer: Trainer,
        clock: Clock,
        pixels: Pixels,
        training_log: TrainingLog | None = None,
        given: Mapping[str, Tensor] | None = None,
        state: State | None = None,
    ) -> None:
        self.device = device
        self.rng = torch.Generator().manual_seed(derive(seed, "rng"))
        self.num_classes = num_classes
        self.forget_classes = forget_classes
        self.input_shape = input_shape
        self.pixels = pixels
        self.log_entries: list[dict[str, Tensor | float]] = []
        self._method = method
        self._access = access
        self._splits = splits
        self._seed = seed
        self._build = build
        self._trainer = trainer
        self._clock = clock
        self._training_log = training_log
        self._given = given
        self._state = state
        self._models_built = count()

    def _read(self, name: str) -> Split:
        if not getattr(self._access, name):
            raise AccessError(
                f"method {self._method!r} read the {name} split but declares only "
                f"{self._access}; add Access.{name.upper()} to access= in its @method line, "
                f"or do not read ctx.{name}"
            )
        return self._splits[name]

    @property
    def forget(self) -> Split:
        """The forget set F."""
        return self._read("forget")

    @property
    def retain(self) -> Split:
        """The retain set R, or the declared share of it."""
        return self._read("retain")

    @property
    def validation(self) -> Split:
        """Held-out training examples, for stop rules and tuning."""
        return self._read("validation")

    @property
    def training_log(self) -> TrainingLog:
        """What the original's training did in the batches that held F.

        Raises:
            AccessError: If the method does not declare ``Access.LOG``.
        """
        if not self._access.log or self._training_log is None:
            raise AccessError(
                f"method {self._method!r} read the training log but declares only {self._access}; "
                "add Access.LOG to access= in its @method line, or do not read ctx.training_log"
            )
        return self._training_log

    @property
    def state(self) -> State:
        """What the method left at the last request of a stream; empty at the first.

        Raises:
            AccessError: If the method does not declare that it keeps one.
        """
        if self._state is None:
            raise AccessError(
                f"method {self._method!r} read ctx.state but keeps no state between requests; add "
                "keeps_state=True to its @method line"
            )
        return self._state

    def given_weights(self) -> Mapping[str, Tensor]:
        """Return the user's unlearned weights, which `run --unlearned` names.

        Raises:
            ParameterError: If the run names none.
        """
        if self._given is None:
            raise ParameterError(f"{self._method}: no weights are given; use run --unlearned FILE")
        return self._given

    def new_model(self, pretrained: bool = True) -> nn.Module:
        """Return a model as the recipe begins with it, on the run's device.

        Its weights are freshly initialised from the run's seed; a second call gives others.

        Args:
            pretrained: Where the recipe begins with pre-trained weights, take those and draw only
                what they leave open, as retraining does. With false all of it is drawn.
        """
        seed = derive(self._seed, "new_model", next(self._models_built))
        return self._build(seed, pretrained).to(self.device)

    def train(
        self, model: nn.Module, split: Split, only: Sequence[nn.Module] | None = None
    ) -> nn.Module:
        """Train ``model`` on ``split`` with the very recipe of the original, and return it.

        Args:
            model: Changed in place; ends in eval mode.
            split: Examples.
            only: Modules of ``model`` to train; all else keeps its weights and stays in eval
                mode, running statistics included. By default everything is trained.
        """
        self._trainer(model, split, only)
        return model

    def log(self, **scalars: Tensor | float) -> None:
        """Note numbers of one step; they are stored with the run, in order.

        Tensors are kept as they are until the run ends, so that a log costs no synchronisation.
        """
        self.log_entries.append(
            {k: v.detach() if isinstance(v, Tensor) else v for k, v in scalars.items()}
        )

    def precompute(self) -> contextlib.AbstractContextManager[None]:
        """Time the block as precomputation: importances, masks, teachers."""
        return self._clock.phase("precompute")
