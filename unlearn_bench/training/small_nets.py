"""The small networks of the unlearning literature that timm lacks, registered with timm.

Registered there, they are built, listed and taken apart like every other architecture:
``forward_features``, ``forward_head``, ``get_classifier``, ``reset_classifier``.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

LENET_SMALLEST = 12  # pixels a side: two poolings and an unpadded 5 x 5 kernel leave one


class SmallNet(nn.Module):
    """A stack of feature layers and one linear classifier, with timm's interface.

    Args:
        features: Layers from the image to one vector of ``num_features`` per example.
        num_features: Width of that vector.
        num_classes: Number of classes; 0 leaves the features as output.
    """

    def __init__(self, features: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.num_features = self.head_hidden_size = num_features
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a fresh one for ``num_classes`` classes."""
        self.num_classes = num_classes
        self.classifier: nn.Module = (
            nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to features [N, num_features]."""
        out: Tensor = self.features(x)
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map features to logits [N, num_classes]; with ``pre_logits`` return them as they are."""
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, num_classes]."""
        return self.forward_head(self.forward_features(x))


@register_model
def lenet(
    pretrained: bool = False,
    in_chans: int = 1,
    num_classes: int = 10,
    img_size: int | tuple[int, int] = 28,
    **_timm: Any,
) -> SmallNet:
    """LeNet-5 with ReLU and max-pooling, 62 k parameters at 1x28x28.

    Source: LeCun et al. 1998, Gradient-based learning applied to document recognition.
    """
    convolutions = nn.Sequential(
        nn.Conv2d(in_chans, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if min(height, width) < LENET_SMALLEST:
        raise ValueError(f"lenet needs images of at least {LENET_SMALLEST} pixels a side")
    with torch.no_grad():
        width = convolutions(torch.zeros(1, in_chans, height, width)).shape[1]
    hidden = [nn.Linear(width, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()]
    return SmallNet(nn.Sequential(*convolutions, *hidden), 84, num_classes)


@register_model
def allcnn(
    pretrained: bool = False, in_chans: int = 3, num_classes: int = 10, **_timm: Any
) -> SmallNet:
    """All-CNN-C with BatchNorm and a linear classifier, as the unlearning papers train it.

    Source: Springenberg et al. 2014, arXiv:1412.6806; with BatchNorm: Golatkar et al. 2019,
    arXiv:1911.04933.
    """

    def block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [
        *block(in_chans, 96),
        *block(96, 96),
        *block(96, 96, stride=2),
        nn.Dropout(0.5),
        *block(96, 192),
        *block(192, 192),
        *block(192, 192, stride=2),
        nn.Dropout(0.5),
        *block(192, 192),
        *block(192, 192, kernel=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return SmallNet(nn.Sequential(*layers), 192, num_classes)


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm beside a projection, at half the resolution.

    Source: He et al. 2015, arXiv:1512.03385, figure 2 with option B.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H/2, W/2]."""
        out = nn.functional.relu(self.bn1(self.conv1(x)))
        return nn.functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


@register_model
def resnet4(
    pretrained: bool = False,
    in_chans: int = 3,
    num_classes: int = 10,
    width: int = 16,
    **_timm: Any,
) -> SmallNet:
    """A residual network with one block, 16 k parameters: for checks and tests, not for results.

    It has what methods trip over (a convolution, BatchNorm, a skip connection, a linear
    classifier) and takes a fifth of the time of timm's smallest ResNet on tiny images.
    """
    layers = [
        nn.Conv2d(in_chans, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        ResidualBlock(width, 2 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return SmallNet(nn.Sequential(*layers), 2 * width, num_classes)


NAMES = ("allcnn", "lenet", "resnet4")
