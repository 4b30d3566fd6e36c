"""The types of the data path: images of one part, a part, a dataset.

Images are uint8 until the batch that uses them. Most benchmark sets fit in memory whole and
are one tensor (:class:`TensorImages`), which can also live on the accelerator; those that do
not fit are decoded image by image when asked for (:class:`StreamedImages`).
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from unlearn_bench.core.blindness import refusal
from unlearn_bench.core.errors import AccessError
from unlearn_bench.core.fence import crossing
from unlearn_bench.core.memory import available_memory
from unlearn_bench.data.attributes import NO_ATTRIBUTES, Attributes

Shape = tuple[int, int, int]  # channels, height, width
Decode = Callable[[int], Tensor]  # index -> uint8 [C, h, w]

# Half of what is free: training, the model copies and the loader of the next set need the rest.
MEMORY_SHARE = 0.5
SMALL_COPY = 64 << 20  # bytes that are copied without a look at what is free
NOT_HANDED_OUT = "an image was read that is in none of the splits that the method declares"
CONSTANTS_FROM = {
    "given": "as given",
    "usual": "usual for this dataset",
    "measured": "measured on the training images",
}
MAX_THREADS = min(8, os.cpu_count() or 1)


class Images(Protocol):
    """The images of one part, uint8, all of one shape."""

    @property
    def shape(self) -> Shape:
        """Channels, height and width of every image."""

    def __len__(self) -> int: ...

    def fetch(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` (int64 [B], any device) as uint8 [B, C, H, W]."""

    def only(self, members: Tensor) -> "Images":
        """Return the images at ``members`` (int64 [M]) under the same indices, and no others."""

    def rearranged(
        self, places: Tensor, changed: Tensor, change: Callable[[Tensor], Tensor]
    ) -> "Images":
        """Return the images at ``places``, some of them changed.

        Args:
            places: int64 [N]; an image may be there more than once.
            changed: int64 [K], which of the N are changed.
            change: Gives changed images, uint8 [B, C, H, W], from those that there are.
        """


class TensorImages:
    """Images held as one tensor, in main memory or on an accelerator."""

    def __init__(self, data: Tensor) -> None:
        """Wrap ``data``, [N, C, H, W]: uint8, or pixels of 0 to 255 that need not be whole."""
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    @property
    def shape(self) -> Shape:
        """Channels, height and width of every image."""
        _, channels, height, width = self.data.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the tensor lives."""
        return self.data.device

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.data.nbytes

    def fetch(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` as uint8 [B, C, H, W], on the tensor's device."""
        return self.data.index_select(0, indices.to(self.device))

    def to(self, device: torch.device) -> "TensorImages":
        """Return the same images with the whole tensor moved to ``device`` once."""
        return TensorImages(self.data.to(device))

    def only(self, members: Tensor) -> "TensorImages":
        """Return the images at ``members`` (int64 [M]) under the same indices, and no others.

        They are copied where memory holds that; else the tensor is shared, and guarded.
        """
        share = self.nbytes * len(members) // max(1, len(self))
        if not _has_room(share, self.device):
            places = _places(members, members, len(self))
            return HandedOut(self.data, places.to(self.device))
        places = _places(members, torch.arange(len(members)), len(self))
        return HandedOut(self.fetch(members), places.to(self.device))

    def rearranged(
        self, places: Tensor, changed: Tensor, change: Callable[[Tensor], Tensor]
    ) -> "TensorImages":
        """Return the images at ``places``, those at ``changed`` of them changed, as a copy."""
        data, changed = self.fetch(places), changed.to(self.device)
        data[changed] = change(data[changed])
        return TensorImages(data)


