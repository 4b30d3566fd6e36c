"""Any architecture by name, timm's above all, fitted to the data at hand.

Input channels, classes and image size come from the data. Architectures made for 224 pixels
lose small images in their first layers; the small stem keeps the resolution there.
"""

from fnmatch import fnmatch
from typing import Any

import timm
import torch
from torch import Tensor, nn

from unlearn_bench.core import small_maps
from unlearn_bench.core.caches import forgetful
from unlearn_bench.core.errors import ModelError, UnknownNameError, one_line, unknown_name
from unlearn_bench.core.memory import is_out_of_memory
from unlearn_bench.core.seeds import derive, seed_everything
from unlearn_bench.plugins.parts import parts
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training import cifar_nets, outside, small_nets
from unlearn_bench.training.ensemble import joined
from unlearn_bench.training.outside import Creator
from unlearn_bench.training.stems import keep_resolution
from unlearn_bench.training.weights import load_weights

# Up to this side in pixels, `stem: auto` keeps the resolution of the first layers.
SMALL_IMAGE = 64


def names(pattern: str = "*") -> list[str]:
    """Return the names of all architectures that match a shell pattern."""
    known = [*timm.list_models(), *parts("model"), *outside.torchvision_names()]
    return [name for name in known if fnmatch(name, pattern)]


def summary(name: str) -> str:
    """Return in one line what a network is that timm lacks, "" for all others."""
    if name in parts("model"):
        return parts("model")[name].summary
    if name not in (*small_nets.NAMES, *cifar_nets.NAMES):
        return ""
    return (timm.model_entrypoint(name).__doc__ or "").partition("\n")[0]


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
        UnknownNameError: If there is no such architecture.
        ModelError: If it cannot take these images, or its weights cannot be had.
    """
    if spec.sharding is not None:
        fitted: dict[str, Any] = {
            "channels": channels,
            "image_size": image_size,
            "num_classes": num_classes,
        }
        seeds = [derive(seed, "shard", shard) for shard in range(spec.sharding.shards)]
        return joined([build(spec.whole, **fitted, seed=own) for own in seeds]).eval()
    create = _creator(spec)
    seed_everything(seed)
    small = spec.stem == "small" or (spec.stem == "auto" and min(image_size) <= SMALL_IMAGE)
    try:
        model = create(spec, small, channels, image_size, num_classes)
        if spec.small_maps == "multiply":
            small_maps.multiply(model)
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


def _creator(spec: ModelSpec) -> Creator:
    """Return what creates a model of that name.

    Raises:
        UnknownNameError: If nothing does.
        ModelError: If a plug-in's model bears a name of timm's.
    """
    name = spec.name
    own = parts("model")
    if name in own:
        if timm.is_model(name):
            raise ModelError(
                f"{own[name].file.name} names a model {name!r}, as timm does; rename it"
            )
        return outside.of_plugin(own[name])
    kind, _, rest = name.partition(":")
    if kind == outside.TORCHVISION:
        return outside.of_torchvision(rest)
    if outside.ON_THE_HUB.fullmatch(name):
        return _create
    if not name.isascii() or set(name) & {":", "/"}:
        raise UnknownNameError(
            f"model {one_line(name)!r} is not a plain name; no model is read from a path: give an "
            "architecture, torchvision:NAME or hf-hub:OWNER/NAME, and its weights by --original "
            "FILE"
        )
    if not timm.is_model(name):
        known = [*timm.list_models(), *own]
        raise unknown_name("model", name, known, "unlearn-bench list models")
    return _create


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
        except (TypeError, AssertionError) as error:
            # Patches of a hybrid's backbone are of maps that may not divide so.
            unfit = isinstance(error, TypeError) or "patch_size" in options
            if not options or not unfit:
                raise
            continue
        # Where the image size is an option, positions are counted from it: hands off the stem.
        if small and not options:
            keep_resolution(model)
        return model
    raise AssertionError("the last attempt returns or raises")


__all__ = ["SMALL_IMAGE", "build", "load_weights", "names", "small_nets"]
