"""Datasets that torchvision knows, from its own file layout or from Parquet files.

torchvision's classes read, verify and download; this module says which files each one wants,
turns their arrays into uint8 tensors, and turns their exceptions into one line that names the
file at fault. CIFAR's pickles are only opened after torchvision has checked their digests.
"""

import contextlib
import http.client
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearn_bench.core import locks
from unlearn_bench.core.errors import DataError, RefusedError
from unlearn_bench.core.quantities import size_text
from unlearn_bench.core.reading import MIB, is_regular, read_json
from unlearn_bench.data import parquet
from unlearn_bench.data.attributes import Attributes, Values
from unlearn_bench.data.encoded import EncodedFiles, header_shape
from unlearn_bench.data.images import TensorImages
from unlearn_bench.data.parquet_files import find_files
from unlearn_bench.data.sources import USUAL_COLUMNS, Columns, Raw, RawPart
from unlearn_bench.suite.datasets import DATASETS, DatasetInfo

ROWS = "the rows of its Parquet files, whose order need not be that of torchvision's"
IDX_BYTES = 256 * MIB  # of MNIST's files the largest has 47
_FOOD_IMAGE = re.compile(r"[\w-]+/[\w-]+")
File = tuple[str, str | None]  # path below the root, and MD5 digest where one is published
# What torchvision's readers and downloads raise for files or servers that are not as they should.
TROUBLE = (
    RuntimeError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AssertionError,
    EOFError,
    RefusedError,
    pickle.UnpicklingError,
    http.client.HTTPException,
)


@dataclass(frozen=True)
class Known:
    """One dataset of torchvision.

    Attributes:
        info: What is known of it.
        files: Gives the files that the class wants.
        read: Gives both parts from the class, the root and whether to download.
        folders: Further folders below the root in which its files may lie.
        columns: Of its Parquet files that hold several labels.
    """

    info: DatasetInfo
    files: Callable[[Any], list[File]]
    read: Callable[[Any, Path, bool], Raw]
    folders: tuple[str, ...] = ()
    columns: Columns = USUAL_COLUMNS


def load(name: str, root: Path, download: bool) -> Raw:
    """Read a dataset of :data:`KNOWN`.

    ``root`` and ``root/name`` are looked into, for torchvision's files first and for Parquet
    files second.

    Raises:
        DataError: If the files are missing, damaged or of another dataset.
    """
    with _alone(root) if download else contextlib.nullcontext():
        return load_raw(name, root, download)


def _alone(root: Path) -> contextlib.AbstractContextManager[object]:
    """Keep other processes from downloading there at the same time, or reading half a download."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        held = locks.take(root / ".download.lock", wait=True)
    except OSError:
        held = None  # nothing can be written here: the files are there already, or cannot be had
    return held or contextlib.nullcontext()


def load_raw(name: str, root: Path, download: bool) -> Raw:
    """Return images and labels of one of ``KNOWN`` as torchvision's files hold them."""
    known = KNOWN[name]
    dataset_class = _dataset_class(known)
    files = known.files(dataset_class)
    names = dict.fromkeys((name, *known.folders, known.info.torchvision_name))
    named = tuple(root / folder for folder in names)
    for place in (root, *named):
        if not _missing(place, files):
            return _read(name, place, download)
    for place in (*named, root):
        if any(find_files(place, search_below=place != root)):
            raw = parquet.load_folder(place, known.columns)
            _check_is(name, raw, place)
            return replace(raw, counted=ROWS)
    if download:
        return _read(name, root, download)
    missing = _missing(root, files)
    shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    raise DataError(
        f"dataset {name} is not in {root}: expected {shown} there, or train-*.parquet and "
        f"test-*.parquet in {root / name}; get it with --download, or point --data-root at it"
    )