class HandedOut(TensorImages):
    """Some of a dataset's images, under the indices that they have there.

    Args:
        data: uint8 [M, C, H, W].
        places: int64 [N], for each index of the dataset the row of ``data``, -1 where the image
            was not handed out.
    """

    def __init__(self, data: Tensor, places: Tensor) -> None:
        super().__init__(data)
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def fetch(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` as uint8 [B, C, H, W], on the tensor's device.

        Raises:
            AccessError: If one was not handed out; a GPU gives the first that was.
        """
        rows = self.places[indices.to(self.device)]
        if self.device.type != "cpu":  # to ask would be to wait; another image does no harm
            return self.data.index_select(0, rows.clamp(min=0))
        if (rows < 0).any():
            raise AccessError(NOT_HANDED_OUT)
        return self.data.index_select(0, rows)


class StreamedImages:
    """Images decoded when asked for, by a few threads, and fitted to one size."""

    def __init__(
        self, decode: Decode, length: int, shape: Shape, *, threads: int | None = None
    ) -> None:
        """Remember how to decode one image; nothing is read yet.

        Args:
            decode: Gives the image at an index as uint8 [C, h, w]; called from several threads.
            length: Number of images.
            shape: Channels, height and width of what :meth:`fetch` returns.
            threads: How many decode at once, by default one per core up to eight. Images of
                a few hundred bytes are decoded faster by one: most of the time goes into Python.
        """
        self._decode, self._length, self._shape = decode, length, shape
        self._threads = threads or MAX_THREADS

    def __len__(self) -> int:
        return self._length

    @property
    def shape(self) -> Shape:
        """Channels, height and width of every image."""
        return self._shape

    @property
    def nbytes(self) -> int:
        """Bytes that the decoded images would take in memory."""
        channels, height, width = self._shape
        return len(self) * channels * height * width

    def fetch(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` as uint8 [B, C, H, W] in main memory.

        Raises:
            DataError: If an image cannot be decoded; the message names its file.
        """
        images = torch.empty((len(indices), *self._shape), dtype=torch.uint8)
        # Neighbours in the file are read together: a Parquet row group is then opened once.
        wanted = sorted((index, place) for place, index in enumerate(indices.tolist()))
        share = -(-len(wanted) // self._threads) or 1

        def decode_some(start: int) -> None:
            with crossing():  # a method that reads its split may have the files opened
                for index, place in wanted[start : start + share]:
                    images[place] = resize(self._decode(index), self._shape[1:])

        starts = range(0, len(wanted), share)
        run = map if self._threads == 1 else _pool(os.getpid()).map
        for _ in run(decode_some, starts):  # brings up what a thread raised
            pass
        return images

    def only(self, members: Tensor) -> "StreamedImages":
        """Return the images at ``members`` (int64 [M]) under the same indices, and no others."""
        allowed, decode = frozenset(members.tolist()), self._decode

        def decode_allowed(index: int) -> Tensor:
            if index not in allowed:
                raise AccessError(NOT_HANDED_OUT)
            return decode(index)

        return StreamedImages(decode_allowed, len(self), self._shape, threads=self._threads)

    def rearranged(
        self, places: Tensor, changed: Tensor, change: Callable[[Tensor], Tensor]
    ) -> "StreamedImages":
        """Return the images at ``places``, those at ``changed`` of them changed when decoded."""
        decode, size, order = self._decode, self._shape[1:], places.tolist()
        marked = frozenset(changed.tolist())

        def decode_changed(index: int) -> Tensor:
            image = resize(decode(order[index]), size)
            return change(image[None])[0] if index in marked else image

        return StreamedImages(decode_changed, len(order), self._shape, threads=self._threads)

    def in_memory(self) -> TensorImages:
        """Decode every image now."""
        return TensorImages(self.fetch(torch.arange(len(self))))


def _places(members: Tensor, rows: Tensor, count: int) -> Tensor:
    places = torch.full((count,), -1, dtype=torch.long)
    places[members] = rows
    return places


def _has_room(nbytes: int, device: torch.device) -> bool:
    """Whether a copy of ``nbytes`` leaves a device as much again for work."""
    if nbytes <= SMALL_COPY:
        return True
    if device.type == "cuda":
        return nbytes <= MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
    return fits_in_memory(nbytes)


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    # One pool per process id: threads do not survive a fork, a remembered pool would hang.
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=f"decode-{process}")


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring an image to ``size``: scale until it covers it, then cut out the centre.

    For a square ``size`` this is the usual "shortest side, then centre crop". Scaling is
    bilinear and antialiased. An image of the right size comes back untouched.

    Args:
        image: uint8 [C, h, w] in main memory.
        size: Height and width wanted, in pixels.

    Returns:
        uint8 [C, *size].
    """
    height, width = image.shape[1:]
    if (height, width) == size:
        return image
    # Whole numbers throughout: a float scale can fall a rounding error short of `size`.
    if size[0] * width >= size[1] * height:
        scaled = size[0], width * size[0] // height
    else:
        scaled = height * size[1] // width, size[1]
    large = functional.interpolate(
        image[None], scaled, mode="bilinear", align_corners=False, antialias=True
    )[0]
    top, left = round((scaled[0] - size[0]) / 2), round((scaled[1] - size[1]) / 2)
    return large[:, top : top + size[0], left : left + size[1]]


def fits_in_memory(nbytes: int) -> bool:
    """Whether ``nbytes`` of images may be held: at most half of the available memory."""
    return nbytes <= MEMORY_SHARE * available_memory()


@dataclass(frozen=True)
class Part:
    """Images with their labels.

    Attributes:
        images: N images of one shape.
        labels: int64 [N], in main memory.
        numbers: int64 [N], by which the user names the images, ascending; None where that is
            their place. Where a test part was held out, the names count what is in it as well.
    """

    images: Images
    labels: Tensor
    numbers: Tensor | None = None


class SealedPart(Part):
    """The test part while something is tuned: to read it is an error."""

    def __init__(self) -> None:
        """Hold nothing."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("images", "labels", "numbers"):
            raise refusal("the test part")
        return super().__getattribute__(name)


@dataclass(frozen=True)
class Dataset:
    """A training and a test part with what is needed to use them.

    Attributes:
        name: As the user wrote it, such as ``"cifar10"`` or ``"parquet:flowers"``.
        train: What models learn, and are asked to forget, from.
        test: What they never see.
        classes: Name of each class, in the order of the labels.
        mean: Per channel, of pixels scaled to [0, 1].
        std: Per channel, likewise.
        fingerprint: Hex digest of the content; equal digests mean equal data.
        constants: Where ``mean`` and ``std`` come from: ``given``, ``usual`` in the literature,
            or ``measured`` on the training images.
        notes: What the user should know of how the files were read, one line each.
        attributes: What is known of the examples beside their class.
        counted: What indices count, in words, where that may be another order than expected.
    """

    name: str
    train: Part
    test: Part
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    constants: str = "measured"
    notes: tuple[str, ...] = ()
    attributes: Attributes = NO_ATTRIBUTES
    counted: str = ""

    def sealed(self) -> "Dataset":
        """Return the same dataset with a test part that nobody can read."""
        return replace(self, test=SealedPart(), attributes=self.attributes.sealed())

    def only(self, members: Tensor) -> "Dataset":
        """Return no more than the training examples at ``members``, under the same indices.

        Args:
            members: int64 [M]; labels of others read -1, and there is no test part.
        """
        labels = torch.full_like(self.train.labels, -1)
        labels[members] = self.train.labels[members]
        train = Part(self.train.images.only(members), labels)
        nothing = Part(train.images, labels[:0])
        return replace(
            self, train=train, test=nothing, fingerprint="", notes=(), attributes=NO_ATTRIBUTES
        )

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.train.images.shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train.images.shape[1:]

    @property
    def normalization(self) -> str:
        """How pixels become inputs, in words."""
        mean, std = (
            ", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std)
        )
        return f"(x/255 - ({mean})) / ({std}), {CONSTANTS_FROM[self.constants]}"

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each occurs in both parts."""
        return len(self.classes)
