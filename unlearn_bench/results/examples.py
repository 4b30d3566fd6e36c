"""Examples of what a scenario changed in the training data, as ``suite.json`` keeps them.

A handful of small pictures with the labels before and after: what a reader must see to believe it.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# How many are kept of a scenario, and their longest side in pixels.
SHOWN, SIDE = 8, 32


@dataclass(frozen=True)
class Example:
    """One changed training example.

    Attributes:
        before: Name of its class in the files.
        after: Name of the class that it was trained as.
        shape: Channels (1 or 3), height and width.
        pixels: One byte each, in that order.
    """

    before: str
    after: str
    shape: tuple[int, int, int]
    pixels: bytes

    def stored(self) -> dict[str, Any]:
        """Return it as JSON values."""
        pixels = base64.b64encode(self.pixels).decode()
        return {
            "before": self.before,
            "after": self.after,
            "shape": list(self.shape),
            "pixels": pixels,
        }


Examples = Mapping[tuple[str, str], Sequence[Example]]


def read_examples(stored: Any) -> dict[tuple[str, str], tuple[Example, ...]]:
    """Return examples by dataset and scenario; what is damaged or of another form is left out."""
    found: dict[tuple[str, str], tuple[Example, ...]] = {}
    for entry in stored if isinstance(stored, list) else ():
        try:
            place = str(entry["dataset"]), str(entry["scenario"])
            found[place] = tuple(map(_read, entry["examples"][:SHOWN]))
        except (KeyError, TypeError, ValueError, binascii.Error):
            continue
    return found


def _read(stored: Mapping[str, Any]) -> Example:
    channels, height, width = (int(size) for size in stored["shape"])
    pixels = base64.b64decode(stored["pixels"], validate=True)
    if channels not in (1, 3) or not (0 < height <= SIDE and 0 < width <= SIDE):
        raise ValueError("no small picture")
    if len(pixels) != channels * height * width:
        raise ValueError("not as many pixels as the shape says")
    return Example(str(stored["before"]), str(stored["after"]), (channels, height, width), pixels)
