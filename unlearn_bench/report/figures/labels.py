"""Put labels beside their points so that none overlaps another, a mark or the edge.

Every label tries places around its point, nearest first, and takes the first that is free.
Greedy and deterministic: labels are served in the order given, so the first are sure of a place.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Directions in the order of preference: right, left, above, below, then the diagonals.
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225)
# Gap between point and label, in points.
_GAPS = (7, 12, 20, 30, 42, 56)
# From this gap on a line ties the label to its point.
_LINE_FROM = 20
# Half the width of a labelled mark and of a small one, in points.
_MARK, _DOT = 6.0, 2.0
_FONT_SIZE = 9
# Least gap between two labels, in points.
_APART = 4.0

_Point = tuple[float, float]
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """A word that belongs to a point in data coordinates."""

    text: str
    x: float
    y: float
    bold: bool = False


def place_labels(
    axes: "Axes",
    labels: Sequence[Label],
    dots: Iterable[tuple[float, float]],
    ink: str,
    line: str,
    paper: str,
) -> list[str]:
    """Write ``labels`` into ``axes`` whose layout and limits are final.

    Args:
        axes: The axes that hold the points.
        labels: What to write, each beside its own mark, the most important first.
        dots: Small marks without a label, covered only where there is no other room.
        ink: Colour of the words.
        line: Colour of the lines from far labels to their points.
        paper: Colour behind the words.

    Returns:
        The labels that found no room. They are left out: the table has their numbers, and an
        overlap would make others unreadable as well.
    """
    from matplotlib.text import Text

    frame, pixels = axes.bbox, axes.figure.dpi / 72
    edge: _Box = (frame.x0 + 1, frame.y0 + 1, axes.figure.bbox.x1 - 2, frame.y1)
    points: dict[Label, _Point] = {
        label: tuple(axes.transData.transform((label.x, label.y))) for label in labels
    }
    marks = [_square(point, _MARK * pixels) for point in points.values()]
    small = [_square(axes.transData.transform(dot), _DOT * pixels) for dot in dots]
    words: list[_Box] = []
    ties: list[_Box] = []
    left_out = []
    for label in labels:
        x, y = points[label]
        weight = "bold" if label.bold else "normal"
        probe = Text(text=label.text, fontsize=_FONT_SIZE, fontweight=weight, figure=axes.figure)
        size = probe.get_window_extent()
        places = [
            (_box(x, y, size.width, size.height, gap * pixels, *_direction(angle)), gap, angle)
            for gap in _GAPS
            for angle in _ANGLES
        ]
        others = [point for other, point in points.items() if other is not label]
        taken = [*marks, *words, *ties]
        # A line to a mark may pass near others, but not through their hearts.
        barred = [*words, *ties, *(_square(point, 0.5 * _MARK * pixels) for point in others)]
        free = [p for p in places if _fits(p, (x, y), edge, taken, others, barred)]
        if not free:
            left_out.append(label.text)
            continue
        uncovering = (place for place in free if _is_free(place[0], edge, small))
        box, gap, angle = next(uncovering, free[0])
        # Grown by the least gap: two names that abut are read as one.
        words.append(_grown(box, _APART * pixels))
        if gap >= _LINE_FROM:
            ties += _tie(box, (x, y))
        _write(axes, label, gap, angle, ink, line, paper)
    return left_out


def _fits(
    place: tuple[_Box, int, int],
    own: _Point,
    edge: _Box,
    taken: Sequence[_Box],
    others: Sequence[_Point],
    barred: Sequence[_Box],
) -> bool:
    """Whether a place is free, and shows which mark it belongs to."""
    box, gap, _ = place
    if not _is_free(box, edge, taken):
        return False
    if gap >= _LINE_FROM:
        return not _overlap_any(_tie(box, own), barred)
    # Without a line to its mark, a label belongs to the mark it is nearest to.
    return _belongs(box, own, others)


def _write(
    axes: "Axes", label: Label, gap: float, angle: float, ink: str, line: str, paper: str
) -> None:
    dx, dy = _direction(angle)
    arrow = {"arrowstyle": "-", "lw": 0.7, "color": line, "shrinkA": 1, "shrinkB": 5}
    axes.annotate(
        label.text,
        (label.x, label.y),
        (gap * dx, gap * dy),
        textcoords="offset points",
        # Anchored towards the point: a reader's narrower font then keeps the same gap.
        ha={1: "left", -1: "right", 0: "center"}[_sign(dx)],
        va={1: "bottom", -1: "top", 0: "center"}[_sign(dy)],
        fontsize=_FONT_SIZE,
        fontweight="bold" if label.bold else "normal",
        color=ink,
        zorder=5,
        annotation_clip=False,
        arrowprops=arrow if gap >= _LINE_FROM else None,
        # A wash of paper, so that no line of the axes strikes the word out.
        bbox={"facecolor": paper, "alpha": 0.8, "linewidth": 0, "pad": 0.6},
    )


def _square(point: Iterable[float], reach: float) -> _Box:
    x, y = point
    return x - reach, y - reach, x + reach, y + reach


def _grown(box: _Box, by: float) -> _Box:
    return box[0] - by, box[1], box[2] + by, box[3]


def _direction(angle: float) -> tuple[float, float]:
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return round(dx, 6), round(dy, 6)


def _box(x: float, y: float, width: float, height: float, gap: float, dx: float, dy: float) -> _Box:
    """Return the label's box whose near side lies ``gap`` from the point towards (dx, dy)."""
    left = x + dx * gap + (_sign(dx) - 1) * width / 2
    bottom = y + dy * gap + (_sign(dy) - 1) * height / 2
    return left, bottom, left + width, bottom + height


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _tie(box: _Box, point: _Point, steps: int = 16) -> list[_Box]:
    """Return the line from the label's middle to its mark as small boxes, outside the label."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    line = (
        _square((x + (point[0] - x) * i / steps, y + (point[1] - y) * i / steps), 1.0)
        for i in range(steps)
    )
    return [dot for dot in line if not _overlap_any([dot], [box])]


def _belongs(box: _Box, own: _Point, others: Iterable[_Point]) -> bool:
    return all(_distance(box, own) <= _distance(box, other) for other in others)


def _distance(box: _Box, point: _Point) -> float:
    dx = max(box[0] - point[0], point[0] - box[2], 0.0)
    dy = max(box[1] - point[1], point[1] - box[3], 0.0)
    return math.hypot(dx, dy)


def _is_free(box: _Box, edge: _Box, taken: Sequence[_Box]) -> bool:
    inside = box[0] >= edge[0] and box[1] >= edge[1] and box[2] <= edge[2] and box[3] <= edge[3]
    return inside and not _overlap_any([box], taken)


def _overlap_any(some: Sequence[_Box], others: Sequence[_Box]) -> bool:
    return any(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a in some for b in others
    )
