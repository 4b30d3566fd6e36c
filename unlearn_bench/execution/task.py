"""One dataset, model, scenario and seed: how models are built and trained, and methods called.

The runner, `unlearn-bench check` and whatever else trains or unlearns go through here: there is
one wiring of splits, contexts and fresh models.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from unlearn_bench.core.blindness import is_blind, refusal
from unlearn_bench.core.fence import Fence, crossing
from unlearn_bench.core.seeds import derive, seed_everything
from unlearn_bench.data import changes, requests, splits, surrogates
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.data.splits import Indices
from unlearn_bench.execution.surroundings import Left, put_back
from unlearn_bench.execution.surroundings.kept_state import KeptState
from unlearn_bench.measure.clock import Clock, Passes, PeakMemory
from unlearn_bench.plugins.access import SPLITS
from unlearn_bench.plugins.method import Method
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec, RunSpec
from unlearn_bench.toolkit.attacks import Pixels
from unlearn_bench.toolkit.checkpoints import Checkpoints
from unlearn_bench.toolkit.context import Context, Split, TrainingLog
from unlearn_bench.toolkit.state import State
from unlearn_bench.training import models
from unlearn_bench.training.ensemble import Ensemble
from unlearn_bench.training.loop import UpdateLog, train
from unlearn_bench.training.sharded import division, train_sharded, train_stage

Step = Callable[[str], None]
NO_PLACES = Fence({})


def silent(text: str) -> None:
    """Take no notice of a step."""


@dataclass(frozen=True)
class Task:
    """What every method of one dataset, model, scenario and seed has in common.

    Attributes:
        data: On the device where it fits; changed where the scenario changes it.
        indices: Who is in F, R, V and the parts of the test set.
        model: The architecture.
        recipe: How the original and retrained models are trained.
        scenario: Its name; of a stream, that of the requests so far.
        seed: Determines all that is drawn.
        device: Where models and batches are put.
        dtype: Of weights and inputs; `check` measures small effects in float64.
        memorisation: How far the original memorises each training example, float64 [N], where F
            was chosen by it.
    """

    data: Dataset
    indices: Indices
    model: ModelSpec
    recipe: Recipe
    scenario: str
    seed: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    memorisation: Tensor | None = None

    @classmethod
    def of(
        cls,
        spec: RunSpec,
        data: Dataset,
        device: torch.device,
        memorisation: Tensor | None = None,
        in_turn: Callable[..., tuple[Indices, ...]] = requests.in_turn,
    ) -> "Task":
        """Return the task that a run is about.

        Args:
            spec: The run.
            data: Its dataset.
            device: Where it goes on.
            memorisation: As of the task.
            in_turn: Divides for several requests; give one that remembers to ask for each.

        Raises:
            DataError: If the forget set does not exist.
            BlindnessError: If something is being tuned, and this is no surrogate.
        """
        common: Any = {
            "validation": spec.validation,
            "seed": spec.seed,
            "numbers": data.train.numbers,
            "attributes": data.attributes,
        }
        labels, classes = data.train.labels, data.classes
        if spec.surrogate is not None:
            number, of = spec.surrogate.number, spec.surrogate.of
            data = data.sealed()
            indices = surrogates.make(spec.forget, number, of, labels, classes, **common)
        elif is_blind():
            raise refusal(f"the true forget set of seed {spec.seed}")
        elif spec.request:
            turns = in_turn(spec.forget, labels, data.test.labels, classes, **common)
            indices = turns[spec.request - 1]
        elif spec.forget.union:
            turns = in_turn(spec.forget, labels, data.test.labels, classes, **common)
            indices = requests.at_once(turns, labels)
        else:
            common["memorisation"] = memorisation
            indices = splits.make(spec.forget, labels, data.test.labels, classes, **common)
            data, indices = changes.apply(spec.forget, data, indices)
        # Of a stream the requests so far: what comes later changes nothing here.
        name = spec.asked.name if spec.request else spec.scenario
        return cls(
            data,
            indices,
            spec.model,
            spec.recipe,
            name,
            spec.seed,
            device,
            memorisation=memorisation,
        )

    def build(self, seed: int, pretrained: bool = True) -> nn.Module:
        """Return a model with weights drawn from ``seed``, on the CPU.

        Args:
            seed: Determines what is drawn.
            pretrained: With false all of it is drawn, also where the recipe begins with
                pre-trained weights.
        """
        model = self.model if pretrained else self.model.model_copy(update={"pretrained": False})
        return models.build(
            model,
            channels=self.data.channels,
            image_size=self.data.image_size,
            num_classes=self.data.num_classes,
            seed=seed,
        ).to(self.dtype)

    @property
    def builds(self) -> bool:
        """Whether :meth:`build` can give fresh models."""
        return True

    def blank(self) -> nn.Module:
        """Return a model of the architecture, on the CPU, whose weights do not matter."""
        return self.build(seed=0)

    def training_recipe(self) -> Recipe:
        """Return what fresh models are trained by."""
        return self.recipe

    def load(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """Return a model with these weights, on the device and in eval mode."""
        model = self.blank()
        model.load_state_dict(weights)
        return model.to(self.device).eval()

    def split(
        self, name: str, indices: Tensor, purpose: str, ledger: Counter[str] | None = None
    ) -> Split:
        """Return training examples as a :class:`Split`.

        Args:
            name: Under which they are counted.
            indices: Into the training part.
            purpose: Who reads them: each shuffles in its own way.
            ledger: Counts what is read.
        """
        return Split(
            name,
            self.data,
            indices,
            self.recipe,
            device=self.device,
            dtype=self.dtype,
            seed=derive(self.seed, purpose, name),
            ledger=Counter() if ledger is None else ledger,
        )

    def seed_of(self, method: Method, draw: int = 0) -> int:
        """Return the seed that all that a method draws comes from.

        Args:
            method: As registered.
            draw: Which of several runs that differ in these random numbers alone.
        """
        return derive(self.seed, method.name, self.scenario, *([draw] if draw else []))

    def handed_to(self, method: Method, draw: int = 0) -> "Task":
        """Return the task with no other examples than those of the splits that a method declares.

        What it can reach from what it is handed ends here; the arguments are those of
        :meth:`seed_of`.
        """
        nothing = self.indices.forget[:0]
        members: dict[str, Any] = {
            name: getattr(self.indices, name) if getattr(method.access, name) else nothing
            for name in SPLITS
        }
        if (fraction := method.access.retain_fraction) < 1 and len(members["retain"]):
            generator = torch.Generator().manual_seed(derive(self.seed_of(method, draw), "retain"))
            share = max(1, round(fraction * len(members["retain"])))
            order = torch.randperm(len(members["retain"]), generator=generator)
            members["retain"] = members["retain"][order[:share]].sort().values
        kept_back = ("test_forget", "test_retain", "kept", "unseen", "changed")
        members |= dict.fromkeys(kept_back, nothing)
        # What has gone before is out of reach as well.
        indices = replace(self.indices, **members, gone=())
        data = self.data.only(torch.cat([*members.values()]))
        return replace(self, data=data, indices=indices, memorisation=None)

    def new_original(self) -> nn.Module:
        """Return the original before its training, on the device."""
        return self.build(seed=self.original_seed).to(self.device)

    def train_original(
        self, model: nn.Module, step: Step = silent, log: UpdateLog | None = None
    ) -> None:
        """Train what :meth:`new_original` gave on F and R, in place.

        Args:
            model: Ends in eval mode.
            step: Notified of each epoch.
            log: Notified of every optimiser step.
        """
        self.train(model, self.everyone(), seed=self.original_seed, log=log, step=step)

    @property
    def original_seed(self) -> int:
        """Determines all that the original's training draws."""
        return derive(self.seed, "original")

    def everyone(self) -> Split:
        """Return F and R, as the original's training reads them."""
        return self.split("train", self.indices.train, "original")

    def train(self, model: nn.Module, split: Split, *, seed: int, step: Step, **how: Any) -> None:
        """Train a model by the recipe, in place; the members of an ensemble shard by shard.

        Args:
            model: Of the task's architecture, or a part of it.
            split: Examples.
            seed: Determines all that is drawn.
            step: Notified of each epoch.
            how: As of :func:`~unlearn_bench.training.loop.train`.
        """
        recipe, sharding = self.training_recipe(), self.model.sharding
        if sharding is None or not isinstance(model, Ensemble):
            train(model, split, recipe, seed=seed, step=step, **how)
            return
        given = {name: value for name, value in how.items() if value is not None}
        train_sharded(model, split, recipe, sharding=sharding, seed=seed, step=step, **given)


