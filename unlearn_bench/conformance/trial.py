"""One watched run of a method: what it read, what it left behind, what it gave back."""

import contextlib
import copy
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from unlearn_bench.conformance.world import UnreadableImages, World
from unlearn_bench.core.errors import AccessError, MethodError
from unlearn_bench.execution.interrupt import Interrupted, telling_apart
from unlearn_bench.execution.returned import check_model
from unlearn_bench.execution.task import Unlearning
from unlearn_bench.measure.clock import Seconds
from unlearn_bench.plugins.access import SPLITS
from unlearn_bench.plugins.method import Method
from unlearn_bench.toolkit.checkpoints import Checkpoints
from unlearn_bench.toolkit.context import Context, Split, TrainingLog
from unlearn_bench.training.ensemble import Ensemble

State = dict[str, Tensor]
TELLING = 4  # fewer examples than this come in the same order by chance
# Relative to the norm of all weights: float32 resolves 6e-8 of each.
ROUNDING = 1e-7
POISON = 1e3  # left in .grad: far from any gradient, and finite, so that nothing hides it


class WatchedContext(Context):
    """A context that remembers what was asked of it, refusals included."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.read: set[str] = set()
        self.refused: list[str] = []

    def _read(self, name: str) -> Split:
        with self._noting_refusal():
            split = super()._read(name)
        self.read.add(name)
        return split

    @property
    def training_log(self) -> TrainingLog:
        """The training log, as any context hands it over."""
        with self._noting_refusal():
            log = super().training_log
        self.read.add("log")
        return log

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints, as any context hands them over."""
        with self._noting_refusal():
            checkpoints = super().checkpoints
        self.read.add("checkpoints")
        return checkpoints

    @property
    def surrogates(self) -> Tensor | None:
        """The surrogate images, as any context hands them over."""
        with self._noting_refusal():
            images = super().surrogates
        self.read.add("surrogate")
        return images

    @contextlib.contextmanager
    def _noting_refusal(self) -> Iterator[None]:
        try:
            yield
        except AccessError as error:
            self.refused.append(str(error))  # a method may catch it, and hide it
            raise


@dataclass
class Trial:
    """What came of one run.

    Attributes:
        params: Hyper-parameters beside the defaults.
        error: What the method raised.
        misfit: What is wrong with the model that it returned.
        model: The returned model.
        state: Copy of its state at the moment of return; empty if there is none.
        given: The state that the method was given.
        layers: How the returned model's layers differ from the original's, in words.
        flags: How its modes, hooks and gradient flags differ from those handed over, in words.
        settings: What all runs share and the method left changed, in words.
        damaged: Things of the harness that it changed: the original, indices, images.
        read: Splits that were asked for, ``log``, ``checkpoints`` and ``surrogate``.
        refused: Messages of refused reads, caught by the method or not.
        strayed: Training examples looked at that belong to no declared split.
        test_attempts: Tries to look at test images.
        touched: Examples handed out, by split.
        steps: Of any optimiser.
        forwards: Calls of a model of the original's type.
        batches: Of training passes, the content's hash and how many optimiser steps went before.
        seconds: By phase.
        entries: What was logged.
        generators: The state of each global random generator at the return, hashed.
        running: Threads and processes that ran on after the return, in words.
    """

    params: Mapping[str, Any]
    error: BaseException | None = None
    misfit: str = ""
    model: nn.Module | None = None
    state: State = field(default_factory=dict)
    given: State = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    strayed: int = 0
    test_attempts: int = 0
    touched: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    forwards: int = 0
    batches: list[tuple[int, int]] = field(default_factory=list)
    seconds: dict[str, Seconds] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    generators: dict[str, int] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether a model came back that can be evaluated."""
        return self.error is None and not self.misfit

    @property
    def weights(self) -> State:
        """The returned state without integers, such as BatchNorm's count of batches."""
        return {name: t for name, t in self.state.items() if t.is_floating_point()}

    @property
    def rests(self) -> bool:
        """Whether the parameters are those handed over, but for rounding."""
        return movement(self.given, self.parameters)[2] < ROUNDING

    @property
    def parameters(self) -> State:
        """The returned parameters alone."""
        assert self.model is not None
        return {name: self.state[name] for name, _ in self.model.named_parameters()}


def attempt(
    world: World,
    method: Method,
    params: Mapping[str, Any],
    seed: int = 0,
    *,
    repeat: int = 0,
    poisoned: bool = False,
) -> Trial:
    """Run a method once in a world and watch it.

    Args:
        world: Gives data and original.
        method: What to run.
        params: Hyper-parameters that differ from the defaults.
        seed: Of all that the method draws.
        repeat: Random numbers that somebody else draws beforehand; they must not matter.
        poisoned: Whether to leave rubbish in the gradients after every optimiser step; it must not
            matter either. The model handed over has none, as in any run.
    """
    hidden = world.data.test.images
    assert isinstance(hidden, UnreadableImages)
    unlearning = world.unlearning(method, seed, WatchedContext, params)
    usual = torch.get_default_dtype()
    if world.exact:
        torch.set_default_dtype(torch.float64)  # what the method makes anew is float64 too
    model = copy.deepcopy(world.original)
    trial = Trial(params, given=_copied(model))
    world.images.seen[:] = False
    earlier_attempts = hidden.attempts
    belongings = {name: tensor.clone() for name, tensor in _belongings(world).items()}

    for _ in range(repeat):
        random.random(), np.random.rand(), torch.rand(1)
    _call(trial, unlearning, model, method.resolve(params), poisoned)
    trial.generators = {
        "random": hash(random.getstate()),
        "numpy": hash(np.random.get_state(legacy=False)["state"]["key"].tobytes()),
        "torch": hash(torch.get_rng_state().numpy().tobytes()),
    }
    trial.settings, trial.running = unlearning.left.changed, unlearning.left.running
    torch.set_default_dtype(usual)
    now = _belongings(world)
    trial.damaged = [name for name in belongings if not torch.equal(belongings[name], now[name])]
    trial.test_attempts = hidden.attempts - earlier_attempts
    trial.strayed = _strayed(world, method)
    return trial


