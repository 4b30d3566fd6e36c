"""Encoded images (JPEG, PNG, ...) as they lie in files, before they have a common size.

A source hands over an :class:`Encoded`: something that gives the bytes of image i. From that
this module finds out the shape of the set and decodes single images. JPEG and PNG go through
torchvision's decoders where it has them, anything else goes through Pillow.
"""

import functools
import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError
from unlearn_bench.data.images import Decode, Shape

JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
GREY_MODES = {"1", "L", "LA", "I", "I;16", "F"}
SAMPLED_HEADERS = 64
# What torchvision's decoders and Pillow raise for bytes that are no whole image.
UNREADABLE = (RuntimeError, OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error)


class Encoded(Protocol):
    """The images of one part in encoded form.

    Attributes:
        base: Folder that :attr:`files` are named relative to.
        files: Every file that holds the images, in order.
    """

    base: Path
    files: Sequence[Path]

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Return the encoded image at ``index``; safe to call from several threads."""

    def where(self, index: int) -> str:
        """Say where the image at ``index`` lies, for error messages."""


class EncodedFiles:
    """One file per image."""

    def __init__(self, base: Path, files: Sequence[Path]) -> None:
        """Name the ``files``, all below ``base``."""
        self.base, self.files = base, files

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> bytes:
        """Return the bytes of one file.

        Raises:
            DataError: If the file cannot be read.
        """
        try:
            return self.files[index].read_bytes()
        except OSError as error:
            raise DataError(f"cannot read image {self.files[index]}: {error.strerror}") from error

    def where(self, index: int) -> str:
        """Return the file's path."""
        return str(self.files[index])


def survey(parts: Sequence[Encoded], image_size: int | None) -> Shape:
    """Find the shape that the images of all ``parts`` will have.

    Only headers are read, of up to 64 images per part, evenly spaced; a colour image among
    grey ones would be lost unnoticed, so a set that seems grey is read whole.

    Raises:
        DataError: If an image has no readable header, or sizes differ and no ``image_size``
            says what to make of them.
    """
    headers = [_header(part, i) for part in parts for i in _spread(len(part), SAMPLED_HEADERS)]
    grey = all(mode in GREY_MODES for mode, _, _ in headers) and all(
        _header(part, i)[0] in GREY_MODES for part in parts for i in range(len(part))
    )
    channels = 1 if grey else 3
    if image_size is not None:
        return channels, image_size, image_size
    sizes = sorted({(height, width) for _, height, width in headers})
    if len(sizes) > 1:
        (h0, w0), (h1, w1) = sizes[0], sizes[-1]
        raise DataError(
            f"images in {parts[0].base} have different sizes, from {h0}x{w0} to {h1}x{w1} pixels; "
            "give an image size to bring them to one"
        )
    return channels, *sizes[0]


def header_shape(encoded: Encoded) -> Shape:
    """Return channels, height and width of the first image, from its header."""
    mode, height, width = _header(encoded, 0)
    return 1 if mode in GREY_MODES else 3, height, width


def decoder(encoded: Encoded, shape: Shape, *, resized: bool) -> Decode:
    """Return the function that decodes image i of ``encoded`` to uint8 [C, h, w].

    Args:
        encoded: Where the images come from.
        shape: What :func:`survey` found.
        resized: Whether images are resized afterwards; if not, each must have ``shape``.

    Raises (when called):
        DataError: If the image is damaged or of another size; the message says which.
    """

    def decode(index: int) -> Tensor:
        try:
            image = decode_image(encoded.read(index), shape[0])
        except UNREADABLE as error:
            raise DataError(
                f"cannot decode image {encoded.where(index)}: {_first_line(error)}; "
                "it is truncated or damaged, replace or remove it"
            ) from error
        if not resized and tuple(image.shape) != shape:
            height, width = image.shape[1:]
            raise DataError(
                f"image {encoded.where(index)} has {height}x{width} pixels, others "
                f"{shape[1]}x{shape[2]}; give an image size to bring them to one"
            )
        return image

    return decode


def decode_image(content: bytes, channels: int) -> Tensor:
    """Decode one image.

    Args:
        content: An encoded image, JPEG, PNG or any other format that Pillow knows.
        channels: 1 to make it grey, 3 to make it RGB; transparency is dropped.

    Returns:
        uint8 [channels, h, w]; pixels of 16 bits are cut to their upper 8.
    """
    for start, decode in _fast_decoders().items():
        if content.startswith(start):
            image = decode(torch.frombuffer(bytearray(content), dtype=torch.uint8), channels)
            return image if image.dtype == torch.uint8 else _upper_bits(image.numpy())
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        if picture.mode.startswith("I"):  # convert() would clip instead of scale
            image = _upper_bits(np.array(picture))[None]
            return image.expand(channels, -1, -1)
        pixels = np.array(picture.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)


@functools.cache
def _fast_decoders() -> dict[bytes, Callable[[Tensor, int], Tensor]]:
    """Return torchvision's decoders, by the bytes with which their format starts."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg, decode_png
    except ImportError:
        # torchvision 0.29 announces their removal. Pillow does without them, but takes three
        # times as long for images of 32x32 pixels.
        return {}
    modes = {1: ImageReadMode.GRAY, 3: ImageReadMode.RGB}
    return {
        JPEG_START: lambda data, channels: decode_jpeg(data, modes[channels]),
        PNG_START: lambda data, channels: decode_png(data, modes[channels]),
    }


def _upper_bits(pixels: np.ndarray) -> Tensor:
    """Cut pixels of 16 bits to uint8."""
    return torch.from_numpy((pixels >> 8).astype(np.uint8))


def _header(encoded: Encoded, index: int) -> tuple[str, int, int]:
    """Return Pillow's mode, the height and the width of one image without decoding it."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded.read(index))) as picture:
            return picture.mode, picture.height, picture.width
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise DataError(
            f"{encoded.where(index)} is no image that can be read; replace or remove it"
        ) from error


def _spread(length: int, count: int) -> range:
    """At most ``count`` evenly spaced indices below ``length``."""
    return range(0, length, max(1, -(-length // count)))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
