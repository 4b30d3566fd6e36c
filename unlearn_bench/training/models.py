"""Any timm architecture by name, fitted to the data at hand.

Input channels, classes and image size come from the data. Architectures made for 224 pixels
lose small images in their first layers; the small stem keeps the resolution there.
"""

from fnmatch import fnmatch
from typing import Any

import timm
import torch
from torch import Tensor, nn

from unlearn_bench.core.caches import forgetful
from unlearn_bench.core.errors import ModelError, UnknownNameError, one_line, unknown_name
from unlearn_bench.core.memory import is_out_of_memory
from unlearn_bench.core.seeds import seed_everything
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training import small_nets
from unlearn_bench.training.weights import load_weights

# Up to this side in pixels, `stem: auto` keeps the resolution of the first layers.
SMALL_IMAGE = 64


def names(pattern: str = "*") -> list[str]:
    """Return the names of all architectures that match a shell pattern."""
    return [name for name in timm.list_models() if fnmatch(name, pattern)]


def build(
    spec: ModelSpec, *, channels: int, image_size: tuple[int, int], num_classes: int, seed: int
) -> nn.Module:
    """Build the architecture with fresh weights drawn from ``seed``, on the CPU, in eval mode.

    Args:
        spec: Architecture, stem and whether to load timm's pre-trained weights.
        channels: Image channels.
        image_size: Height and width in pixels.
        num_classes: Width of the output.
        seed: Determines the initial weights.

    Raises:
        UnknownNameError: If timm knows no such architecture.
        ModelError: If it cannot take these images, or its weights cannot be had.
    """
    if not spec.name.isascii() or set(spec.name) & {":", "/"}:
        raise UnknownNameError(
            f"model {one_line(spec.name)!r} is not a plain name; no model is read from the hub or "
            "a path: give an architecture, with --pretrained or --original FILE"
        )
    if not timm.is_model(spec.name):
        raise unknown_name("model", spec.name, timm.list_models(), "unlearn-bench list models")
    seed_everything(seed)
    small = spec.stem == "small" or (spec.stem == "auto" and min(image_size) <= SMALL_IMAGE)
    try:
        model = _create(spec, small, channels, image_size, num_classes)
        logits = forgetful(model.eval(), torch.zeros(2, channels, *image_size))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = one_line(str(error)) or type(error).__name__
        if spec.pretrained:
            reason += " (pre-trained weights are downloaded when first used)"
        raise ModelError(
            f"model {spec.name!r} cannot be built for {channels} x {image_size[0]} x "
            f"{image_size[1]} images: {reason}; choose another model or set --image-size"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        raise ModelError(
            f"model {spec.name!r} does not return one row of {num_classes} logits per image; "
            "choose a plain classifier"
        )
    return model


def _create(
    spec: ModelSpec, small: bool, channels: int, image_size: tuple[int, int], num_classes: int
) -> nn.Module:
    """Call timm with the image and patch size where the architecture takes them."""
    square = image_size[0] if image_size[0] == image_size[1] else image_size
    attempts: list[dict[str, Any]] = [{"img_size": square}, {}]
    if small:
        # Eight patches a side, as a 224-pixel transformer with 28-pixel patches would have.
        attempts.insert(0, {"img_size": square, "patch_size": max(1, min(image_size) // 8)})
    for options in attempts:
        try:
            model: nn.Module = timm.create_model(
                spec.name,
                pretrained=spec.pretrained,
                in_chans=channels,
                num_classes=num_classes,
                **(options | spec.args),
            )
        except TypeError:
            if not options:
                raise
            continue
        # Where the image size is an option, positions are counted from it: hands off the stem.
        if small and not options:
            _keep_resolution(model)
        return model
    raise AssertionError("the last attempt returns or raises")


def _keep_resolution(model: nn.Module) -> None:
    """Remove the down-sampling of a convolutional stem, in place."""
    first = getattr(model, "default_cfg", {}).get("first_conv")
    name = first[0] if isinstance(first, tuple | list) else first
    if not name:
        return
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    conv = getattr(owner, leaf)
    if not isinstance(conv, nn.Conv2d) or max(conv.stride) == 1:
        return
    if conv.kernel_size == conv.stride:  # patchify stems (ConvNeXt): half the patch
        kernel = stride = max(1, conv.stride[0] // 2)
        padding = 0
    else:
        kernel, stride, padding = 3, 1, 1
    fresh = nn.Conv2d(
        conv.in_channels, conv.out_channels, kernel, stride, padding, bias=conv.bias is not None
    )
    nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    if fresh.bias is not None:
        nn.init.zeros_(fresh.bias)
    setattr(owner, leaf, fresh)
    if isinstance(getattr(model, "maxpool", None), nn.Module):
        model.maxpool = nn.Identity()


__all__ = ["SMALL_IMAGE", "build", "load_weights", "names", "small_nets"]
