"""The first layer of a network, fitted to small images or to their channels."""

from torch import nn


def first_convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions that look at pixels, by name: as timm says it, else the first.

    There are several where branches of different kernels are added up, as in RepVGG.
    """
    config = getattr(model, "default_cfg", None)
    if config is None:
        convolutions = (n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
        named = next(convolutions, None)
    else:
        named = config.get("first_conv")
    names = [named] if isinstance(named, str) else list(named or ())
    found = {name: model.get_submodule(name) for name in names}
    return {name: conv for name, conv in found.items() if isinstance(conv, nn.Conv2d)}


def take_channels(model: nn.Module, channels: int) -> None:
    """Replace first convolutions that take another number of channels, in place."""
    for name, conv in first_convolutions(model).items():
        if conv.in_channels == channels:
            continue
        fresh = nn.Conv2d(
            channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            bias=conv.bias is not None,
        )
        _put(model, name, fresh)


def _put(model: nn.Module, name: str, fresh: nn.Conv2d) -> None:
    """Put a convolution with new weights in the place of another."""
    nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    if fresh.bias is not None:
        nn.init.zeros_(fresh.bias)
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, fresh)


def keep_resolution(model: nn.Module) -> None:
    """Remove the down-sampling of a convolutional stem, in place."""
    reduced = False
    for name, conv in first_convolutions(model).items():
        if max(conv.stride) == 1:
            continue
        if conv.kernel_size == conv.stride:  # patchify stems (ConvNeXt): half the patch
            kernel = stride = max(1, conv.stride[0] // 2)
            padding = 0
        elif max(conv.kernel_size) == 1:  # a branch beside a larger kernel (RepVGG)
            kernel, stride, padding = 1, 1, 0
        else:
            kernel, stride, padding = 3, 1, 1
        fresh = nn.Conv2d(
            conv.in_channels, conv.out_channels, kernel, stride, padding, bias=conv.bias is not None
        )
        _put(model, name, fresh)
        reduced = True
    if reduced and isinstance(getattr(model, "maxpool", None), nn.Module):
        model.maxpool = nn.Identity()
