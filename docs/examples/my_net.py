"""Your own network: any `nn.Module` that takes images and returns logits."""

from torch import nn

from unlearn_bench.api import model


class MyNet(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.head = nn.Linear(32 * 2 * 2, num_classes)

    def forward(self, images):
        """Map normalised images [N, C, H, W] to logits [N, classes]."""
        return self.head(self.features(images).flatten(1))


@model("my_net")
def my_net(channels, image_size, num_classes):
    """Called with the shape of the data; the arguments keep these names."""
    return MyNet(channels, num_classes)
