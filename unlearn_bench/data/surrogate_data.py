"""Surrogate images: those of another dataset, as stand-ins for data that a method does not have.

They get the size and the channels of the suite's own images, and lose their labels. Images that
are in the suite's own dataset as well, pixel for pixel, would be access to what is retained: a
few are left out, and a dataset with more of them is refused.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, UserError
from unlearn_bench.data import encoded
from unlearn_bench.data.corrupt import without_corrupt
from unlearn_bench.data.datasets import data_errors, reading, update_by_images
from unlearn_bench.data.images import (
    Dataset,
    Images,
    Part,
    SealedPart,
    StreamedImages,
    TensorImages,
)
from unlearn_bench.data.sources import RawPart

# Of streamed images so many, evenly spaced, stand for all: to decode each would take too long.
COMPARED = 4096
# Two datasets may share a blank image or two.
SHARED = 0.01
BATCH = 1024
# How Pillow makes grey of red, green and blue: ITU-R 601-2, of 65536 parts.
LUMA = (19595, 38470, 7471)


@dataclass(frozen=True)
class SurrogateData:
    """Images that methods may be handed in place of data of the suite's own.

    Attributes:
        name: As the user gave it.
        images: Prepared as the suite's own.
        digest: Of their content and shape.
        own: Name of the suite's dataset.
        known: Digests of its images; of streamed ones, of a sample.
        share: Of its images that ``known`` covers.
        notes: What the user should know of how the files were read.
    """

    name: str
    images: Images
    digest: str
    own: str
    known: frozenset[bytes]
    share: float
    notes: tuple[str, ...] = ()

    def draw(self, count: int, seed: int) -> Tensor:
        """Return ``count`` images without those of the suite's own, uint8 [M, C, H, W].

        Raises:
            DataError: If there are fewer, or too many are the suite's own.
        """
        there = len(self.images)
        if count > there:
            raise DataError(
                f"surrogate_data: {self.name} has {there:,} training images, and {count:,} are "
                f"asked for; set the method's parameter surrogates to {there} or less, or name a "
                "larger dataset"
            )
        order = torch.randperm(there, generator=torch.Generator().manual_seed(seed))
        drawn = self.images.fetch(order[:count]).cpu()
        ours = torch.tensor([digest in self.known for digest in _digests(drawn)])
        found = int(ours.sum())
        if found > SHARED * self.share * count:
            raise DataError(
                f"surrogate_data: {found:,} of {count:,} images of {self.name} are images of "
                f"{self.own}, the suite's own dataset, and would be access to retained data; name "
                "another dataset"
            )
        return drawn[~ours]

    def facts(self, count: int) -> dict[str, Any]:
        """Return what a record says of ``count`` images that a method was handed."""
        return {"name": self.name, "images": count, "digest": self.digest}


def load_surrogates(
    name: str,
    like: Dataset,
    *,
    root: Path | None = None,
    download: bool = False,
    skip_corrupt: bool = False,
) -> SurrogateData:
    """Load the training images of a dataset, to stand in for those of another.

    Args:
        name: As of :func:`~unlearn_bench.data.datasets.load`, as are the other arguments.
        like: The suite's own dataset, whose size and channels they get.
        root: Folder of datasets.
        download: Whether to get missing files.
        skip_corrupt: Whether to leave out images that cannot be decoded.

    Raises:
        UserError: If there is no such dataset, or its images cannot be used.
    """
    try:
        with data_errors():
            read = reading(name, root, download)
            raw = without_corrupt(read()) if skip_corrupt else read()
            images, notes = _like(raw.train, like)
            digest = hashlib.sha256(str(images.shape).encode())
            update_by_images(digest, raw.train)
    except UserError as error:
        raise type(error)(f"surrogate_data: {error}") from error
    return surrogates_of(name, images, digest.hexdigest(), like, (*raw.notes, *notes))


def surrogates_of(
    name: str, images: Images, digest: str, like: Dataset, notes: tuple[str, ...] = ()
) -> SurrogateData:
    """Return prepared images as surrogates for those of ``like``."""
    parts = [part for part in (like.train, like.test) if not isinstance(part, SealedPart)]
    known: set[bytes] = set()
    covered = 0
    for part in parts:
        for some in _compared(part):
            known.update(_digests(some))
            covered += len(some)
    share = covered / sum(len(part.labels) for part in parts)
    return SurrogateData(name, images, digest, like.name, frozenset(known), share, notes)


def _like(part: RawPart, like: Dataset) -> tuple[Images, tuple[str, ...]]:
    """Return images with the size and channels of a dataset's, and what to say of it."""
    images, shape = part.images, like.train.images.shape
    if not len(images):
        raise DataError("its training part has no images")
    if not isinstance(images, TensorImages):
        found = encoded.survey([images], max(shape[1:]))
        decode = encoded.decoder(images, shape, resized=True, pixels=found.pixels)
        return StreamedImages(decode, len(images), shape), found.notes
    pixels = images.data
    if {len(pixels[0]), shape[0]} - {1, 3} and len(pixels[0]) != shape[0]:
        raise DataError(
            f"its images have {len(pixels[0])} channels, those of {like.name} {shape[0]}; only "
            "grey and colour are turned into each other"
        )
    return StreamedImages(
        lambda i: with_channels(pixels[i], shape[0]), len(images), shape, threads=1
    ), ()


def with_channels(image: Tensor, channels: int) -> Tensor:
    """Return an image, uint8 [c, h, w], as grey or colour."""
    if len(image) == channels:
        return image
    if channels == 3:
        return image.expand(3, -1, -1)
    weights = torch.tensor(LUMA, dtype=torch.int32).view(3, 1, 1)
    luma = (image.to(torch.int32) * weights).sum(0, keepdim=True) + (1 << 15)
    return (luma >> 16).to(torch.uint8)


def _compared(part: Part) -> Iterator[Tensor]:
    count = len(part.labels)
    step = 1 if isinstance(part.images, TensorImages) else -(-count // COMPARED)
    for some in torch.arange(0, count, step).split(BATCH):
        yield part.images.fetch(some).cpu()


def _digests(images: Tensor) -> Iterator[bytes]:
    for image in images.contiguous():
        yield hashlib.blake2b(image.numpy().data, digest_size=16).digest()
