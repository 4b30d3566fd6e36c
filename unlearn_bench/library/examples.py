"""The examples that a user hands over: datasets, loaders, tensors or splits, read into memory.

Float images are inputs as the model takes them; uint8 images are pixels, to be normalised by
``mean`` and ``std``. Subsets of one dataset, and splits of one, keep its order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)
from torch.utils.data import Dataset as TorchDataset

from unlearn_bench.core.errors import DataError
from unlearn_bench.data.images import fits_in_memory
from unlearn_bench.toolkit.context import Split, contents

Examples: TypeAlias = TorchDataset[Any] | DataLoader[Any] | tuple[Tensor, Tensor] | Split
Constants: TypeAlias = float | Sequence[float]

FORMS = (
    "give a Dataset of (image, label), a DataLoader, a pair of tensors (images [N, C, H, W], "
    "labels [N]), or a Split"
)


@dataclass(frozen=True)
class Given:
    """The examples of one argument.

    Attributes:
        name: Of the argument.
        images: [N, C, H, W], uint8 or float32.
        labels: int64 [N].
        base: What they are a part of; None where they stand for themselves.
        places: int64 [N], where in ``base`` they stand.
        constants: Mean and standard deviation per channel that the base itself knows.
    """

    name: str
    images: Tensor
    labels: Tensor
    base: object | None = None
    places: Tensor | None = None
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def read(name: str, given: object) -> Given:
    """Read what an argument gives.

    Args:
        name: Of the argument, for messages.
        given: See :data:`Examples`.

    Raises:
        DataError: If it is of another form, empty, or its images or labels cannot be used.
    """
    if isinstance(given, Split):
        data, indices = contents(given)
        images = data.train.images.fetch(indices).cpu()
        return Given(name, images, given.labels, data.train, indices, (data.mean, data.std))
    if isinstance(given, DataLoader):
        given = _in_order(given)
    base, places = _flattened(given) if isinstance(given, Subset) else (None, None)
    images, labels = _images_and_labels(name, given, base, places)
    return Given(name, _checked_images(name, images), _checked_labels(name, labels), base, places)


def _in_order(loader: DataLoader[Any]) -> object:
    """Return what a loader reads, in stored order: shuffling it is for methods to do.

    A loader with a collate function or sampler of the user's own is read as it comes.
    """
    plain = loader.collate_fn is torch.utils.data.default_collate
    if plain and isinstance(loader.sampler, SequentialSampler | RandomSampler):
        return loader.dataset
    if plain and isinstance(loader.sampler, SubsetRandomSampler):
        return Subset(loader.dataset, sorted(loader.sampler.indices))
    if isinstance(loader.sampler, RandomSampler):
        return DataLoader(loader.dataset, loader.batch_size, collate_fn=loader.collate_fn)
    return loader


def _flattened(subset: Subset[Any]) -> tuple[object, Tensor]:
    """Return what subsets of subsets are in the end a part of, and where in it they stand."""
    base: object = subset
    places = torch.arange(len(subset))
    while isinstance(base, Subset):
        places = torch.as_tensor(base.indices, dtype=torch.int64)[places]
        base = base.dataset
    return base, places


def _images_and_labels(
    name: str, given: object, base: object | None, places: Tensor | None
) -> tuple[Any, Any]:
    if isinstance(base, TensorDataset) and places is not None:
        given = TensorDataset(*(tensor[places] for tensor in base.tensors))
    if isinstance(given, TensorDataset) and len(given.tensors) >= 2:
        return given.tensors[0], given.tensors[1]
    if isinstance(given, tuple | list) and len(given) == 2:
        if all(isinstance(part, Tensor | np.ndarray) for part in given):
            return torch.as_tensor(given[0]), torch.as_tensor(given[1])
    if isinstance(given, DataLoader):
        pairs = [_pair(name, batch) for batch in given]
        images, labels = ([torch.as_tensor(pair[i]) for pair in pairs] for i in (0, 1))
        return torch.cat(images or [torch.empty(0)]), torch.cat(labels or [torch.empty(0)])
    if isinstance(given, IterableDataset):
        return _stacked(name, iter(given), None)
    items: Any = given
    known = hasattr(given, "__getitem__") and hasattr(given, "__len__")
    if known and not isinstance(given, Mapping | str | bytes):
        return _stacked(name, (items[i] for i in range(len(items))), len(items))
    raise DataError(f"{name}: {type(given).__name__} holds no examples; {FORMS}")


def _pair(name: str, item: object) -> tuple[Any, Any]:
    if isinstance(item, Mapping) or not isinstance(item, tuple | list) or len(item) < 2:
        raise DataError(f"{name}: its items are {type(item).__name__}; {FORMS}")
    return item[0], item[1]


def _stacked(name: str, items: Iterable[object], count: int | None) -> tuple[Tensor, Tensor]:
    images: list[Tensor] = []
    labels: list[int] = []
    for item in items:
        x, y = _pair(name, item)
        image = _image(name, x)
        if not images and count is not None and not fits_in_memory(count * image.nbytes):
            raise DataError(
                f"{name}: {count:,} images of {image.nbytes:,} bytes do not fit in memory; give "
                "uint8 images, which take a quarter, or run the command on a folder of images, "
                "which are read as they are needed"
            )
        if images and image.shape != images[0].shape:
            raise DataError(
                f"{name}: images of {_size(images[0])} and of {_size(image)}; bring them to one "
                "size"
            )
        images.append(image)
        labels.append(_label(name, y))
    return torch.stack(images) if images else torch.empty(0), torch.tensor(labels)


def _size(image: Tensor) -> str:
    return " x ".join(map(str, image.shape))


def _image(name: str, given: Any) -> Tensor:
    """Return an image as a tensor [C, H, W]; Pillow's as pixels."""
    if isinstance(given, Tensor):
        return given
    if type(given).__module__.startswith("PIL."):
        pixels = torch.from_numpy(np.array(given))
        return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)
    raise DataError(
        f"{name}: its images are {type(given).__name__}; give tensors [C, H, W] or Pillow images"
    )


