"""One encoded image becomes pixels: by torchvision's decoders where it has them, else by Pillow."""

import functools
import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unlearn_bench.core.errors import RefusedError
from unlearn_bench.data.png import PNG_COLOUR, PNG_DEPTH, PNG_START, has_alpha, is_sound, png_byte

if TYPE_CHECKING:
    from PIL import Image

JPEG_START = b"\xff\xd8\xff"
DEEP_MODES = {"I", "I;16", "I;16B", "F"}  # with more than 8 bits a pixel
MAX_PIXELS = 50_000_000
# Pillow knows more, among them one that hands the file to Ghostscript (EPS).
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "GIF", "PPM", "TIFF", "AVIF")
# What torchvision's decoders and Pillow raise for bytes that are no whole image.
UNREADABLE = (RuntimeError, OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error)


@dataclass(frozen=True)
class PixelRange:
    """Between which values the deep pixels of a dataset lie; they are brought to 0 to 255.

    Attributes:
        low: The value that becomes 0.
        high: The value that becomes 255.
    """

    low: float = 0
    high: float = 65535

    def to_bytes(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels as uint8: those outside of the range are cut off, none wraps around."""
        if self.low == 0 and pixels.dtype.kind in "iu" and math.log2(self.high + 1).is_integer():
            shift = max(0, int(math.log2(self.high + 1)) - 8)
            scaled = pixels.astype(np.int64) >> shift
        else:
            scaled = np.rint((pixels.astype(np.float64) - self.low) * self._scale)
        found: np.ndarray = np.clip(scaled, 0, 255).astype(np.uint8)
        return found

    @property
    def _scale(self) -> float:
        return 255 / ((self.high - self.low) or 1)


EIGHT_BITS = PixelRange()


def decode_image(content: bytes, channels: int, pixels: PixelRange = EIGHT_BITS) -> Tensor:
    """Decode one image.

    Args:
        content: An encoded image, of one of :data:`FORMATS`.
        channels: 1 to make it grey, 3 to make it RGB; transparency is dropped, unless it holds
            the whole picture.
        pixels: What becomes 0 and 255 where pixels have more than 8 bits.

    Returns:
        uint8 [channels, h, w].

    Raises:
        RefusedError: If it declares more than :data:`MAX_PIXELS`.
    """
    check_declared(content)
    grey16 = png_byte(content, PNG_DEPTH) == 16 and png_byte(content, PNG_COLOUR) == 0
    if not grey16 and not has_alpha(content):
        for start, decode in fast_decoders().items():
            if content.startswith(start) and (start != PNG_START or is_sound(content)):
                image = decode(as_tensor(content), channels)
                if image.dtype == torch.uint8:
                    return image
                return torch.from_numpy(pixels.to_bytes(image.numpy()))
    with opened_image(content) as picture:
        if picture.mode in DEEP_MODES:  # convert() would clip instead of scale
            image = torch.from_numpy(pixels.to_bytes(np.array(picture)))[None]
            return image.expand(channels, -1, -1)
        found = np.array(_opaque(picture).convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(found.reshape(*found.shape[:2], channels)).permute(2, 0, 1)


def _opaque(picture: "Image.Image") -> "Image.Image":
    """Return the picture without transparency: its colours, or that alone where they are one."""
    if picture.mode in ("LA", "RGBA"):
        *colours, alpha = picture.split()
        plain = all(band.getextrema()[0] == band.getextrema()[1] for band in colours)
        if plain and alpha.getextrema()[0] != alpha.getextrema()[1]:
            return alpha
    return picture


def opened_image(content: bytes) -> "Image.Image":
    """Open an image with Pillow, its pixels not yet decoded.

    Raises:
        RefusedError: If it declares more than :data:`MAX_PIXELS`.
    """
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(content), formats=_formats())
    except Image.DecompressionBombError as error:
        raise RefusedError(f"has too many pixels; at most {MAX_PIXELS:,} are read") from error
    _check_pixels(picture.height, picture.width)
    return picture


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """Return the endings of image files that can be read here, such as ``.jpg``."""
    from PIL import Image

    formats = _formats()
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats)


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise RefusedError(f"has {height}x{width} pixels; at most {MAX_PIXELS:,} are read")


def check_declared(content: bytes) -> None:
    """Refuse an image that declares more than :data:`MAX_PIXELS`, before any is decoded."""
    if declared := declared_size(content):
        _check_pixels(*declared)


def declared_size(content: bytes) -> tuple[int, int] | None:
    """Return the height and width that a PNG or JPEG file declares, None for others.

    By hand: opening every file with Pillow takes longer than decoding small ones.
    """
    if content.startswith(PNG_START) and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    if not content.startswith(JPEG_START):
        return None
    place = 2
    while place + 9 <= len(content) and content[place] == 0xFF:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == 0xFF:  # fill byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[place + 5 : place + 9])
            return height, width
        else:
            place += 2 + length
    return None


def as_tensor(content: bytes) -> Tensor:
    """Return bytes as torchvision's decoders take them, uint8 [length]."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


@functools.cache
def fast_decoders() -> dict[bytes, Callable[[Tensor, int], Tensor]]:
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
