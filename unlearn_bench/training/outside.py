"""Architectures that are not timm's own: of plug-ins, of torchvision, and on the Hub."""

import re
from typing import Protocol

import torchvision
from torch import nn

from unlearn_bench.core.errors import ModelError, PluginError, unknown_name
from unlearn_bench.plugins.parts import Part
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training.stems import keep_resolution, take_channels

TORCHVISION = "torchvision"
# As timm takes them: a network is needed, and configuration and weights come from there.
ON_THE_HUB = re.compile(r"hf-hub:[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?", re.ASCII)
# They return more than logits while they train, unless told not to.
_WITH_AUXILIARY = ("googlenet", "inception_v3")


class Creator(Protocol):
    """Creates a model with new weights, fitted to the data."""

    def __call__(
        self,
        spec: ModelSpec,
        small: bool,
        channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        /,
    ) -> nn.Module:
        """Return the model; ``small`` asks for first layers that keep the resolution."""


def of_plugin(part: Part) -> Creator:
    """Return what creates a plug-in's model."""

    def create(
        spec: ModelSpec,
        small: bool,
        channels: int,
        image_size: tuple[int, int],
        num_classes: int,
    ) -> nn.Module:
        _refuse_options(spec, f"a model of {part.file.name}")
        model = part.function(channels, image_size, num_classes)
        if not isinstance(model, nn.Module):
            raise PluginError(
                f"its function returned a {type(model).__name__}, not a torch.nn.Module"
            )
        return model

    return create


def of_torchvision(name: str) -> Creator:
    """Return what creates a classifier of torchvision's.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    known = [full.partition(":")[2] for full in torchvision_names()]
    if name not in known:
        raise unknown_name(
            "torchvision model", name, known, "unlearn-bench list models 'torchvision:*'"
        )

    def create(
        spec: ModelSpec,
        small: bool,
        channels: int,
        image_size: tuple[int, int],
        num_classes: int,
    ) -> nn.Module:
        if spec.pretrained or spec.args:
            _refuse_options(spec.model_copy(update={"stem": "auto"}), "a model of torchvision's")
        options: dict[str, object] = {"weights": None, "num_classes": num_classes}
        if name.startswith("vit_"):
            options["image_size"] = image_size[0]
        if name in _WITH_AUXILIARY:
            options |= {"aux_logits": False, "init_weights": True}
        model: nn.Module = torchvision.models.get_model(name, **options)
        take_channels(model, channels)
        if small and not name.startswith(("vit_", "swin", "maxvit")):
            keep_resolution(model)
        return model

    return create


def torchvision_names() -> list[str]:
    """Return torchvision's classifiers, as ``--model`` takes them."""
    return [f"{TORCHVISION}:{n}" for n in torchvision.models.list_models(torchvision.models)]


def _refuse_options(spec: ModelSpec, what: str) -> None:
    given = ["stem"] if spec.stem != "auto" else []
    given += ["pretrained"] if spec.pretrained else []
    given += ["args"] if spec.args else []
    if given:
        raise ModelError(
            f"{' and '.join(given)} cannot be set for {what}; give its weights by --original FILE, "
            "and write what else it takes into it"
        )
