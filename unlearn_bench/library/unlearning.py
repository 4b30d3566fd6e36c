"""Unlearn with the user's own model and data; nothing is written to disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.core.quantities import size_text
from unlearn_bench.core.seeds import derive
from unlearn_bench.execution.calling import call
from unlearn_bench.execution.task import Unlearning
from unlearn_bench.library.architecture import Build
from unlearn_bench.library.display import facts_html
from unlearn_bench.library.examples import Constants, Examples
from unlearn_bench.library.task import Asked, surrogates_for, undisturbed
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.access import SPLITS
from unlearn_bench.plugins.method import Method
from unlearn_bench.suite.recipe import Recipe


@dataclass(frozen=True)
class Cost:
    """What unlearning took.

    Attributes:
        noted: As the harness keeps it.
    """

    noted: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """Wall time, precomputation included."""
        return float(self.noted["seconds"]["unlearn"]["wall"])

    @property
    def cpu_seconds(self) -> float:
        """Processor time of this process."""
        return float(self.noted["seconds"]["unlearn"]["cpu"])

    @property
    def gpu_seconds(self) -> float | None:
        """On the GPU's own time line; None without one."""
        found: float | None = self.noted["seconds"]["unlearn"]["gpu"]
        return found

    @property
    def precompute_seconds(self) -> float:
        """Wall time that a second request would not pay again."""
        return float(self.noted["seconds"].get("precompute", {"wall": 0.0})["wall"])

    @property
    def peak_bytes(self) -> int | None:
        """Growth of memory; None where it cannot be measured."""
        found: int | None = self.noted["peak_bytes"]
        return found

    @property
    def examples(self) -> Mapping[str, int]:
        """Examples read, by split."""
        return dict(self.noted["examples"])

    @property
    def passes(self) -> Mapping[str, int]:
        """Examples that went ``forward`` and ``backward`` through models."""
        return dict(self.noted["passes"])

    def __repr__(self) -> str:
        memory = "" if self.peak_bytes is None else f", {size_text(self.peak_bytes)} of memory"
        return f"{self.seconds:.3g} s{memory}"


