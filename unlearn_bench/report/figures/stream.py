"""A stream of requests in pictures: what came back, what was lost on the way, what it cost."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unlearn_bench.analysis.stream import Stream
from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures.canvas import (
    GAIN,
    INK,
    LOSS,
    MUTED,
    Figure,
    Look,
    bare_canvas,
    drawn_name,
    finish,
    look_of,
    seeds_reading,
    settle,
)
from unlearn_bench.report.text import share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# A panel of a method takes an inch; more do not fit a page.
MOST_PANELS, PANELS_A_ROW = 12, 4
# Gaps over the requests: the accuracy, its panel, and its column among the numbers drawn.
_GAPS = (
    ("retain_accuracy", "Retain gap, points", "retain_gap"),
    ("test_retain_accuracy", "Test retain gap, points", "test_retain_gap"),
)


def draw_back(section: Section, stream: Stream) -> Figure | None:
    """Draw, for each method, the accuracy on what each request took after every later one."""
    every = _methods(section, stream)
    methods = every[:MOST_PANELS]
    if not methods:
        return None
    found = {method: _over_seeds(100 * stream.came_back(method)) for method in methods}
    rows = math.ceil(len(methods) / PANELS_A_ROW)
    columns = min(PANELS_A_ROW, len(methods))
    canvas = bare_canvas((max(5.0, 2.3 * columns), 1.2 + 2.1 * rows))
    grid = canvas.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for axes, method in zip(grid, methods, strict=False):
        _panel(axes, found[method], drawn_name(method))
    for axes in grid[len(methods) :]:
        axes.set_axis_off()
    for axes in grid[::PANELS_A_ROW]:
        axes.set_ylabel("Taken by request")
    for axes in grid[-columns:]:
        axes.set_xlabel("After request", loc="left")
    best = {m: value for m in every if (value := stream.reversal(m)) is not None}
    title = _back_title({m: 100 * value.mean for m, value in best.items()})
    settle(canvas, title)
    words = (
        "Accuracy on the examples that each request took, after it and after every later one, "
        "minus that of the model retrained without all of them, in points. A row that grows "
        "darker to the right is knowledge that came back; one that is dark from the start was "
        f"never forgotten. {seeds_reading(section, methods)}"
    )
    if len(methods) < len(every):
        words += f" The first {len(methods)} of {len(every)} methods are drawn; the table has all."
    return finish(canvas, title, words, _long(found), wide=columns > 2)


def draw_way(section: Section, look: Look, stream: Stream) -> Figure | None:
    """Draw the gaps of retain and test retain accuracy, and the time of all requests, over them."""
    methods = _methods(section, stream)
    if not methods:
        return None
    drawn = {
        column: {m: _over_seeds(100 * stream.utility(m, accuracy)) for m in methods}
        for accuracy, _, column in _GAPS
    }
    once = {m: stream.retraining_seconds(m).cumsum(axis=0) for m in methods}
    with np.errstate(divide="ignore", invalid="ignore"):
        costs = {m: _over_seeds(100 * stream.seconds(m) / once[m]) for m in methods}
    drawn["percent_of_retraining"] = costs
    steps = range(1, len(stream.requests) + 1)
    canvas = bare_canvas((9.2, 3.6))
    panels = canvas.subplots(1, len(drawn))
    panels[1].sharey(panels[0])
    names = [name for _, name, _ in _GAPS] + ["Time so far, % of retraining"]
    for axes, name, values in zip(panels, names, drawn.values(), strict=True):
        for method in methods:
            colour, marker = look_of(section, look, method)
            label = drawn_name(method)
            axes.plot(steps, values[method], color=colour, marker=marker, ms=5, lw=1.4, label=label)
        equal = 100 if values is costs else 0
        axes.axhline(equal, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
        axes.set_title(name, loc="left", fontsize=9.5, color=MUTED, pad=8)
        axes.set_xlabel("After request", loc="left")
        axes.set_xticks(list(steps))
    panels[-1].set_ylim(bottom=0)
    panels[0].legend(loc="best", ncols=2 if len(methods) > 5 else 1)
    title = _way_title({m: costs[m][-1] for m in methods})
    settle(canvas, title)
    words = (
        "Accuracy on what is retained, and on test images of it, minus that of the model retrained "
        "without all that was asked for so far; then the time of all requests so far, in % of "
        "retraining after each. Dashed is that retraining. "
        f"{seeds_reading(section, methods)}"
    )
    rows = [
        {"method": m, "request": k} | {column: drawn[column][m][k - 1] for column in drawn}
        for m in methods
        for k in steps
    ]
    return finish(canvas, title, words, pd.DataFrame(rows), wide=True)


def _methods(section: Section, stream: Stream) -> list[str]:
    if stream.reference is None:
        return []
    return [row.method for row in section.table.of_kind("method") if row.method in stream.methods]


def _over_seeds(values: "Floats") -> "Floats":
    """Return the means over the last axis without what is missing; NaN where all is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(there, values, 0).sum(-1) / there.sum(-1)
    return means


def _panel(axes: "Axes", values: "Floats", name: str) -> None:
    """Draw one method's squares: the request that took the examples down, later ones across."""
    from matplotlib.patches import Rectangle

    length = len(values)
    for j, k in combinations_with_replacement(range(length), 2):
        value = float(values[j, k])
        if math.isfinite(value):
            # Of one colour, more or less opaque: it stands on light and on dark paper.
            axes.add_patch(
                Rectangle(
                    (k + 0.53, j + 0.53),
                    0.94,
                    0.94,
                    facecolor=LOSS if value > 0 else GAIN,
                    alpha=min(0.75, 0.75 * abs(value) / 100),
                    linewidth=0,
                )
            )
            text = f"{value:.0f}".replace("-0", "0").replace("-", "−")
            axes.text(k + 1, j + 1, text, ha="center", va="center", fontsize=7.5, color=INK)
    axes.set(xlim=(0.5, length + 0.5), ylim=(length + 0.5, 0.5))
    axes.set_xticks(range(1, length + 1))
    axes.set_yticks(range(1, length + 1))
    axes.grid(False)
    axes.set_title(name, loc="left", fontsize=9.5)


def _long(found: "Mapping[str, Floats]") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"method": method, "taken_by": j + 1, "after": k + 1, "points": values[j, k]}
            for method, values in found.items()
            for j in range(len(values))
            for k in range(j, len(values))
        ]
    )


def _back_title(points: Mapping[str, float]) -> str:
    if not points:
        return "What came back could not be measured"
    most = max(points, key=lambda method: points[method])
    if points[most] < 0.05:
        return "Nothing that was forgotten came back"
    none = [method for method in points if points[method] < 0.05]
    title = f"Under {most} up to {points[most]:.0f} points of accuracy came back"
    return title + (f"; under {_few(none)} nothing" if none else "")


def _few(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} methods"


def _way_title(percent: Mapping[str, float]) -> str:
    known = {method: cost for method, cost in percent.items() if math.isfinite(cost)}
    if not known:
        return "Utility over the requests"
    cheapest = min(known, key=lambda method: known[method])
    ratio = share(known[cheapest] / 100)
    return f"Over all requests {cheapest} is the cheapest, at {ratio} retraining’s time"