def _call(
    trial: Trial,
    unlearning: Unlearning,
    model: nn.Module,
    params: Mapping[str, Any],
    poisoned: bool,
) -> None:
    """Let the method work, and note what it gave back and what it asked of its context."""
    layers, flags = _layers(model), _flags(model)
    try:
        trained = model.members[0] if isinstance(model, Ensemble) else model
        with telling_apart(), _watching(trial, type(trained), poisoned):
            returned = unlearning.run(model, params)
    except Interrupted:
        raise
    except BaseException as error:
        trial.error = error
    else:
        try:
            check_model(returned, trial.given)
        except MethodError as error:
            trial.misfit = str(error)
        if isinstance(returned, nn.Module):
            trial.model, trial.state = returned, _copied(returned)
            trial.layers = differences(layers, _layers(returned))
            trial.flags = differences(flags, _flags(returned))
    context = unlearning.context
    assert isinstance(context, WatchedContext)
    trial.read, trial.refused = context.read, context.refused
    trial.entries = context.log_entries
    trial.touched = dict(unlearning.costs.ledger)
    trial.seconds = dict(unlearning.costs.clock.phases)


@contextlib.contextmanager
def _watching(trial: Trial, architecture: type[nn.Module], poisoning: bool) -> Iterator[None]:
    def forwarded(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module) is not architecture:
            return
        trial.forwards += 1
        training = module.training and torch.is_grad_enabled()
        if training and isinstance(inputs[0], Tensor) and len(inputs[0]) >= TELLING:
            content = hash(inputs[0].detach().numpy().tobytes())
            trial.batches.append((content, trial.steps))

    def stepped(optimizer: Optimizer, args: Any, options: Any) -> None:
        trial.steps += 1
        if poisoning:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.fill_(POISON)

    hooks = [
        register_module_forward_pre_hook(forwarded),
        register_optimizer_step_post_hook(stepped),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _copied(model: nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _strayed(world: World, method: Method) -> int:
    allowed = torch.zeros_like(world.images.seen)
    for name in SPLITS:
        if getattr(method.access, name):
            allowed[getattr(world.indices, name)] = True
    return int((world.images.seen & ~allowed).sum())


def _belongings(world: World) -> State:
    """Return what the harness hands out or keeps, and no method may change."""
    log = world.log.change if world.log else {}
    return {
        **{f"the original's {name}": t for name, t in world.original.state_dict().items()},
        **{f"the indices of {name}": getattr(world.indices, name) for name in SPLITS},
        **{f"the training log of {name}": change for name, change in log.items()},
        **{
            f"the checkpoint of {name} in shard {shard} before slice {stage}": tensor
            for (shard, stage), state in world.kept.items()
            for name, tensor in state.items()
        },
        "the training images": world.images.data,
        "the training labels": world.data.train.labels,
    }


def _layers(model: nn.Module) -> dict[str, str]:
    """Say what each layer is and what it is built with: sizes, strides, rates."""
    return {
        name or "the model": f"{type(module).__name__}({module.extra_repr()})"
        for name, module in model.named_modules()
    }


def _flags(model: nn.Module) -> dict[str, Any]:
    """Say what methods switch and must give back, by place."""
    facts: dict[str, Any] = {}
    for name, module in model.named_modules():
        where = name or "the model"
        hooks = (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
            module._state_dict_hooks,
        )
        facts[f"training of {where}"] = module.training
        facts[f"hooks on {where}"] = sum(map(len, hooks))
        facts[f"forward of {where}"] = "replaced" if "forward" in vars(module) else "its own"
        if isinstance(module, _BatchNorm):
            facts[f"track_running_stats of {where}"] = module.track_running_stats
            facts[f"momentum of {where}"] = module.momentum
    for name, parameter in model.named_parameters():
        facts[f"requires_grad of {name}"] = parameter.requires_grad
    return facts


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say in words where two descriptions differ."""
    missing = "nothing"
    return [
        f"{name}: {before.get(name, missing)} became {after.get(name, missing)}"
        for name in [*before, *(name for name in after if name not in before)]
        if before.get(name, missing) != after.get(name, missing)
    ]


def movement(before: State, after: State) -> tuple[int, int, float]:
    """Return how many weights differ, of how many, and by what share of the norm."""
    changed = sum(int((tensor != before[name]).sum()) for name, tensor in after.items())
    total = sum(tensor.numel() for tensor in after.values())
    square = sum(
        float((tensor - before[name]).double().square().sum()) for name, tensor in after.items()
    )
    norm = sum(float(before[name].double().square().sum()) for name in after)
    return changed, total, (square / norm) ** 0.5


def same(a: State, b: State) -> bool:
    """Whether two states agree bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def storages(model: nn.Module) -> set[int]:
    """Return where the tensors of a model lie in memory; tied ones count once."""
    return {tensor.data_ptr() for tensor in model.state_dict().values() if tensor.numel()}
