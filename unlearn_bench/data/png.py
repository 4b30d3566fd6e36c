"""Which PNG files torchvision may decode: those that cannot fail there.

At the first error in a file, torchvision 0.26's decoder ends the process with a segmentation
fault. So only what consists of a header, sound pixels and an end is given to it; anything else
takes Pillow's way, which is slower and raises.
"""

import struct
import zlib

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH, PNG_COLOUR = 24, 25  # places of these bytes in a PNG file
_CHANNELS = {0: 1, 2: 3}
_FILTERS = 5


def png_byte(content: bytes, place: int) -> int:
    """Return a byte of a PNG file's header, -1 for other files."""
    return content[place] if content.startswith(PNG_START) and len(content) > place else -1


def has_alpha(content: bytes) -> bool:
    """Whether a file is a PNG with a channel of transparency."""
    return png_byte(content, PNG_COLOUR) in (4, 6)


def is_sound(content: bytes) -> bool:
    """Whether a file is a grey or RGB image of 8 or 16 bits without a fault or an extra."""
    if not content.startswith(PNG_START + b"\x00\x00\x00\x0dIHDR"):
        return False
    width, height, depth, colour, compression, filters, interlaced = struct.unpack_from(
        ">2L5B", content, 16
    )
    plain = depth in (8, 16) and colour in _CHANNELS and width and height
    packed = _packed(content)
    if not plain or compression or filters or interlaced or packed is None:
        return False
    line = 1 + width * _CHANNELS[colour] * depth // 8
    try:
        stream = zlib.decompressobj()
        pixels = stream.decompress(packed, height * line + 1)
    except zlib.error:
        return False
    whole = len(pixels) == height * line and stream.eof and not stream.unused_data
    return whole and max(pixels[::line]) < _FILTERS


def _packed(content: bytes) -> bytes | None:
    """Return the compressed pixels of a file of header, pixels and end whose checksums hold."""
    place, kinds, parts = len(PNG_START), [], []
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">L", content, place)
        end = place + 8 + length
        body = content[place + 4 : end]
        if end + 4 > len(content) or zlib.crc32(body) != int.from_bytes(content[end : end + 4]):
            return None
        kinds.append(body[:4])
        parts.append(body[4:])
        place = end + 4
    known = [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"]
    return b"".join(parts[1:-1]) if kinds == known and place == len(content) else None