def _read(name: str, root: Path, download: bool) -> Raw:
    known = KNOWN[name]
    dataset_class = _dataset_class(known)
    files = known.files(dataset_class)
    for path, _ in files:
        _refuse_special(root / path)
    try:
        return known.read(dataset_class, root, download)
    except TROUBLE as error:
        damaged = [path for path, md5 in files if _is_damaged(root / path, md5)]
        if damaged:
            raise DataError(
                f"{root / damaged[0]} is truncated or damaged; "
                "delete it and download it again with --download"
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        if _missing(root, files):
            raise DataError(f"cannot download {name} to {root}: {reason}") from error
        raise DataError(f"cannot read {name} from {root}: {reason}") from error


def _refuse_special(path: Path) -> None:
    """Refuse what torchvision would wait for, or hold in memory however large it is."""
    if not path.exists():
        return
    if not is_regular(path):
        raise DataError(f"{path} is not a regular file; only those are read")
    if path.name.endswith("-ubyte") and path.stat().st_size > IDX_BYTES:
        raise DataError(
            f"{path} is larger than {size_text(IDX_BYTES)}, the limit; download it again"
        )


def _dataset_class(known: Known) -> Any:
    from torchvision import datasets

    found = getattr(datasets, known.info.torchvision_name)
    if known.info.torchvision_name == "STL10":
        # The class would also want, and twice digest, 2.6 GB of images without labels.
        found = type("STL10", (found,), {"train_list": found.train_list[:2]})
    return found


def _missing(root: Path, files: list[File]) -> list[str]:
    return [path for path, _ in files if not (root / path).exists()]


def _is_damaged(path: Path, md5: str | None) -> bool:
    """Whether a file that exists is not what it should be."""
    if not path.is_file():
        return False
    if md5 is not None:
        from torchvision.datasets.utils import check_md5

        return not check_md5(path, md5)
    if path.suffix == ".json":
        return not _is_food_list(path)
    return path.name.endswith("-ubyte") and not _is_whole_idx(path)


def _is_food_list(path: Path) -> bool:
    try:
        _food_list(path)
    except (OSError, ValueError, RefusedError):
        return False
    return True


def _is_whole_idx(path: Path) -> bool:
    """Whether an IDX file of bytes is as long as its header says."""
    with path.open("rb") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08":
            return False
        sizes = [int.from_bytes(file.read(4), "big") for _ in range(magic[3])]
    return path.stat().st_size == 4 + 4 * magic[3] + int(np.prod(sizes))


def _check_is(name: str, raw: Raw, place: Path) -> None:
    """Refuse Parquet files of another dataset: any set's files may be called train-*.parquet."""
    known = KNOWN[name]
    images = raw.train.images
    shape = None
    if known.info.shape is not None and not isinstance(images, TensorImages):
        shape = header_shape(images)
    if shape != known.info.shape or len(raw.classes) != known.info.num_classes:
        raise DataError(
            f"the Parquet files in {place} are not {name}: they have {len(raw.classes)} classes "
            f"and images of {shape}, expected {known.info.num_classes} and {known.info.shape}; "
            f"use --dataset parquet:{place} to read them as they are"
        )


def _part(images: Any, labels: Any) -> RawPart:
    """Copy arrays [N, C, H, W] and [N] into compact tensors."""
    data = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    return RawPart(TensorImages(data.contiguous()), torch.as_tensor(labels, dtype=torch.int64))


# The MNIST family: IDX files below a folder of the class's name.


def _idx_files(dataset_class: Any) -> list[File]:
    folder = f"{dataset_class.__name__}/raw"
    return [(f"{folder}/{name.removesuffix('.gz')}", None) for name, _ in dataset_class.resources]


def _read_idx(dataset_class: Any, root: Path, download: bool) -> Raw:
    train, test = (dataset_class(root, train=part, download=download) for part in (True, False))
    classes = tuple(name.split(" - ")[0] for name in dataset_class.classes)
    return Raw(
        _part(train.data[:, None], train.targets), _part(test.data[:, None], test.targets), classes
    )


# CIFAR: pickled arrays, verified by torchvision before it opens them.


def _cifar_files(dataset_class: Any) -> list[File]:
    meta = dataset_class.meta["filename"], dataset_class.meta["md5"]
    return [
        (f"{dataset_class.base_folder}/{name}", md5)
        for name, md5 in (*dataset_class.train_list, *dataset_class.test_list, meta)
    ]


def _read_cifar(dataset_class: Any, root: Path, download: bool) -> Raw:
    train, test = (dataset_class(root, train=part, download=download) for part in (True, False))

    def compact(part: Any) -> RawPart:  # torchvision has N, H, W, C
        return _part(part.data.transpose(0, 3, 1, 2), part.targets)

    return Raw(compact(train), compact(test), tuple(train.classes))


# CIFAR-20: CIFAR-100 by its coarse classes. Its files hold both labels, and torchvision hands out
# the fine ones alone: which coarse class each is in, and their names, are as in those files.

COARSE_NAMES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates", "people",
    "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip
COARSE_OF_FINE = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11,
    6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5,
    5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17,
    10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13,
    16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)  # fmt: skip


