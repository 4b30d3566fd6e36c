"""Put labels beside their points so that none overlaps another, a mark or the edge.

Every label tries places around its point, nearest first, and takes the first that is free.
Greedy and deterministic: points are served from the top of the figure downwards.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Directions in the order of preference: right, left, above, below, then the diagonals.
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225)
# Gap between point and label, in points.
_GAPS = (7, 12, 20, 30, 42, 56, 72, 90, 110, 130)
# From this gap on a line ties the label to its point.
_LINE_FROM = 20
# Half the width of a mark, in points.
_MARK = 6.0

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """A word that belongs to a point in data coordinates."""

    text: str
    x: float
    y: float
    bold: bool = False


def place_labels(axes: "Axes", labels: Sequence[Label], ink: str, line: str) -> list[str]:
    """Write ``labels`` into ``axes`` whose layout and limits are final.

    Args:
        axes: The axes that hold the points.
        labels: What to write; all points, labelled or not, are kept free.
        ink: Colour of the words.
        line: Colour of the lines from far labels to their points.

    Returns:
        The labels that found no room. They are left out: the table has their numbers, and an
        overlap would make others unreadable as well.
    """
    pixels = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    page, frame = axes.get_figure(root=True).bbox, axes.bbox  # type: ignore[union-attr]
    edge: _Box = (page.x0 + 2, frame.y0 + 1, page.x1 - 2, frame.y1)
    points = {label: axes.transData.transform((label.x, label.y)) for label in labels}
    reach = _MARK * pixels
    taken: list[_Box] = [(x - reach, y - reach, x + reach, y + reach) for x, y in points.values()]
    left_out = []
    for label in sorted(labels, key=lambda label: (-points[label][1], points[label][0], label.text)):
        x, y = points[label]
        weight = "bold" if label.bold else "normal"
        probe = axes.text(label.x, label.y, label.text, fontsize=9, fontweight=weight)
        size = probe.get_window_extent()
        probe.remove()
        for gap, angle in ((gap, angle) for gap in _GAPS for angle in _ANGLES):
            dx, dy = _direction(angle)
            box = _box(x, y, size.width, size.height, gap * pixels, dx, dy)
            if _is_free(box, edge, taken):
                break
        else:
            left_out.append(label.text)
            continue
        taken.append(box)
        axes.annotate(
            label.text, (label.x, label.y), (gap * dx, gap * dy), textcoords="offset points",
            # Anchored towards the point: a reader's narrower font then keeps the same gap.
            ha={1: "left", -1: "right", 0: "center"}[_sign(dx)],
            va={1: "bottom", -1: "top", 0: "center"}[_sign(dy)],
            fontsize=9, fontweight=weight, color=ink, zorder=5, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.7, "color": line, "shrinkA": 1, "shrinkB": 5}
            if gap >= _LINE_FROM
            else None,
        )  # fmt: skip
    return left_out


def _direction(angle: float) -> tuple[float, float]:
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return round(dx, 6), round(dy, 6)


def _box(
    x: float, y: float, width: float, height: float, gap: float, dx: float, dy: float
) -> _Box:
    """Return the label's box whose near side lies ``gap`` from the point towards (dx, dy)."""
    left = x + dx * gap + (_sign(dx) - 1) * width / 2
    bottom = y + dy * gap + (_sign(dy) - 1) * height / 2
    return left, bottom, left + width, bottom + height


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _is_free(box: _Box, edge: _Box, taken: Sequence[_Box]) -> bool:
    inside = box[0] >= edge[0] and box[1] >= edge[1] and box[2] <= edge[2] and box[3] <= edge[3]
    return inside and not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in taken
    )
