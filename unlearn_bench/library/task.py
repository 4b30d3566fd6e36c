"""A task of the user's own: her network and her examples, for the harness's own code."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import DataError, ModelError, ParameterError
from unlearn_bench.data.datasets import on_device
from unlearn_bench.data.images import Dataset, Part, TensorImages
from unlearn_bench.data.splits import Indices, divide_test
from unlearn_bench.data.surrogate_data import SurrogateData, load_surrogates, surrogates_of
from unlearn_bench.execution.devices import find_device
from unlearn_bench.execution.task import Task
from unlearn_bench.library.architecture import Architecture, Build, copied, width
from unlearn_bench.library.examples import (
    Constants,
    Examples,
    Given,
    Scale,
    check_labels,
    check_together,
    joined,
    pixels_of,
    read,
)
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training.numerics import products

DATA = "own data"
SURROGATE_DATA = "surrogate_data"
# Nothing is known of what may be done to the user's images.
PLAIN = Recipe(augment="none")


@dataclass(frozen=True, kw_only=True)
class OwnTask(Task):
    """A task whose models are copies of the user's.

    Attributes:
        architecture: Of all its models.
        wanted_by: Who works on it, for messages.
        trains: Whether the user said how fresh models are trained.
    """

    architecture: Architecture
    wanted_by: str
    trains: bool

    @property
    def builds(self) -> bool:
        """Whether :meth:`build` can give fresh models."""
        return self.architecture.fresh is not None

    def build(self, seed: int, pretrained: bool = True) -> nn.Module:
        """Return a model with weights drawn from ``seed``, on the CPU.

        Raises:
            ParameterError: If the user gave nothing that builds one.
        """
        return self.architecture.build(seed, self.wanted_by).to(self.dtype)

    def blank(self) -> nn.Module:
        """Return a copy of the user's model."""
        return self.architecture.copy()

    def training_recipe(self) -> Recipe:
        """Return what fresh models are trained by.

        Raises:
            ParameterError: If the user gave no recipe.
        """
        if not self.trains:
            raise ParameterError(
                f"{self.wanted_by} trains by the recipe of the original: give recipe=, such as "
                "unlearn_bench.Recipe(epochs=30, lr=0.01)"
            )
        return self.recipe


@dataclass(frozen=True)
class Asked:
    """What :func:`unlearn_bench.unlearn` and :func:`unlearn_bench.evaluate` are both asked with.

    Attributes:
        seed: Determines all that is drawn.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        recipe: How the original was trained, for methods that train likewise.
        build: Gives a fresh model.
        num_classes: Width of the output, as a check.
        forget_classes: Classes that are forgotten whole; None to see it from the examples, empty
            for none.
        mean: By which inputs are normalised, of pixels scaled to [0, 1].
        std: Likewise.
        scenario: Name of who is forgotten; with the seed it determines what a method draws.
    """

    seed: int
    device: str | torch.device
    recipe: Recipe | None
    build: Build | None
    num_classes: int | None
    forget_classes: Sequence[int] | None
    mean: Constants | None
    std: Constants | None
    scenario: str | None

    def task(
        self, model: object, examples: dict[str, Examples | None], wanted_by: str, model_name: str
    ) -> OwnTask:
        """Return the task.

        Args:
            model: The user's original; left as it is.
            examples: By the name of the argument: ``forget`` at least, then ``retain``,
                ``validation`` and ``test``.
            wanted_by: Who works on it, for messages.
            model_name: The argument that gives the model, for messages.

        Raises:
            UserError: If the arguments cannot be used, or not together.
        """
        module = copied(model_name, model)
        given = {name: read(name, part) for name, part in examples.items() if part is not None}
        train = [part for name, part in given.items() if name != "test"]
        check_together(list(given.values()))
        images, labels, where = joined(train)
        known = given["forget"].constants
        mean, std, scale = pixels_of(images, self.mean, self.std, known)
        dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
        classes = width(model_name, module, _inputs(scale(images[:2]), mean, std).to(dtype))
        if self.num_classes not in (None, classes):
            raise ModelError(
                f"num_classes={self.num_classes}, but {model_name} gives {classes} logits; leave "
                "num_classes out"
            )
        check_labels(list(given.values()), classes)
        device = find_device(str(self.device), f"device={self.device!r}")
        data = _dataset(scale(images), labels, given.get("test"), scale, (mean, std), classes)
        members = dict(zip((part.name for part in train), where, strict=True))
        forgotten = self._forgotten(given)
        indices = _indices(members, labels, forgotten, data.test.labels, self.seed)
        recipe = self.recipe or PLAIN
        if recipe.augment == "auto":
            recipe = recipe.model_copy(update={"augment": PLAIN.augment})
        architecture = Architecture(module, self.build, data.channels, data.image_size, classes)
        return OwnTask(
            on_device(data, device),
            indices,
            ModelSpec(name=architecture.name),
            recipe,
            self.scenario or _scenario(forgotten),
            self.seed,
            device,
            dtype,
            architecture=architecture,
            wanted_by=wanted_by,
            trains=self.recipe is not None,
        )

    def _forgotten(self, given: dict[str, Given]) -> tuple[int, ...]:
        """Return the classes that are forgotten whole.

        Those of F, if no class of R is among them; without R, the class of F if it is a single one.

        Raises:
            DataError: If the user names classes that F does not hold, or that R holds.
        """
        ours = set(given["forget"].labels.unique().tolist())
        retained = given.get("retain")
        theirs = set(retained.labels.unique().tolist()) if retained else set()
        if self.forget_classes is None:
            whole = not ours & theirs if retained else len(ours) == 1
            return tuple(sorted(ours)) if whole else ()
        named = tuple(sorted({int(label) for label in self.forget_classes}))
        if set(named) - ours or set(named) & theirs:
            raise DataError(
                f"forget_classes={list(named)}: forget holds the classes {sorted(ours)}, retain "
                f"{sorted(theirs)}; name classes of which forget holds all examples, or leave it "
                "out"
            )
        return named


