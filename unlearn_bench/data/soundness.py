"""What no dataset can be: empty, of one class, with labels out of range, or of equal pixels."""

import torch

from unlearn_bench.core.errors import DataError
from unlearn_bench.data.encoded import spread_evenly
from unlearn_bench.data.images import Dataset, Images
from unlearn_bench.data.sources import Raw

LOOKED_AT = 4096  # images; the first two that differ end the look


def check_labels(raw: Raw, name: str) -> None:
    """Refuse parts that are empty or whose labels cannot be right.

    Raises:
        DataError: With what is wrong.
    """
    for part_name, part in (("training", raw.train), ("test", raw.test)):
        labels, count = part.labels, len(part.images)
        if not count:
            raise DataError(f"the {part_name} part of {name} has no images")
        if len(labels) != count:
            raise DataError(
                f"the {part_name} part of {name} has {count} images but {len(labels)} labels; "
                "files are damaged or do not belong together"
            )
        wrong = labels[(labels < 0) | (labels >= len(raw.classes))]
        if len(wrong):
            raise DataError(
                f"label {int(wrong[0])} in the {part_name} part of {name} is out of range; "
                f"with {len(raw.classes)} classes labels go from 0 to {len(raw.classes) - 1}"
            )


def check_usable(data: Dataset) -> None:
    """Refuse a dataset from which nothing can be learnt, before anything is trained on it.

    Raises:
        DataError: If its training images are of one class, or all their pixels are equal.
    """
    labels = data.train.labels
    if len(labels.unique()) < 2:
        raise DataError(
            f"the training part of {data.name} has a single class, "
            f"{data.classes[int(labels[0])]!r}, so there is nothing to tell apart: add images of "
            "another class, or choose another label column"
        )
    _check_pixels(data.train.images, data.name)


def _check_pixels(images: Images, name: str) -> None:
    """Refuse images whose pixels all have one value."""
    first: int | None = None
    for index in spread_evenly(len(images), LOOKED_AT):
        image = images.fetch(torch.tensor([index]))
        low, high = int(image.min()), int(image.max())
        if low != high or (first is not None and low != first):
            return
        first = low
    raise DataError(
        f"all pixels of the training images of {name} have the value {first}; they show nothing: "
        "check how the files were written, and their range of values"
    )
