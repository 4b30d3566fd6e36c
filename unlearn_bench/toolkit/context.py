"""What a method can see: the splits that it declares, and nothing else.

The harness builds one :class:`Context` per run. Reading an undeclared split raises an
error; the test part is never included. Every example that a method reads is counted.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import AccessError, ParameterError
from unlearn_bench.core.seeds import derive
from unlearn_bench.measure.clock import Clock
from unlearn_bench.plugins.access import Access
from unlearn_bench.toolkit.attacks import Pixels
from unlearn_bench.toolkit.checkpoints import Checkpoints
from unlearn_bench.toolkit.split import Split, contents
from unlearn_bench.toolkit.state import State

__all__ = ["MAX_LOG_ENTRIES", "Context", "Split", "Trainer", "TrainingLog", "contents"]

# Longer logs are thinned evenly when stored; a curve needs no more points.
MAX_LOG_ENTRIES = 2000


# Trains a model on a split with the suite's recipe, in place; of the modules given only those.
Trainer = Callable[[nn.Module, Split, Sequence[nn.Module] | None], None]
# Trains a member of an ensemble on what is left of a shard up to a slice, in place.
StageTrainer = Callable[[nn.Module, int, int], None]


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
        checkpoints: Checkpoints | None = None,
        stage_trainer: StageTrainer | None = None,
        surrogates: Tensor | None = None,
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
        self._checkpoints, self._stage_trainer = checkpoints, stage_trainer
        self._surrogates = surrogates
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
    def checkpoints(self) -> Checkpoints:
        """Where the shards that held forgotten examples are to be restarted.

        Raises:
            AccessError: If the method does not declare ``Access.CHECKPOINTS``.
        """
        if not self._access.checkpoints or self._checkpoints is None:
            raise AccessError(
                f"method {self._method!r} read the checkpoints of shards but declares only "
                f"{self._access}; add Access.CHECKPOINTS to access= in its @method line, or do not "
                "read ctx.checkpoints"
            )
        return self._checkpoints

    @property
    def surrogates(self) -> Tensor | None:
        """Images of the surrogate data that the user names, as inputs [N, C, H, W] on the device.

        None where nobody names any: the method then makes do without, as by `surrogate_images`.

        Raises:
            AccessError: If the method does not declare ``Access.SURROGATE``.
        """
        if not self._access.surrogate:
            raise AccessError(
                f"method {self._method!r} read the surrogate images but declares only "
                f"{self._access}; add Access.SURROGATE to access= in its @method line, or do not "
                "read ctx.surrogates"
            )
        if self._surrogates is None:
            return None
        return self.pixels.normalised(self._surrogates.to(self.pixels.mean) / 255)

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
        """Train ``model`` on ``split`` with the recipe of the original, and return it.

        Args:
            model: Changed in place; ends in eval mode.
            split: Examples.
            only: Modules of ``model`` to train; all else keeps its weights and stays in eval
                mode, running statistics included. By default everything is trained.
        """
        self._trainer(model, split, only)
        return model

    def train_slice(self, member: nn.Module, shard: int, number: int) -> nn.Module:
        """Train a member on what is left of its slices up to ``number``, and return it.

        As the original's training did, with its seeds: a member that is restarted and trained on
        to the last slice is the one that training without the forgotten examples would have given.

        Args:
            member: Changed in place; ends in eval mode.
            shard: Which member of the ensemble it is, from 0.
            number: The last slice that takes part, from 0.

        Raises:
            AccessError: If the method does not declare ``Access.CHECKPOINTS``.
        """
        assert self.checkpoints is not None and self._stage_trainer is not None
        self._stage_trainer(member, shard, number)
        return member

    def log(self, **scalars: Tensor | float) -> None:
        """Log the numbers of one step; they are stored with the run, in order.

        Tensors are kept as they are until the run ends, so that a log costs no synchronisation.
        """
        self.log_entries.append(
            {k: v.detach() if isinstance(v, Tensor) else v for k, v in scalars.items()}
        )

    def precompute(self) -> contextlib.AbstractContextManager[None]:
        """Time the block as precomputation: importances, masks, teachers."""
        return self._clock.phase("precompute")