def _label(name: str, given: Any) -> int:
    try:
        if int(given) == given:
            return int(given)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise DataError(f"{name}: a label is {str(given)[:40]!r}; give class numbers from 0")


def _checked_images(name: str, images: Tensor) -> Tensor:
    if not len(images):
        raise DataError(f"{name} holds no examples; give at least one")
    if images.dim() != 4:
        raise DataError(
            f"{name}: images of shape {list(images.shape)}; give [N, C, H, W], grey ones with C = 1"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise DataError(
            f"{name}: images of {images.dtype}; give normalised floats, or uint8 pixels with "
            "mean= and std="
        )
    if images.is_floating_point() and not images.isfinite().all():
        raise DataError(f"{name}: an image holds NaN or infinity")
    images = images.detach().cpu()
    return images if images.dtype == torch.uint8 else images.float()


def _checked_labels(name: str, labels: Tensor) -> Tensor:
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataError(
            f"{name}: labels of shape {list(labels.shape)} and {labels.dtype}; give class numbers "
            "from 0, an integer tensor [N]"
        )
    return labels.detach().cpu().long()


def check_together(parts: Sequence[Given]) -> None:
    """Refuse arguments that do not belong together.

    Raises:
        DataError: Names the argument that differs from the first.
    """
    first = parts[0]
    for part in parts:
        if len(part.images) != len(part.labels):
            raise DataError(
                f"{part.name}: {len(part.images)} images but {len(part.labels)} labels; give one "
                "label per image"
            )
        if part.images.shape[1:] != first.images.shape[1:]:
            raise DataError(
                f"{part.name}: images of {_size(part.images[0])}, those of {first.name} are "
                f"{_size(first.images[0])}; prepare all in the same way"
            )
        if part.images.dtype != first.images.dtype or part.constants != first.constants:
            raise DataError(
                f"{part.name} is prepared in another way than {first.name}: give both as uint8 "
                "pixels, or both as normalised floats"
            )


def check_labels(parts: Sequence[Given], num_classes: int) -> None:
    """Refuse labels that a model has no logit for.

    Raises:
        DataError: Names the argument.
    """
    for part in parts:
        low, high = int(part.labels.min()), int(part.labels.max())
        if low < 0 or high >= num_classes:
            raise DataError(
                f"{part.name}: label {low if low < 0 else high} is out of range; the model gives "
                f"{num_classes} logits, so labels go from 0 to {num_classes - 1}"
            )


def joined(parts: Sequence[Given]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Put the examples of several arguments together.

    Returns:
        Images, labels, and for each argument where its examples stand, ascending. Parts of one
        dataset are in its order, others one after the other.

    Raises:
        DataError: If two parts of one dataset share examples.
    """
    sizes = [len(part) for part in parts]
    base = parts[0].base
    if base is None or any(part.base is not base for part in parts):
        where = list(torch.arange(sum(sizes)).split(sizes))
        images, labels = (torch.cat([getattr(p, n) for p in parts]) for n in ("images", "labels"))
        return images, labels, where
    places = torch.cat([part.places for part in parts if part.places is not None])
    kept, counts = places.unique(return_counts=True)
    if len(kept) < len(places):
        shared = int(kept[counts > 1][0])
        names = " and ".join(part.name for part in parts)
        raise DataError(f"{names} share example {shared} of their dataset; each may be in one only")
    order = places.argsort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    images = torch.cat([part.images for part in parts])[order]
    labels = torch.cat([part.labels for part in parts])[order]
    # Each part in the order of the whole, as the harness has its index sets.
    return images, labels, [where.sort().values for where in rank.split(sizes)]


def pixels_of(
    images: Tensor, mean: Constants | None, std: Constants | None, known: Any
) -> tuple[tuple[float, ...], tuple[float, ...], "Scale"]:
    """Return mean and standard deviation per channel, and how images become pixels of 0 to 255.

    Args:
        images: [N, C, H, W], uint8 or normalised floats.
        mean: As the user gives it.
        std: Likewise.
        known: Constants that splits bring with them, or None.

    Raises:
        DataError: If uint8 images come without constants, or these do not fit.
    """
    channels = images.shape[1]
    if known is not None:
        return (*known, Scale(None))
    if (mean is None) != (std is None):
        raise DataError("give mean= and std= together, or neither")
    if mean is None or std is None:
        if images.dtype == torch.uint8:
            raise DataError(
                "uint8 images are pixels: give mean= and std=, the constants that the model's "
                "inputs are normalised by, or give images that are normalised already, as floats"
            )
        # The least and the largest input stand for black and white.
        low, high = float(images.min()), float(images.max())
        width = high - low or 1.0
        constants = (-low / width,) * channels, (1 / width,) * channels
    else:
        constants = _per_channel("mean", mean, channels), _per_channel("std", std, channels)
        if min(constants[1]) <= 0:
            raise DataError(f"std={std!r}: give numbers above 0")
    return (*constants, Scale(None if images.dtype == torch.uint8 else constants))


def _per_channel(name: str, given: Constants, channels: int) -> tuple[float, ...]:
    values = (float(given),) if isinstance(given, int | float) else tuple(map(float, given))
    if len(values) not in (1, channels):
        raise DataError(
            f"{name} has {len(values)} values, the images have {channels} channels; give one value "
            "or one per channel"
        )
    return values * channels if len(values) == 1 else values


@dataclass(frozen=True)
class Scale:
    """Turns images into what the data path keeps: pixels from 0 to 255, whole or not.

    Attributes:
        constants: By which the images were normalised; None where they are pixels already.
    """

    constants: tuple[tuple[float, ...], tuple[float, ...]] | None

    def __call__(self, images: Tensor) -> Tensor:
        """Return [N, C, H, W] pixels, of the images' own type."""
        if self.constants is None:
            return images
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in self.constants)
        return images.mul(255 * std).add_(255 * mean)
