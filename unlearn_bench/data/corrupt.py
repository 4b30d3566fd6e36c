"""Images that cannot be decoded: left out of a dataset, counted and named."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, RefusedError, visible
from unlearn_bench.core.quantities import in_order
from unlearn_bench.data.attributes import Values
from unlearn_bench.data.decoding import UNREADABLE, decode_image
from unlearn_bench.data.encoded import Encoded
from unlearn_bench.data.images import TensorImages
from unlearn_bench.data.sources import Raw, RawPart, Rows

SHOWN = 5


def without_corrupt(raw: Raw) -> Raw:
    """Return a dataset without the images that cannot be decoded; its notes name them.

    Every image is decoded once for it. The others keep the numbers by which they are named.

    Raises:
        DataError: If no image of a part can be decoded.
    """
    train, ours, lost = _sound(raw.train)
    test, theirs, more = _sound(raw.test)
    attributes = replace(
        raw.attributes,
        train=_chosen(raw.attributes.train, ours),
        test=_chosen(raw.attributes.test, theirs),
    )
    notes = [
        f"skipped {len(names)} of {len(part.labels)} {which} images, which cannot be decoded: "
        f"{in_order(names, SHOWN)}"
        for which, part, names in (("training", raw.train, lost), ("test", raw.test, more))
        if names
    ]
    return replace(raw, train=train, test=test, attributes=attributes, notes=(*raw.notes, *notes))


def _sound(part: RawPart) -> tuple[RawPart, Tensor | None, list[str]]:
    """Return the part that can be decoded, its rows where some are left out, and what is not."""
    images = part.images
    if isinstance(images, TensorImages):
        return part, None, []
    sound = [_decodes(images, index) for index in range(len(images))]
    if all(sound):
        return part, None, []
    rows = torch.tensor(sound).nonzero().squeeze(1)
    if not len(rows):
        raise DataError(
            f"--skip-corrupt: no image in {images.base} can be decoded; give another folder or "
            "column of images"
        )
    lost = [visible(images.where(index)) for index, good in enumerate(sound) if not good]
    numbers = rows if part.numbers is None else part.numbers[rows]
    return RawPart(Rows(images, rows), part.labels[rows], numbers), rows, lost


def _decodes(images: Encoded, index: int) -> bool:
    try:
        decode_image(images.read(index), 3)
    except (DataError, RefusedError, *UNREADABLE):
        return False
    return True


def _chosen(columns: Mapping[str, Values], rows: Tensor | None) -> Mapping[str, Values]:
    if rows is None:
        return columns
    return {name: partial(_some, values, rows) for name, values in columns.items()}


def _some(values: Values, rows: Tensor) -> Sequence[str]:
    known = values()
    return [known[row] for row in rows.tolist()]
