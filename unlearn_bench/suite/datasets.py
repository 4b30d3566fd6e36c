"""Facts about each dataset that is known by name, in one table, free of torch."""

from dataclasses import dataclass
from typing import Literal

from unlearn_bench.plugins.parts import parts

Constants = tuple[tuple[float, ...], tuple[float, ...]]
Augmentation = Literal["none", "crop", "crop-flip"]


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before it is read.

    Attributes:
        description: One line for ``unlearn-bench list datasets``.
        augment: What it is usually trained with; digits and letters must not be mirrored.
        constants: Mean and standard deviation per channel, of pixels scaled to [0, 1], as the
            literature uses them; None where they are measured.
        num_classes: Number of its classes; 0 where it is not known before reading.
        shape: Channels, height and width of its images in pixels; None where they differ.
        torchvision_name: Of its class in ``torchvision.datasets``; empty where there is none.
    """

    description: str
    augment: Augmentation = "crop-flip"
    constants: Constants | None = None
    num_classes: int = 0
    shape: tuple[int, int, int] | None = None
    torchvision_name: str = ""


def _grey(name: str, what: str, augment: Augmentation, mean: float, std: float) -> DatasetInfo:
    description = f"28x28 grey {what}, 60,000 + 10,000"
    return DatasetInfo(description, augment, ((mean,), (std,)), 10, (1, 28, 28), name)


DATASETS: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        "8x8 grey digits that come with scikit-learn; no files needed", "none", None, 10, (1, 8, 8)
    ),
    "digits-parity": DatasetInfo(
        "the same digits as two classes, even and odd, for subclass:8",
        "none",
        None,
        2,
        (1, 8, 8),
    ),
    "mnist": _grey("MNIST", "handwritten digits", "none", 0.1307, 0.3081),
    "fashion_mnist": _grey("FashionMNIST", "pieces of clothing", "none", 0.2860, 0.3530),
    "kmnist": _grey("KMNIST", "Japanese characters", "none", 0.1918, 0.3483),
    "cifar10": DatasetInfo(
        "32x32 colour, 10 classes, 50,000 + 10,000",
        "crop-flip",
        ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        10,
        (3, 32, 32),
        "CIFAR10",
    ),
    "cifar100": DatasetInfo(
        "32x32 colour, 100 classes, 50,000 + 10,000",
        "crop-flip",
        ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        100,
        (3, 32, 32),
        "CIFAR100",
    ),
    "cifar20": DatasetInfo(
        "CIFAR-100 by its 20 coarse classes, for subclass:rocket; cifar100's files",
        "crop-flip",
        ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        20,
        (3, 32, 32),
        "CIFAR100",
    ),
    "svhn": DatasetInfo(
        "32x32 colour house numbers, 73,257 + 26,032",
        "crop",
        ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        10,
        (3, 32, 32),
        "SVHN",
    ),
    "stl10": DatasetInfo(
        "96x96 colour, 10 classes, 5,000 + 8,000",
        "crop-flip",
        ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
        10,
        (3, 96, 96),
        "STL10",
    ),
    "food101": DatasetInfo(
        "dishes of many sizes, 101 classes, 75,750 + 25,250; give an image size",
        num_classes=101,
        torchvision_name="Food101",
    ),
    "tiny_imagenet": DatasetInfo(
        "64x64 colour, 200 classes, 100,000 + 10,000, from tiny-imagenet-200",
        "crop-flip",
        None,
        200,
        (3, 64, 64),
    ),
    "imagefolder:PATH": DatasetInfo(
        "your images: PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg"
    ),
    "parquet:PATH": DatasetInfo(
        "your Parquet files as on the Hugging Face hub: PATH/train-*.parquet and test-*.parquet"
    ),
}


def info(name: str) -> DatasetInfo | None:
    """Return the facts about a dataset that is given by name or as ``KIND:PATH``, if known.

    Those of a plug-in are few: the rest is known once it is read.
    """
    kind, separator, _ = name.partition(":")
    known = DATASETS.get(f"{kind}:PATH" if separator else name)
    own = None if known or separator else parts("dataset").get(name)
    return known if own is None else DatasetInfo(own.summary, own.augment)
