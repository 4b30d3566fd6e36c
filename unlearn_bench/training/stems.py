"""The first layer of a network, fitted to small images or to their channels."""

from torch import nn


def first_convolution(model: nn.Module) -> str:
    """Return the name of the convolution that looks at pixels: as timm says it, else the first."""
    config = getattr(model, "default_cfg", None)
    if config is None:
        convolutions = (n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
        return next(convolutions, "")
    first = config.get("first_conv")
    name: str = (first[0] if isinstance(first, tuple | list) else first) or ""
    return name


def take_channels(model: nn.Module, channels: int) -> None:
    """Replace a first convolution that takes another number of channels, in place."""
    name = first_convolution(model)
    conv = model.get_submodule(name) if name else None
    if not isinstance(conv, nn.Conv2d) or conv.in_channels == channels:
        return
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
    name = first_convolution(model)
    conv = model.get_submodule(name) if name else None
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
    _put(model, name, fresh)
    if isinstance(getattr(model, "maxpool", None), nn.Module):
        model.maxpool = nn.Identity()