@dataclass
class Costs:
    """What a method takes, measured while it is at work.

    Attributes:
        clock: Seconds by phase.
        ledger: Examples read, by split.
        passes: Examples that went through models.
        peak_bytes: Growth of memory.
    """

    clock: Clock
    ledger: Counter[str] = field(default_factory=Counter)
    passes: Passes = field(default_factory=Passes)
    peak_bytes: int | None = None

    def notes(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "seconds": {name: asdict(spent) for name, spent in self.clock.phases.items()},
            "peak_bytes": self.peak_bytes,
            "examples": dict(self.ledger),
            "passes": self.passes.examples,
        }


class Unlearning:
    """One method at work on a task: what it is handed, and what that costs.

    Args:
        task: What it works on.
        method: As registered.
        step: Notified of each epoch of `ctx.train`.
        training_log: Of the original, for methods that declare it.
        given: Weights of the user's own, where these stand in for the method's work.
        context_type: What the method is handed; `check` watches what is read.
        limit: Seconds after which the method is ended at its next pass through a model.
        fence: What is closed to the method.
        state: What it left at the last request, if it keeps any; by default nothing.
        checkpoints: Of the original's shards, for methods that declare them.
        surrogates: Images of another dataset, uint8 [M, C, H, W], where the user names one.

    Attributes:
        context: For the method.
        costs: Of its work so far.
        left: What the method left behind of what other runs share.
    """

    def __init__(
        self,
        task: Task,
        method: Method,
        *,
        step: Step = silent,
        training_log: TrainingLog | None = None,
        given: Mapping[str, Tensor] | None = None,
        context_type: type[Context] = Context,
        limit: float | None = None,
        draw: int = 0,
        fence: Fence = NO_PLACES,
        state: State | None = None,
        checkpoints: Checkpoints | None = None,
        surrogates: Tensor | None = None,
    ) -> None:
        self._seed, self._draw = task.seed_of(method, draw), draw
        self._task, self._method, self._step = task.handed_to(method, draw), method, step
        self._fence, self._purpose = fence, f"unlearn/{method.name}"
        if draw and method.kind == "method":
            # Another unlearning reads in another order. Further retrainings keep to that of the
            # second one, and begin with other weights: stored ones were made so.
            self._purpose += f"/{draw}"
        self.costs = Costs(
            Clock(task.device), passes=Passes(limit, on_cpu=task.device.type == "cpu")
        )
        self.left = Left()
        self.context = context_type(
            method.name,
            method.access,
            self._splits(),
            device=task.device,
            seed=self._seed,
            num_classes=task.data.num_classes,
            forget_classes=task.indices.forget_classes,
            input_shape=(task.data.channels, *task.data.image_size),
            build=self._build,
            trainer=self._train,
            clock=self.costs.clock,
            pixels=Pixels(*(self._per_channel(v) for v in (task.data.mean, task.data.std))),
            training_log=training_log,
            given=given,
            state=(state or State()) if method.keeps_state else None,
            checkpoints=checkpoints,
            stage_trainer=self._train_stage,
            surrogates=surrogates,
        )

    @property
    def state(self) -> State | None:
        """What the method leaves for the next request, if it keeps any."""
        return self.context.state if self._method.keeps_state else None

    def run(self, model: nn.Module, params: Mapping[str, Any]) -> object:
        """Call the method, timed and watched, and return what it returns.

        Args:
            model: A private copy of the original, in eval mode, on the device.
            params: All hyper-parameters.
        """
        costs = self.costs
        seed_everything(derive(self._seed, "method"))
        memory = PeakMemory(self._task.device)
        method = self._method
        with torch.enable_grad(), put_back() as self.left, KeptState(method.function) as state:
            with self._fence.around(method.name, method.file), costs.clock.phase("unlearn"):
                costs.passes.begin()
                self._watched(model)
                returned: object = method.function(model, self.context, **params)
                costs.passes.stop()
        self.left.changed += state.kept
        costs.peak_bytes = memory.growth()
        return returned

    def _splits(self) -> dict[str, Split]:
        """Return what the method declares, and no more: nothing undeclared is within reach."""
        return {
            name: self._task.split(
                name, getattr(self._task.indices, name), self._purpose, self.costs.ledger
            )
            for name in SPLITS
            if getattr(self._method.access, name)
        }

    def _build(self, seed: int, pretrained: bool) -> nn.Module:
        return self._watched(self._task.build(seed, pretrained))

    def _watched(self, model: nn.Module) -> nn.Module:
        """Count the passes of a model, or of an ensemble's members: they are trained one by one."""
        for part in model.members if isinstance(model, Ensemble) else [model]:
            self.costs.passes.watch(part)
        return model

    def _train(
        self, model: nn.Module, split: Split, only: Sequence[nn.Module] | None = None
    ) -> None:
        self._task.train(
            model,
            split,
            seed=self._seed,
            only=only,
            step=self._tell,
            losses=lambda loss: self.context.log(training_loss=loss),
        )

    def _train_stage(self, member: nn.Module, shard: int, number: int) -> None:
        sharding, checkpoints = self._task.model.sharding, self.context.checkpoints
        assert sharding is not None
        seed, count = checkpoints.seed, len(self._task.data.train.labels)
        train_stage(
            member,
            self.context.retain,
            self._task.training_recipe(),
            sharding=sharding,
            cells=division(sharding, seed, count),
            shard=shard,
            stage=number,
            # Another unlearning from the same original draws otherwise.
            seed=derive(seed, "draw", self._draw) if self._draw else seed,
            step=self._tell,
            losses=lambda loss: self.context.log(training_loss=loss),
        )
        # The stage had the original's seeds; what the method draws next is its own.
        seed_everything(derive(self._seed, "method", shard, number))

    def _tell(self, text: str) -> None:
        with crossing():  # progress is written into the results folder
            self._step(text)

    def _per_channel(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self._task.device, dtype=self._task.dtype).view(-1, 1, 1)
