"""Datasets of plug-ins: what their functions return, checked and brought into the usual form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, UserError, said
from unlearn_bench.data.images import TensorImages
from unlearn_bench.data.sources import Raw, RawPart, held_out
from unlearn_bench.plugins.parts import Part

Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Data:
    """What a function behind ``@dataset`` returns.

    Attributes:
        train: Images, uint8 [N, C, H, W], and labels, whole numbers [N], as tensors or arrays.
        test: Likewise; without it a fixed fifth of every class is held out.
        classes: Name of each class, in the order of the labels.
        mean: Per channel, of pixels scaled to [0, 1]; by default that of the training images.
        std: Likewise; both or neither.
    """

    train: Pair
    test: Pair | None = None
    classes: Sequence[str] = ()
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def read(part: Part, root: Path) -> Raw:
    """Call a plug-in's function and return what it read.

    Args:
        part: A registered dataset.
        root: Folder of the datasets.

    Raises:
        DataError: If it raises, or returns something other than a :class:`Data` that can be used.
    """
    try:
        found = part.function(root)
    except UserError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise DataError(
            f"dataset {part.name!r} of {part.file.name} failed: {type(error).__name__}: "
            f"{said(error)}"
        ) from error
    if not isinstance(found, Data):
        raise _wrong(part, f"returned {type(found).__name__}", "return unlearn_bench.api.Data(...)")
    train = _pair(part, "train", found.train)
    if found.test is not None:
        tested = _pair(part, "test", found.test)
    else:
        (images, labels), out = train, held_out(train[1])
        train, tested = (images[~out], labels[~out]), (images[out], labels[out])
    if train[0].shape[1:] != tested[0].shape[1:]:
        sizes = " and ".join(str(list(images.shape[1:])) for images, _ in (train, tested))
        raise _wrong(part, f"has images of {sizes}", "bring train and test to one size")
    count = 1 + int(torch.cat([train[1], tested[1]]).max())
    classes = tuple(map(str, found.classes)) or tuple(map(str, range(count)))
    constants = _constants(part, found, train[0].shape[1])
    ours, theirs = (RawPart(TensorImages(images), labels) for images, labels in (train, tested))
    return Raw(ours, theirs, classes, constants=constants)


def _wrong(part: Part, what: str, remedy: str) -> DataError:
    return DataError(f"dataset {part.name!r} of {part.file.name} {what}; {remedy}")


def _pair(part: Part, which: str, given: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise _wrong(part, f"gives no pair as {which}", f"write {which}=(images, labels)")
    images, labels = (
        torch.as_tensor(value) if isinstance(value, Tensor | np.ndarray | list) else value
        for value in given
    )
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.dim() != 4:
        shown = (
            f"{images.dtype} {list(images.shape)}"
            if isinstance(images, Tensor)
            else type(images).__name__
        )
        raise _wrong(part, f"gives {shown} as images of {which}", "give uint8 [N, C, H, W]")
    if not isinstance(labels, Tensor) or labels.dim() != 1 or labels.is_floating_point():
        raise _wrong(part, f"gives no labels of {which}", "give class numbers from 0, [N]")
    return images.contiguous(), labels.long()


def _constants(
    part: Part, found: Data, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if found.mean is None and found.std is None:
        return None
    mean, std = (tuple(map(float, values or ())) for values in (found.mean, found.std))
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise _wrong(
            part,
            f"gives mean={list(mean)} and std={list(std)}",
            f"give {channels} numbers each, those of std above 0, or neither",
        )
    return mean, std