def _read_cifar20(dataset_class: Any, root: Path, download: bool) -> Raw:
    return by_coarse_class(_read_cifar(dataset_class, root, download))


def by_coarse_class(fine: Raw) -> Raw:
    """Return CIFAR-100 with its 20 coarse classes as classes, and the fine ones inside them."""
    coarse = torch.tensor(COARSE_OF_FINE)

    def values(part: RawPart) -> dict[str, Values]:
        return {parquet.FINER_COLUMN: lambda: [fine.classes[i] for i in part.labels.tolist()]}

    train, test = (replace(part, labels=coarse[part.labels]) for part in (fine.train, fine.test))
    attributes = Attributes(values(fine.train), values(fine.test), parquet.FINER_COLUMN)
    return Raw(train, test, COARSE_NAMES, attributes=attributes)


# SVHN and STL-10: arrays that torchvision verifies by digest.


def _svhn_files(dataset_class: Any) -> list[File]:
    entries = (dataset_class.split_list[part] for part in ("train", "test"))
    return [(name, md5) for _, name, md5 in entries]


def _stl10_files(dataset_class: Any) -> list[File]:
    entries = (*dataset_class.train_list, *dataset_class.test_list)
    return [(f"{dataset_class.base_folder}/{name}", md5) for name, md5 in entries]


def _read_split(dataset_class: Any, root: Path, download: bool) -> Raw:
    train, test = (dataset_class(root, part, download=download) for part in ("train", "test"))
    classes = getattr(train, "classes", [str(digit) for digit in range(10)])
    return Raw(_part(train.data, train.labels), _part(test.data, test.labels), tuple(classes))


# Food-101: a folder of JPEG files of many sizes and two JSON lists.


def _food_files(dataset_class: Any) -> list[File]:
    return [("food-101/meta/train.json", None), ("food-101/meta/test.json", None)]


def _food_list(path: Path) -> dict[str, list[str]]:
    """Return the images of every class, none of which leads out of the dataset's folder.

    Raises:
        OSError: If the list cannot be read.
        RefusedError: If it is no JSON within bounds.
        ValueError: If it is no such list.
    """
    listed = read_json(path)
    images = listed.values() if isinstance(listed, dict) else [None]
    if not all(
        isinstance(of_class, list)
        and all(isinstance(image, str) and _FOOD_IMAGE.fullmatch(image) for image in of_class)
        for of_class in images
    ):
        raise ValueError(f"{path} does not list images by class")
    return dict(listed)


def _read_food(dataset_class: Any, root: Path, download: bool) -> Raw:
    if download:
        dataset_class(root, download=True)
    base = root / "food-101"

    def part(name: str) -> tuple[RawPart, tuple[str, ...]]:
        listed = _food_list(base / "meta" / f"{name}.json")
        classes = tuple(sorted(listed))
        files = [base / "images" / f"{image}.jpg" for c in classes for image in listed[c]]
        labels = [label for label, c in enumerate(classes) for _ in listed[c]]
        return RawPart(EncodedFiles(base, files), torch.tensor(labels)), classes

    (train, classes), (test, _) = part("train"), part("test")
    return Raw(train, test, classes)


_READERS: dict[str, tuple[Any, ...]] = {
    "mnist": (_idx_files, _read_idx),
    "fashion_mnist": (_idx_files, _read_idx),
    "kmnist": (_idx_files, _read_idx),
    "cifar10": (_cifar_files, _read_cifar),
    "cifar100": (_cifar_files, _read_cifar),
    "cifar20": (_cifar_files, _read_cifar20, ("cifar100",), Columns("coarse_label", "fine_label")),
    "svhn": (_svhn_files, _read_split),
    "stl10": (_stl10_files, _read_split),
    "food101": (_food_files, _read_food),
}
KNOWN = {name: Known(DATASETS[name], *how) for name, how in _READERS.items()}
