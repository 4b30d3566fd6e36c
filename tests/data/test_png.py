"""Damaged PNG files are errors, and never reach a decoder that they end the process in."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from unlearn_bench.data.decoding import UNREADABLE, decode_image
from unlearn_bench.data.png import PNG_START, is_sound


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: bytes, *, depth: int = 8, colour: int = 2, more: bytes = b"") -> bytes:
    """Return a file of 4x4 pixels whose checksums hold, whatever its rows are."""
    head = chunk(b"IHDR", struct.pack(">2L5B", 4, 4, depth, colour, 0, 0, 0))
    return PNG_START + head + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


WHOLE = b"".join(bytes([0, *range(12)]) for _ in range(4))


def is_decoded(content: bytes) -> bool:
    """Decode a file, or say that it is refused; the old way ended the whole process here."""
    try:
        return decode_image(content, 3).shape[0] == 3
    except UNREADABLE:
        return False


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "LA"])
def test_what_is_written_is_decoded(mode: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).convert(mode).save(
        stream, "PNG"
    )
    assert is_sound(stream.getvalue()) == (mode in ("RGB", "L"))
    assert is_decoded(stream.getvalue())


def test_forged_files_are_refused_or_decoded_and_end_nothing() -> None:
    assert is_sound(png(WHOLE)) and is_decoded(png(WHOLE))
    bad_filter = b"".join(bytes([77, *range(12)]) for _ in range(4))
    for content in (
        png(bad_filter),
        png(WHOLE[:-1]),
        png(WHOLE + b"x"),
        png(WHOLE, depth=16),
        png(WHOLE, more=chunk(b"PLTE", b"xx")),
        png(WHOLE)[:-5],
        png(WHOLE).replace(b"IDAT", b"IDAX"),
    ):
        assert not is_sound(content)
        is_decoded(content)


def test_a_changed_byte_anywhere_ends_nothing() -> None:
    whole = png(WHOLE)
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0x55
        assert not is_sound(bytes(changed)), place  # the checksum of a chunk covers every byte
        is_decoded(bytes(changed))
