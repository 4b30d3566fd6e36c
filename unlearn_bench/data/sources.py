"""What a source of images hands over, before the images have one size.

Every kind of source (torchvision's files, Parquet, folders) ends in a :class:`Raw`;
``datasets.load`` makes a dataset of it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unlearn_bench.data.attributes import NO_ATTRIBUTES, Attributes, Values
from unlearn_bench.data.encoded import Encoded
from unlearn_bench.data.images import TensorImages

HELD_OUT = 5  # every fifth image of a class is held out where a source has no test part


class Columns(NamedTuple):
    """Which columns of Parquet files are meant; None for the usual ones.

    Attributes:
        label: The classes.
        group: The fine classes inside them.
        image: The images.
        split: Which part a row is in.
    """

    label: str | None = None
    group: str | None = None
    image: str | None = None
    split: str | None = None


USUAL_COLUMNS = Columns()


class Rows:
    """Some of the images of a source, under their own count.

    Attributes:
        digest: What is chosen, for the dataset's fingerprint.
    """

    def __init__(self, images: Encoded, rows: Tensor) -> None:
        """Choose ``rows``, int64 [M], of ``images``."""
        self.base, self.files = images.base, images.files
        self._images, self._rows = images, rows.tolist()
        self.digest = images.digest + rows.numpy().tobytes()

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> bytes:
        """Return the encoded image at ``index``."""
        return self._images.read(self._rows[index])

    def where(self, index: int) -> str:
        """Say where the image at ``index`` lies."""
        return self._images.where(self._rows[index])

    def names(self) -> list[str]:
        """Return the name of every image's file."""
        names = self._images.names()
        return [names[row] for row in self._rows]


@dataclass(frozen=True)
class RawPart:
    """Images as their source has them: one tensor, or encoded and of any size.

    Attributes:
        images: N images.
        labels: int64 [N].
        numbers: int64 [N], by which the user names the images; None where it is their place.
    """

    images: TensorImages | Encoded
    labels: Tensor
    numbers: Tensor | None = None


@dataclass(frozen=True)
class Raw:
    """Both parts of a source and the names of its classes, by label.

    Attributes:
        notes: What the user should know of how the files were read, one line each.
        attributes: What is known of the images beside their class.
        constants: Mean and standard deviation per channel that the source itself knows.
        counted: As of :class:`~unlearn_bench.data.images.Dataset`.
    """

    train: RawPart
    test: RawPart
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    attributes: Attributes = NO_ATTRIBUTES
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    counted: str = ""


def held_out(labels: Tensor) -> Tensor:
    """Choose a fixed fifth of every class as test part.

    The choice needs no random numbers: the images of a class in their order, evenly spaced.
    It is therefore the same on every machine and with every version of torch. A class with
    two to seven images gives one, a class with a single image none.

    Args:
        labels: int64 [N].

    Returns:
        bool [N], true for the images held out.
    """
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        places = (labels == label).nonzero().squeeze(1)
        count = 0 if len(places) < 2 else max(1, round(len(places) / HELD_OUT))
        picks = torch.arange(1, count + 1) * len(places) // max(count, 1) - 1
        chosen[places[picks]] = True
    return chosen


def file_names(images: TensorImages | Encoded) -> Values | None:
    """Return what gives the file of every image, None for images that came as one tensor."""
    return None if isinstance(images, TensorImages) else images.names
