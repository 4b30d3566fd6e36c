"""What the weight of a linear layer or convolution is multiplied by: tokens, or patches."""

from torch import Tensor, nn
from torch.nn.functional import pad, unfold


def layer_inputs(layer: nn.Linear | nn.Conv2d, x: Tensor, output: Tensor) -> Tensor:
    """Return all that each row of the weight sees, [rows, groups, in].

    Args:
        layer: A convolution's kernel may be strided, dilated and grouped, and its padding may be
            timm's own.
        x: The layer's input, [..., in] or [N, C, H, W].
        output: What it made of that.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, 1, x.shape[-1])
    edges: list[int] = []
    for side in (1, 0):
        span = layer.dilation[side] * (layer.kernel_size[side] - 1) + 1
        given = layer.padding[side] if isinstance(layer.padding, tuple) else 0
        # Padding by name, and timm's to the size of TensorFlow, can only be seen from the output.
        total = (output.shape[2 + side] - 1) * layer.stride[side] + span - x.shape[2 + side]
        before = int(given) or max(total, 0) // 2
        edges += [before, max(total - before, 0)]
    columns = unfold(pad(x, edges), layer.kernel_size, dilation=layer.dilation, stride=layer.stride)
    return columns.transpose(1, 2).reshape(-1, layer.groups, columns.shape[1] // layer.groups)


def standardised(model: nn.Module) -> str | None:
    """Return the first layer that standardises its weight before use, by name, if there is one."""
    # Imported here, since listings load this file and timm takes a second.
    from timm.layers import std_conv

    kinds = (
        std_conv.StdConv2d,
        std_conv.StdConv2dSame,
        std_conv.ScaledStdConv2d,
        std_conv.ScaledStdConv2dSame,
    )
    return next((name for name, m in model.named_modules() if isinstance(m, kinds)), None)