def surrogates_for(task: Task, given: Examples | Tensor | str) -> SurrogateData:
    """Return the images that a user gives to stand in for data of a task of her own.

    Args:
        task: Of her own.
        given: A dataset's name, or images prepared as those of the task.

    Raises:
        UserError: If there is no such dataset, or the images are prepared in another way.
    """
    if isinstance(given, str):
        return load_surrogates(given, task.data)
    if isinstance(given, Tensor):
        given = given, torch.zeros(len(given), dtype=torch.int64)  # labels play no part
    part = read(SURROGATE_DATA, given)
    own = task.data.train.images.fetch(torch.tensor([0]))
    if part.images.shape[1:] != own.shape[1:] or part.images.dtype != own.dtype:
        raise DataError(
            f"{SURROGATE_DATA}: images {list(part.images.shape[1:])} of {part.images.dtype}, those "
            f"of forget are {list(own.shape[1:])} of {own.dtype}; prepare all in the same way"
        )
    whole = part.images.dtype == torch.uint8
    pixels = Scale(None if whole else (task.data.mean, task.data.std))(part.images)
    digest = hashlib.sha256(pixels.contiguous().numpy().data).hexdigest()
    return surrogates_of("images of your own", TensorImages(pixels), digest, task.data)


def _inputs(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    shift, scale = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    return (pixels / 255 - shift) / scale


def _dataset(
    images: Tensor,
    labels: Tensor,
    test: Given | None,
    scale: Scale,
    constants: tuple[tuple[float, ...], tuple[float, ...]],
    num_classes: int,
) -> Dataset:
    parts = [(images, labels)]
    if test is not None:
        parts.append((scale(test.images), test.labels))
    digest = hashlib.sha256()
    for tensor in (tensor for part in parts for tensor in part):
        digest.update(tensor.contiguous().numpy().data)
    train, tested = (Part(TensorImages(pixels), of) for pixels, of in (parts[0], parts[-1]))
    if test is None:
        tested = Part(train.images, labels[:0])
    names = tuple(str(label) for label in range(num_classes))
    fingerprint = digest.hexdigest()
    return Dataset(DATA, train, tested, names, *constants, fingerprint, "given")


def _indices(
    members: dict[str, Tensor],
    labels: Tensor,
    forgotten: tuple[int, ...],
    test_labels: Tensor,
    seed: int,
) -> Indices:
    nothing = torch.empty(0, dtype=torch.int64)
    of_test: tuple[Tensor, Tensor] = nothing, nothing
    if len(test_labels):
        of_test = divide_test(labels[members["forget"]], forgotten, test_labels, seed)
        if not len(of_test[0]) or not len(of_test[1]):
            which = "forgotten" if not len(of_test[0]) else "retained"
            raise DataError(
                f"test holds no example of the {which} classes; give some of each class"
            )
    retain, validation = (members.get(name, nothing) for name in ("retain", "validation"))
    return Indices(members["forget"], retain, validation, *of_test, forget_classes=forgotten)


def _scenario(forgotten: tuple[int, ...]) -> str:
    """Name who is forgotten, as the command does."""
    if not forgotten:
        return "random"
    return f"class{'es' * (len(forgotten) > 1)}:{','.join(map(str, forgotten))}"


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Put back the user's random numbers and cuDNN settings, which runs set for themselves."""
    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    python, numpy = random.getstate(), np.random.get_state()
    gpus: list[Any] = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus), products(tf32=False) if gpus else nullcontext():
        # A GPU picks its convolution algorithm by speed unless told to repeat itself.
        cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = flags
            random.setstate(python)
            np.random.set_state(numpy)
