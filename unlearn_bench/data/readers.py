"""What reads each dataset that is known by name, or by a path."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unlearn_bench.core.reading import expand_user
from unlearn_bench.data import folder, parquet, tiny_imagenet, torchvision_sources
from unlearn_bench.data.attributes import Attributes, Values
from unlearn_bench.data.images import TensorImages
from unlearn_bench.data.sources import Columns, Raw, RawPart, held_out
from unlearn_bench.suite.datasets import DATASETS


@dataclass(frozen=True)
class Source:
    """A way to get at images.

    Attributes:
        description: One line for ``unlearn-bench list datasets``.
        read: Gives the raw images from the root, the path given after ``:`` ("" if the name
            takes none), whether to download, and the columns that are meant.
    """

    description: str
    read: Callable[[Path, str, bool, Columns], Raw]


def _digits() -> Raw:
    """Return scikit-learn's digits, 8x8 grey, whose 0..16 are scaled to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy((digits.images * (255 / 16)).round().astype("uint8"))[:, None]
    labels = torch.from_numpy(digits.target.astype("int64"))
    out = held_out(labels)
    train, test = (RawPart(TensorImages(images[part]), labels[part]) for part in (~out, out))
    return Raw(train, test, tuple(str(digit) for digit in range(10)))


def _digits_by_parity() -> Raw:
    """Return the digits as two classes, even and odd, with the digits as fine classes."""
    raw = _digits()

    def values(part: RawPart) -> dict[str, Values]:
        return {"digit": lambda: [raw.classes[label] for label in part.labels.tolist()]}

    return Raw(
        replace(raw.train, labels=raw.train.labels % 2),
        replace(raw.test, labels=raw.test.labels % 2),
        ("even", "odd"),
        attributes=Attributes(values(raw.train), values(raw.test), "digit"),
    )


def resolved(root: Path, path: str) -> Path:
    """A path as given, or below ``root`` where only that exists."""
    given = expand_user(Path(path), "the dataset's path")
    return root / given if not given.exists() and (root / given).exists() else given


def _reader(name: str) -> Callable[[Path, str, bool, Columns], Raw]:
    """Return what reads the dataset of that name in :data:`DATASETS`."""
    if name == "digits":
        return lambda root, path, download, columns: _digits()
    if name == "digits-parity":
        return lambda root, path, download, columns: _digits_by_parity()
    if name == tiny_imagenet.NAME:
        return lambda root, path, download, columns: tiny_imagenet.load(root)
    if name == "imagefolder:PATH":
        return lambda root, path, download, columns: folder.load_folder(resolved(root, path))
    if name == "parquet:PATH":
        return lambda root, path, download, columns: parquet.load_folder(
            resolved(root, path), columns
        )
    return lambda root, path, download, columns: torchvision_sources.load(name, root, download)


SOURCES = {name: Source(known.description, _reader(name)) for name, known in DATASETS.items()}
