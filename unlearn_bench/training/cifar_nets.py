"""Networks that papers train on images of 32 pixels and timm lacks, registered with timm.

Layers are named as in the weights that people publish: ``conv1``, ``layer1.0.conv1`` and ``fc`` for
the residual networks, ``block1.layer.0.conv1`` for the wide one, ``features.0`` and ``classifier``
for VGG. Most end in the mean over what is left of the image, ResNet-9 in its maximum; all take
other sizes as well.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from unlearn_bench.training.small_nets import SmallNet

VGG_SMALLEST = 32  # pixels a side: five poolings leave one


class _Pooled(nn.Module):
    """Feature maps, their mean over the image, and one linear layer, with timm's interface."""

    num_features: int

    def _finish(self, num_features: int, num_classes: int) -> None:
        """Add the last layer and draw the weights of all others."""
        self.num_features = self.head_hidden_size = num_features
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a fresh one for ``num_classes`` classes."""
        self.num_classes = num_classes
        self.fc: nn.Module = (
            nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to feature maps [N, num_features, h, w]."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map feature maps to logits [N, num_classes]; with ``pre_logits`` to their means."""
        x = x.mean(dim=(2, 3))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, num_classes]."""
        return self.forward_head(self.forward_features(x))


class Padded(nn.Module):
    """A short cut without weights: every second pixel, and channels of zeros.

    Source: He et al. 2015, arXiv:1512.03385, option A.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, channels, H/2, W/2]."""
        more = self.channels - x.shape[1]
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more // 2, more - more // 2))


class BasicBlock(nn.Module):
    """Two convolutions with BatchNorm beside a short cut.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity() if stride == 1 else Padded(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class CifarResNet(_Pooled):
    """A residual network of 6n + 2 layers with 16, 32 and 64 channels.

    Args:
        depth: 6n + 2.
        in_chans: Channels of the images.
        num_classes: Number of classes.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """

    def __init__(self, depth: int, in_chans: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_chans, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self._finish(64, num_classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
        return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to feature maps [N, 64, H/4, W/4]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return out


class WideBlock(nn.Module):
    """BatchNorm and ReLU before each of two convolutions, beside a short cut.

    Source: Zagoruyko and Komodakis 2016, arXiv:1605.07146.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.convShortcut = (  # noqa: N815 - the name in published weights
            None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        active = functional.relu(self.bn1(x))
        out: Tensor = self.conv1(active)
        out = self.conv2(self.dropout(functional.relu(self.bn2(out))))
        beside: Tensor = x if self.convShortcut is None else self.convShortcut(active)
        return out + beside


class _WideStage(nn.Module):
    """Blocks of one width, under the name that published weights have."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int, dropout: float) -> None:
        super().__init__()
        rest = [WideBlock(outputs, outputs, 1, dropout) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride, dropout), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(_Pooled):
    """A wide residual network of 6n + 4 layers.

    Args:
        depth: 6n + 4.
        width: By which 16, 32 and 64 channels are multiplied.
        in_chans: Channels of the images.
        num_classes: Number of classes.
        dropout: Share that is dropped within each block.

    Source: Zagoruyko and Komodakis 2016, arXiv:1605.07146.
    """

    def __init__(
        self, depth: int, width: int, in_chans: int, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        blocks, (a, b, c) = (depth - 4) // 6, (16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(in_chans, 16, 3, 1, 1, bias=False)
        self.block1 = _WideStage(16, a, blocks, 1, dropout)
        self.block2 = _WideStage(a, b, blocks, 2, dropout)
        self.block3 = _WideStage(b, c, blocks, 2, dropout)
        self.bn1 = nn.BatchNorm2d(c)
        self._finish(c, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to feature maps [N, 64 * width, H/4, W/4]."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return functional.relu(self.bn1(x))


class _Unit(nn.Sequential):
    """A convolution with BatchNorm and ReLU, and a maximum over 2 x 2 pixels where asked."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, pool: bool = False) -> None:
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        rest = [nn.MaxPool2d(2)] if pool else []
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU(), *rest)


class _Added(nn.Module):
    """Two units, whose output is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.units = nn.Sequential(_Unit(channels, channels), _Unit(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to the same shape."""
        out: Tensor = x + self.units(x)
        return out


class ResNet9(_Pooled):
    """Eight convolutions and a linear layer: the network that trains fastest for its accuracy.

    Args:
        width: Channels of the first layer; the last have eight times as many.
        stride: Of the first layer; 2 takes a quarter of the time on 32 pixels.
        in_chans: Channels of the images.
        num_classes: Number of classes.

    Source: D. Page, How to train your ResNet (2018), as entered in DAWNBench; here the last layer
    has a bias, and logits are not scaled.
    """

    def __init__(self, width: int, stride: int, in_chans: int, num_classes: int) -> None:
        super().__init__()
        self.prep = _Unit(in_chans, width, stride)
        self.layer1 = nn.Sequential(_Unit(width, 2 * width, pool=True), _Added(2 * width))
        self.layer2 = _Unit(2 * width, 4 * width, pool=True)
        self.layer3 = nn.Sequential(_Unit(4 * width, 8 * width, pool=True), _Added(8 * width))
        self._finish(8 * width, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to feature maps [N, 8 * width, H/8/stride, W/8/stride]."""
        out: Tensor = self.layer3(self.layer2(self.layer1(self.prep(x))))
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map feature maps to logits [N, num_classes]; with ``pre_logits`` to their maxima."""
        x = x.amax(dim=(2, 3))
        return x if pre_logits else self.fc(x)


def _vgg(widths: Sequence[int | None], in_chans: int, num_classes: int, size: Any) -> SmallNet:
    """Return convolutions of these widths with BatchNorm, None a pooling, and a linear layer."""
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < VGG_SMALLEST:
        raise ValueError(f"vgg needs images of at least {VGG_SMALLEST} pixels a side")
    layers: list[nn.Module] = []
    for outputs in widths:
        if outputs is None:
            layers.append(nn.MaxPool2d(2))
            continue
        conv = nn.Conv2d(in_chans, outputs, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        in_chans = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return SmallNet(nn.Sequential(*layers), 512, num_classes)


@register_model
def resnet20(
    pretrained: bool = False, in_chans: int = 3, num_classes: int = 10, **_timm: Any
) -> CifarResNet:
    """ResNet-20 of He et al. for CIFAR, 0.27 M parameters."""
    return CifarResNet(20, in_chans, num_classes)


@register_model
def resnet32(
    pretrained: bool = False, in_chans: int = 3, num_classes: int = 10, **_timm: Any
) -> CifarResNet:
    """ResNet-32 of He et al. for CIFAR, 0.46 M parameters."""
    return CifarResNet(32, in_chans, num_classes)


@register_model
def resnet56(
    pretrained: bool = False, in_chans: int = 3, num_classes: int = 10, **_timm: Any
) -> CifarResNet:
    """ResNet-56 of He et al. for CIFAR, 0.85 M parameters."""
    return CifarResNet(56, in_chans, num_classes)


@register_model
def resnet9(
    pretrained: bool = False,
    in_chans: int = 3,
    num_classes: int = 10,
    width: int = 64,
    stride: int = 1,
    **_timm: Any,
) -> ResNet9:
    """ResNet-9 of Page for CIFAR, 6.6 M parameters, or narrower by ``width``."""
    return ResNet9(width, stride, in_chans, num_classes)


@register_model
def wrn28_10(
    pretrained: bool = False,
    in_chans: int = 3,
    num_classes: int = 10,
    drop_rate: float = 0.0,
    **_timm: Any,
) -> WideResNet:
    """WRN-28-10 of Zagoruyko and Komodakis, 36.5 M parameters."""
    return WideResNet(28, 10, in_chans, num_classes, drop_rate)


@register_model
def vgg11_bn_cifar(
    pretrained: bool = False,
    in_chans: int = 3,
    num_classes: int = 10,
    img_size: int | tuple[int, int] = 32,
    **_timm: Any,
) -> SmallNet:
    """VGG-11 with BatchNorm and one linear layer, 9.2 M parameters.

    Source: Simonyan and Zisserman 2014, arXiv:1409.1556, configuration A.
    """
    widths = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)
    return _vgg(widths, in_chans, num_classes, img_size)


@register_model
def vgg16_bn_cifar(
    pretrained: bool = False,
    in_chans: int = 3,
    num_classes: int = 10,
    img_size: int | tuple[int, int] = 32,
    **_timm: Any,
) -> SmallNet:
    """VGG-16 with BatchNorm and one linear layer, 14.7 M parameters.

    Source: Simonyan and Zisserman 2014, arXiv:1409.1556, configuration D.
    """
    early = (64, 64, None, 128, 128, None, 256, 256, 256, None)
    late = (512, 512, 512, None, 512, 512, 512, None)
    return _vgg((*early, *late), in_chans, num_classes, img_size)


NAMES = (
    "resnet9",
    "resnet20",
    "resnet32",
    "resnet56",
    "vgg11_bn_cifar",
    "vgg16_bn_cifar",
    "wrn28_10",
)
