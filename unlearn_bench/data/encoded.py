"""Encoded images (JPEG, PNG, ...) as they lie in files, before they have a common size.

A source hands over an :class:`Encoded`: something that gives the bytes of image i. From that
this module finds out the shape of the set and decodes single images. JPEG and PNG go through
torchvision's decoders where it has them, anything else goes through Pillow.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from unlearn_bench.core.errors import DataError, RefusedError, one_line
from unlearn_bench.core.reading import MIB, read_bytes
from unlearn_bench.data.decoding import (
    DEEP_MODES,
    EIGHT_BITS,
    JPEG_START,
    UNREADABLE,
    PixelRange,
    as_tensor,
    check_declared,
    declared_size,
    decode_image,
    fast_decoders,
    opened_image,
)
from unlearn_bench.data.images import Decode, Shape
from unlearn_bench.data.png import PNG_COLOUR, PNG_DEPTH, PNG_START, is_sound, png_byte

GREY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B", "F"}
SAMPLED_HEADERS = 64
SAMPLED_RANGES = 4096  # deep images whose smallest and largest pixel are looked at
IMAGE_BYTES = 512 * MIB
ORIENTATION = 274  # the EXIF tag


class Encoded(Protocol):
    """The images of one part in encoded form.

    Attributes:
        base: Folder that :attr:`files` are named relative to.
        files: Every file that holds the images, in order.
        digest: What the dataset's fingerprint must cover beside the content of the files.
    """

    base: Path
    files: Sequence[Path]
    digest: bytes

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Return the encoded image at ``index``; safe to call from several threads."""

    def where(self, index: int) -> str:
        """Say where the image at ``index`` lies, for error messages."""

    def names(self) -> Sequence[str]:
        """Return the name of every image's file below :attr:`base`; "" where it has none."""


class EncodedFiles:
    """One file per image."""

    def __init__(self, base: Path, files: Sequence[Path]) -> None:
        """Name the ``files``, all below ``base``."""
        self.base, self.files, self.digest = base, files, b""

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> bytes:
        """Return the bytes of one file.

        Raises:
            DataError: If the file cannot be read.
        """
        try:
            return read_bytes(self.files[index], IMAGE_BYTES)
        except RefusedError as error:
            raise DataError(str(error)) from error
        except OSError as error:
            raise DataError(f"cannot read image {self.files[index]}: {error.strerror}") from error

    def where(self, index: int) -> str:
        """Return the file's path."""
        return str(self.files[index])

    def names(self) -> list[str]:
        """Return every file's path below the base."""
        return [path.relative_to(self.base).as_posix() for path in self.files]


class Header(NamedTuple):
    """What an image says of itself: Pillow's mode, pixels, bits a channel, and how it lies."""

    mode: str
    height: int
    width: int
    bits: int = 8
    turned: bool = False

    @property
    def is_deep(self) -> bool:
        """Whether its pixels have more than 8 bits."""
        return self.mode in DEEP_MODES or self.bits > 8


@dataclass(frozen=True)
class Survey:
    """What all images of a dataset have in common.

    Attributes:
        shape: Channels, height and width that they will have.
        pixels: The range of those with more than 8 bits.
        notes: What is converted, one line each.
    """

    shape: Shape
    pixels: PixelRange
    notes: tuple[str, ...] = ()


def survey(parts: Sequence[Encoded], image_size: int | None) -> Survey:
    """Find what the images of all ``parts`` have in common.

    Only headers are read, of up to 64 images per part, evenly spaced; a colour image among
    grey ones would be lost unnoticed, so a set that seems grey is read whole. Where images have
    more than 8 bits, the values of up to 4,096 say which range they use.

    Raises:
        DataError: If an image has no readable header, or sizes differ and no ``image_size``
            says what to make of them.
    """
    headers = [
        _header(part, i) for part in parts for i in spread_evenly(len(part), SAMPLED_HEADERS)
    ]
    grey = all(header.mode in GREY_MODES for header in headers) and all(
        _header(part, i).mode in GREY_MODES for part in parts for i in range(len(part))
    )
    channels = 1 if grey else 3
    deep = any(header.is_deep for header in headers)
    pixels = _pixel_range(parts) if deep else EIGHT_BITS
    notes = _conversions(parts[0].base, headers, pixels)
    if image_size is not None:
        return Survey((channels, image_size, image_size), pixels, notes)
    sizes = sorted({(header.height, header.width) for header in headers})
    if len(sizes) > 1:
        (h0, w0), (h1, w1) = sizes[0], sizes[-1]
        raise DataError(
            f"images in {parts[0].base} have different sizes, from {h0}x{w0} to {h1}x{w1} pixels; "
            "give an image size to bring them to one"
        )
    return Survey((channels, *sizes[0]), pixels, notes)


