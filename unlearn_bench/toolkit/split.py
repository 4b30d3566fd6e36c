"""Examples as a method reads them: in stored order or in shuffled, augmented training passes."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, count, repeat
from typing import NoReturn

import torch
from torch import Tensor

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.core.seeds import derive
from unlearn_bench.data.batches import iterate
from unlearn_bench.data.images import Dataset, Part
from unlearn_bench.suite.recipe import Recipe

Batch = tuple[Tensor, Tensor]
TracedBatch = tuple[Tensor, Tensor, Tensor]


class Split:
    """A set of training examples that yields normalised batches on the run's device.

    Three ways to read it: :meth:`batches` gives one pass in stored order, unaugmented, for
    scores and importances; :meth:`epochs` and :meth:`forever` give training passes, shuffled
    again and augmented as the recipe says.

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

    def __iter__(self) -> NoReturn:
        # A loop over a split would leave open whether it is shuffled and augmented.
        raise TypeError(
            f"the {self.name} split cannot be looped over directly; use .epochs(1) for a shuffled "
            "training pass, or .batches() for a pass in stored order"
        )

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

    def read_by(self, seed: int, positions: Tensor) -> "Split":
        """Return the examples at these positions, shuffled by ``seed`` alone.

        For code that must continue exactly where a training ended, no matter what was read before.
        """
        split = self.at(positions)
        split._seed, split._passes = seed, count()
        return split

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

    For the code that hands splits out: a method reads batches.
    """
    return split._data, split.indices


def _pairs(batches: Iterator[TracedBatch]) -> Iterator[Batch]:
    return ((x, y) for x, y, _ in batches)
