"""Datasets of plug-ins: what their functions return, checked and brought into the usual form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, UserError, said
from unlearn_bench.data.attributes import Attributes
from unlearn_bench.data.images import TensorImages
from unlearn_bench.data.sources import Raw, RawPart, held_out
from unlearn_bench.plugins.parts import Part

Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Data:
    """The return value of a ``@dataset`` function.

    Attributes:
        train: Images, uint8 [N, C, H, W], and labels, whole numbers [N], as tensors or arrays.
        test: As ``train``; without it a fixed fifth of every class is held out.
        classes: Name of each class, in the order of the labels.
        mean: Per channel, of pixels scaled to [0, 1]; by default that of the training images.
        std: As ``mean``; give both or neither.
        groups: What is known of every image beside its class, by name, for ``group:NAME=VALUE``:
            values of the training images, [N], or a pair of these and of the test images', [M].
        finer: Which of the groups holds the fine classes, for ``subclass:NAME``.
    """

    train: Pair
    test: Pair | None = None
    classes: Sequence[str] = ()
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    groups: Mapping[str, Any] = field(default_factory=dict)
    finer: str = ""


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
    groups = _groups(part, found, len(train[1]))
    numbers = None
    if found.test is not None:
        tested = _pair(part, "test", found.test)
    else:
        (images, labels), out = train, held_out(train[1])
        train, tested = (images[~out], labels[~out]), (images[out], labels[out])
        numbers = (~out).nonzero().squeeze(1)  # indices count what the plug-in gave
        groups = {name: _divided(ours, out) for name, (ours, _) in groups.items()}
    if train[0].shape[1:] != tested[0].shape[1:]:
        sizes = " and ".join(str(list(images.shape[1:])) for images, _ in (train, tested))
        raise _wrong(part, f"has images of {sizes}", "bring train and test to one size")
    count = 1 + int(torch.cat([train[1], tested[1]]).max())
    classes = tuple(map(str, found.classes)) or tuple(map(str, range(count)))
    constants = _constants(part, found, train[0].shape[1])
    return Raw(
        RawPart(TensorImages(train[0]), train[1], numbers),
        RawPart(TensorImages(tested[0]), tested[1]),
        classes,
        attributes=_attributes(part, groups, found.finer, len(tested[1])),
        constants=constants,
    )


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


Groups = dict[str, tuple[list[str], list[str] | None]]


def _groups(part: Part, found: Data, count: int) -> Groups:
    """Return the values of every group as texts, of the training and of the test images."""
    groups: Groups = {}
    for name, given in dict(found.groups).items():
        pair = isinstance(given, tuple) and len(given) == 2 and not isinstance(given[0], str)
        both = given if pair and count != 2 else (given, None)
        ours, theirs = _texts(both[0]), None if both[1] is None else _texts(both[1])
        if len(ours) != count:
            raise _wrong(
                part,
                f"gives {len(ours)} values of group {name!r} for {count} training images",
                "give one for each",
            )
        groups[str(name)] = ours, theirs
    return groups


def _texts(values: Any) -> list[str]:
    plain = values.tolist() if isinstance(values, Tensor | np.ndarray) else values
    return [str(value) for value in plain]


def _divided(values: list[str], out: Tensor) -> tuple[list[str], list[str]]:
    train, test = (
        [value for value, is_out in zip(values, out.tolist(), strict=True) if is_out == held]
        for held in (False, True)
    )
    return train, test


def _attributes(part: Part, groups: Groups, finer: str, test: int) -> Attributes:
    for name, (_, theirs) in groups.items():
        if theirs is not None and len(theirs) != test:
            raise _wrong(
                part,
                f"gives {len(theirs)} values of group {name!r} for {test} test images",
                "give one for each",
            )
    if finer and finer not in groups:
        raise _wrong(part, f"names finer={finer!r}", f"take one of its groups: {list(groups)}")
    return Attributes(
        {name: partial(list, ours) for name, (ours, _) in groups.items()},
        {name: partial(list, theirs) for name, (_, theirs) in groups.items() if theirs is not None},
        finer,
        repr(sorted(groups.items())).encode() if groups else b"",
    )


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