def _pixel_range(parts: Sequence[Encoded]) -> PixelRange:
    """Find the range of deep pixels: whole bits for whole numbers, else what there is."""
    low, high, whole = math.inf, -math.inf, True
    for part in parts:
        for index in spread_evenly(len(part), SAMPLED_RANGES):
            pixels = _deep_pixels(part, index)
            if pixels is None:
                continue
            if not np.isfinite(pixels).all():
                raise DataError(f"image {part.where(index)} holds NaN or infinity; replace it")
            low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
            whole = whole and bool((pixels == np.rint(pixels)).all())
    if low > high:
        return EIGHT_BITS
    if low >= 0 and not whole:
        return PixelRange(0, 1 if high <= 1 else 255 if high <= 255 else high)
    bits = next((bits for bits in (8, 10, 12, 14, 16, 24, 32) if high < 2**bits), 0)
    if low >= 0 and high > 1 and bits:
        return PixelRange(0, 2**bits - 1)
    return PixelRange(min(low, 0), high)


def _deep_pixels(encoded: Encoded, index: int) -> np.ndarray | None:
    """Return the values of an image with more than 8 bits, None for others."""
    content = encoded.read(index)
    try:
        deep = png_byte(content, PNG_DEPTH) == 16 and png_byte(content, PNG_COLOUR) == 2
        if deep and is_sound(content):
            fast = fast_decoders().get(PNG_START)
            check_declared(content)
            return None if fast is None else fast(as_tensor(content), 3).numpy()
        with opened_image(content) as picture:
            return np.array(picture) if picture.mode in DEEP_MODES else None
    except RefusedError as error:
        raise DataError(f"image {encoded.where(index)} {error}") from error
    except UNREADABLE as error:
        raise _undecodable(encoded, index, error) from error


def _conversions(base: Path, headers: Sequence[Header], pixels: PixelRange) -> tuple[str, ...]:
    """Say what is converted, as far as the sampled headers show it."""
    kinds = Counter(
        what
        for header in headers
        for is_so, what in (
            (
                header.is_deep,
                f"more than 8 bits: {pixels.low:g} to {pixels.high:g} become 0 to 255",
            ),
            (header.mode == "CMYK", "CMYK: become RGB"),
            ("A" in header.mode, "transparency: it is dropped, unless it holds the whole picture"),
            (header.turned, "an EXIF orientation: it is not applied"),
        )
        if is_so
    )
    return tuple(f"{base}: {n} of {len(headers)} images have {what}" for what, n in kinds.items())


def header_shape(encoded: Encoded) -> Shape:
    """Return channels, height and width of the first image, from its header."""
    header = _header(encoded, 0)
    return 1 if header.mode in GREY_MODES else 3, header.height, header.width


def decoder(
    encoded: Encoded, shape: Shape, *, resized: bool, pixels: PixelRange = EIGHT_BITS
) -> Decode:
    """Return the function that decodes image i of ``encoded`` to uint8 [C, h, w].

    Args:
        encoded: Where the images come from.
        shape: What :func:`survey` found.
        resized: Whether images are resized afterwards; if not, each must have ``shape``.
        pixels: What :func:`survey` found.

    Raises (when called):
        DataError: If the image is damaged, too large or of another size; the message says which.
    """

    def check_size(index: int, height: int, width: int) -> None:
        if not resized and (height, width) != shape[1:]:
            raise DataError(
                f"image {encoded.where(index)} has {height}x{width} pixels, others "
                f"{shape[1]}x{shape[2]}; give an image size to bring them to one"
            )

    def decode(index: int) -> Tensor:
        content = encoded.read(index)
        try:
            # Before it is decoded: a few bytes may declare any number of pixels.
            if declared := declared_size(content):
                check_size(index, *declared)
            image = decode_image(content, shape[0], pixels)
        except RefusedError as error:
            raise DataError(f"image {encoded.where(index)} {error}") from error
        except UNREADABLE as error:
            raise _undecodable(encoded, index, error) from error
        check_size(index, *image.shape[1:])
        return image

    return decode


def _undecodable(encoded: Encoded, index: int, error: Exception) -> DataError:
    reason = one_line(str(error)).rstrip(".") or type(error).__name__
    return DataError(
        f"cannot decode image {encoded.where(index)}: {reason}; it is truncated or damaged, "
        "replace or remove it"
    )


def _header(encoded: Encoded, index: int) -> Header:
    """Return what one image says of itself, without decoding it."""
    content = encoded.read(index)
    try:
        with opened_image(content) as picture:
            bits = 16 if png_byte(content, PNG_DEPTH) == 16 else 8
            # Of others Pillow would decode the pixels to get at it.
            jpeg = content.startswith(JPEG_START)
            turned = jpeg and picture.getexif().get(ORIENTATION, 1) not in (0, 1)
            return Header(picture.mode, picture.height, picture.width, bits, turned)
    except RefusedError as error:
        raise DataError(f"image {encoded.where(index)} {error}") from error
    except UNREADABLE as error:
        raise DataError(
            f"{encoded.where(index)} cannot be read as an image; replace or remove it"
        ) from error


def spread_evenly(length: int, count: int) -> range:
    """At most ``count`` evenly spaced indices below ``length``."""
    return range(0, length, max(1, -(-length // count)))