@dataclass(frozen=True, eq=False)
class Unlearned:
    """The result of :func:`unlearn`.

    Attributes:
        model: The unlearned model, in eval mode, on the device of the given one.
        method: Name of the method.
        params: All hyper-parameters, defaults included.
        cost: Time, memory and examples that it took.
        log: What the method logged, one mapping of names to numbers per entry.
        seed: Seed of all random draws.
        scenario: What was forgotten, such as ``class:8``.
        forget_classes: Classes that were forgotten whole.
        surrogates: Of the surrogate images that were read: ``name``, ``images``, how many, and
            ``digest``; empty where none were.
    """

    model: nn.Module
    method: str
    params: Mapping[str, Any]
    cost: Cost
    log: tuple[Mapping[str, float | None], ...]
    seed: int
    scenario: str
    forget_classes: tuple[int, ...]
    surrogates: Mapping[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """Return the log, a row per entry."""
        return pd.DataFrame(list(self.log))

    def __repr__(self) -> str:
        return f"Unlearned({self.method!r}, {self.scenario}, seed {self.seed}, {self.cost!r})"

    def _repr_html_(self) -> str:
        read = ", ".join(f"{count:,} {name}" for name, count in self.cost.examples.items())
        set_ = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        facts = {
            "method": self.method,
            "parameters": set_ or "none",
            "forgotten": self.scenario,
            "seed": str(self.seed),
            "took": repr(self.cost),
            "examples read": read or "none",
            "log entries": f"{len(self.log):,}",
        }
        return facts_html(f"Unlearned by {self.method}", facts)


def unlearn(
    model: nn.Module,
    method: str,
    *,
    forget: Examples,
    retain: Examples | None = None,
    validation: Examples | None = None,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    recipe: Recipe | None = None,
    build: Build | None = None,
    num_classes: int | None = None,
    forget_classes: Sequence[int] | None = None,
    mean: Constants | None = None,
    std: Constants | None = None,
    scenario: str | None = None,
    surrogate_data: Examples | Tensor | str | None = None,
) -> Unlearned:
    """Unlearn on a copy of ``model``; ``model`` itself does not change.

    Args:
        model: A classifier from images [N, C, H, W] to logits [N, classes].
        method: A name of :func:`unlearn_bench.methods`.
        forget: Examples to forget: a Dataset of (image, label), a DataLoader, a pair of tensors or
            a Split. Float images are the model's inputs, uint8 images are pixels.
        retain: Examples to keep, for methods that read them.
        validation: Held-out examples, for methods that read them.
        params: Hyper-parameters that differ from the method's defaults.
        seed: Determines all random draws.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        recipe: How the original was trained, for methods that train with it. Its ``augment:
            auto`` means none here.
        build: Returns your network with new weights, for methods that need a fresh one, or names
            an architecture of `unlearn-bench list models`. timm models need none.
        num_classes: Checked against the model's output, if given.
        forget_classes: Classes of which ``forget`` holds every example; ``[]`` for none. By
            default all of its classes, if ``retain`` holds none of them; without ``retain``, its
            class if that is a single one.
        mean: What inputs are normalised by, of pixels scaled to [0, 1], one value or one per
            channel. Needed for uint8 images; of float images it says which pixels they were.
        std: As ``mean``.
        scenario: Name of what is forgotten. With the seed it determines what the method draws, so
            the name that a suite uses gives the weights of that suite.
        surrogate_data: Images of another dataset for methods that read such, as many as their
            parameter ``surrogates`` says: a dataset's name, as in a suite, or images prepared as
            those of ``forget``, alone [N, C, H, W] or with labels, which are dropped.

    Raises:
        UserError: If an argument cannot be used; names it and says what to give.
    """
    given = {"forget": forget, "retain": retain, "validation": validation}
    asked = Asked(seed, device, recipe, build, num_classes, forget_classes, mean, std, scenario)
    return _unlearned(model, registry.get(method), given, params or {}, asked, surrogate_data)


def _unlearned(
    model: nn.Module,
    method: Method,
    given: dict[str, Examples | None],
    params: Mapping[str, Any],
    asked: Asked,
    surrogate_data: Examples | Tensor | str | None,
) -> Unlearned:
    """Call a method on a task of the user's own.

    Raises:
        MethodError: If it returns no usable model.
    """
    _check_access(method, given)
    resolved = method.resolve(params)
    task = asked.task(model, given, f"method {method.name!r}", "model")
    surrogates: Tensor | None = None
    facts: dict[str, Any] = {}
    if surrogate_data is not None and method.access.surrogate:
        data = surrogates_for(task, surrogate_data)
        surrogates = data.draw(resolved["surrogates"], derive(task.seed_of(method), "surrogates"))
        facts = data.facts(len(surrogates))
    with undisturbed(task.device):
        unlearning = Unlearning(task, method, surrogates=surrogates)
        called = call(unlearning, task.load(task.blank().state_dict()), resolved)
    return Unlearned(
        _as_given(called.model, model),
        method.name,
        resolved,
        Cost(called.cost),
        tuple(called.log),
        task.seed,
        task.scenario,
        task.indices.forget_classes,
        facts,
    )


def _check_access(method: Method, given: Mapping[str, Examples | None]) -> None:
    """Refuse a method that reads what is not given.

    Raises:
        ParameterError: Names the arguments.
    """
    if method.kind == "given":
        raise ParameterError(
            f"{method.name!r} stands for a model that comes unlearned: give it to "
            "unlearn_bench.evaluate"
        )
    if method.access.log:
        raise ParameterError(
            f"method {method.name!r} reads a log of the original's training, which only a suite "
            "keeps: use unlearn_bench.run"
        )
    if method.access.checkpoints:
        raise ParameterError(
            f"method {method.name!r} restarts from checkpoints of an original trained in shards, "
            "which only a suite trains: use unlearn_bench.run"
        )
    missing = [f"{n}=" for n in SPLITS if getattr(method.access, n) and given[n] is None]
    if missing:
        raise ParameterError(
            f"method {method.name!r} reads {method.access}: give {' and '.join(missing)}"
        )


def _as_given(unlearned: nn.Module, model: nn.Module) -> nn.Module:
    """Return a model where the user's is, with the same parameters trainable."""
    first = next(model.parameters(), None)
    if first is not None:
        unlearned = unlearned.to(first.device)
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    for parameter, flag in zip(unlearned.parameters(), trainable, strict=True):
        parameter.requires_grad_(flag)
    return unlearned.eval()
