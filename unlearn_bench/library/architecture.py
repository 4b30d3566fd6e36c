"""The user's network: copies of it, and fresh models of the same architecture."""

import copy
from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import ModelError, ParameterError
from unlearn_bench.core.seeds import seed_everything
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training import models

Build: TypeAlias = Callable[[], nn.Module] | str


def copied(name: str, model: object) -> nn.Module:
    """Return a copy of a model on the CPU, in eval mode, all of it trainable.

    Args:
        name: Of the argument, for messages.
        model: The user's; left as it is. What ``torch.compile`` or data parallelism wrapped
            around it is taken off.

    Raises:
        ModelError: If it is no module, or cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} is a {type(model).__name__}; give a torch.nn.Module")
    inner = getattr(model, "_orig_mod", model)
    if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = inner.module
    try:
        module: nn.Module = copy.deepcopy(inner).cpu().eval()
    except Exception as error:  # whatever a module of the user's keeps
        raise ModelError(f"{name} cannot be copied by copy.deepcopy: {error}") from error
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return module


@torch.no_grad()
def width(name: str, module: nn.Module, inputs: Tensor) -> int:
    """Return how many logits a model gives per image.

    Args:
        name: Of the argument, for messages.
        module: On the CPU, in eval mode.
        inputs: Two images as the model takes them, [2, C, H, W].

    Raises:
        ModelError: If it cannot take them, or gives anything but one row of logits per image.
    """
    shape = " x ".join(map(str, inputs.shape[1:]))
    try:
        logits = module(inputs)
    except Exception as error:  # whatever the user's network raises
        raise ModelError(f"{name} cannot take these {shape} images: {error}") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(inputs):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"{name} returns {found} for {len(inputs)} images; give a module that returns logits "
            f"[{len(inputs)}, classes], or wrap yours in one"
        )
    return logits.shape[1]


class Architecture:
    """What models of one task have in common.

    Args:
        module: A copy of the user's model, on the CPU.
        build: Gives a model with new weights, or names an architecture; a model of timm's needs
            none.
        channels: Of the images.
        image_size: Height and width of the images in pixels.
        num_classes: Width of the output.
    """

    def __init__(
        self,
        module: nn.Module,
        build: Build | None,
        channels: int,
        image_size: tuple[int, int],
        num_classes: int,
    ) -> None:
        self._module, self._build = module, build
        self._channels, self._image_size = channels, image_size
        self._num_classes = num_classes

    @property
    def name(self) -> str:
        """In timm, or of the class."""
        return self._timm_name or type(self._module).__name__

    def copy(self) -> nn.Module:
        """Return another copy of the user's model."""
        return copy.deepcopy(self._module)

    @cached_property
    def fresh(self) -> Callable[[int], nn.Module] | None:
        """What builds a model with weights drawn from a seed, on the CPU and in eval mode.

        None where nothing can.
        """
        build = self._build
        if build is None:
            return self._timm_builder()
        if isinstance(build, str):
            return self._by_name(ModelSpec(name=build))

        def call(seed: int) -> nn.Module:
            seed_everything(seed)
            built = build()
            if not isinstance(built, nn.Module):
                raise ModelError(
                    f"build= returned a {type(built).__name__}; give a function without arguments "
                    "that returns your network with new weights"
                )
            return built.cpu().eval()

        return call

    def build(self, seed: int, wanted_by: str) -> nn.Module:
        """Return a model with weights drawn from a seed.

        Args:
            seed: Determines the weights.
            wanted_by: Who asks, for messages.

        Raises:
            ParameterError: If nothing builds one.
            ModelError: If what was built is another architecture.
        """
        if self.fresh is None:
            raise ParameterError(
                f"{wanted_by} needs a freshly initialised {self.name}: give build=, a function "
                "without arguments that returns one"
            )
        built = self.fresh(seed)
        if found := difference(built, self._module):
            raise ModelError(f"build= gives another architecture than the model's: {found}")
        return built

    def _by_name(self, spec: ModelSpec) -> Callable[[int], nn.Module]:
        def call(seed: int) -> nn.Module:
            return models.build(
                spec,
                channels=self._channels,
                image_size=self._image_size,
                num_classes=self._num_classes,
                seed=seed,
            )

        return call

    @property
    def _timm_name(self) -> str:
        config = getattr(self._module, "pretrained_cfg", None)
        name = config.get("architecture", "") if isinstance(config, dict) else ""
        return name if isinstance(name, str) else ""

    def _timm_builder(self) -> Callable[[int], nn.Module] | None:
        """Return what builds a model of timm's, if by its name the very same one comes out."""
        if not self._timm_name:
            return None
        for stem in ("standard", "small"):
            build = self._by_name(ModelSpec.model_validate({"name": self._timm_name, "stem": stem}))
            try:
                built = build(0)
            except ModelError:
                continue
            if repr(built) == repr(self._module) and not difference(built, self._module):
                return build
        return None


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def difference(one: nn.Module, other: nn.Module) -> str:
    """Say which tensor of two models first differs in shape; empty where none does."""
    shapes, others = _shapes(one), _shapes(other)
    for name in (*others, *shapes):
        if shapes.get(name) != others.get(name):
            found, wanted = (
                str(list(known[name])) if name in known else "not there"
                for known in (shapes, others)
            )
            return f"tensor {name} is {found}, expected {wanted}"
    return ""
