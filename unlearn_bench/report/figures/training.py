"""What every method logged while it ran, as small multiples."""

from typing import TYPE_CHECKING

from unlearn_bench.curves import TRAINING
from unlearn_bench.report.figures.canvas import (
    MUTED,
    PALETTE,
    Figure,
    Look,
    bare_canvas,
    finish,
    joined,
    settle,
)
from unlearn_bench.report.table import Section

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_COLUMNS = 5
_SERIES = 3
_FEWEST, _MOST = 3, 40
_COLOURS = (PALETTE[0], PALETTE[3], PALETTE[2])


def draw(section: Section, look: Look, curves: "pd.DataFrame") -> Figure | None:
    """Draw one panel per method, its series scaled by their largest values."""
    own = curves[curves["curve"] == TRAINING]
    means = own.groupby(["method", "series", "x"])["y"].mean()
    panels: dict[str, list[tuple[str, pd.Series[float]]]] = {}
    for row in section.table.rows:
        for name in dict.fromkeys(own[own["method"] == row.method]["series"]):
            points = means.loc[row.method, name].sort_index()
            if len(points) >= _FEWEST:
                panels.setdefault(row.method, []).append((str(name), points))
    if not panels:
        return None
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    canvas = bare_canvas((max(5.0, 1.95 * columns), 0.9 + 1.45 * lines))
    grid = canvas.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, (method, series) in zip(grid, panels.items(), strict=False):
        _panel(axes, method, series[:_SERIES])
    ends = [(points.iloc[0], points.iloc[-1]) for s in panels.values() for _, points in s]
    fell = sum(last < first for first, last in ends)
    rose = [m for m, s in panels.items() if s[0][1].iloc[-1] > s[0][1].iloc[0]]
    title = f"{fell} of {len(ends)} logged quantities ended below where they began"
    if rose and len(panels) > 1:
        title += f"; the first of {joined(rose)} rose"
    seeds = own.groupby("method")["seed"].nunique().max()
    words = (
        "What each method logged, in its own words, against its steps; every line is scaled by "
        "its largest value, the numbers are where it began and ended. Mean over seeds "
        f"(n = {seeds}). A method is missing if it logged fewer than {_FEWEST} entries."
    )
    settle(canvas, title)
    kept = own[own["method"].isin(panels)][["method", "series", "seed", "x", "y"]]
    data = kept.groupby(["method", "series", "x"], sort=False)["y"].mean().reset_index()
    # The download holds as many points as the drawing; curves.parquet has every seed's.
    place = data.groupby(["method", "series"], sort=False).cumcount(ascending=False)
    length = data.groupby(["method", "series"], sort=False)["y"].transform("size")
    data = data[(place % (-(-length // _MOST)) == 0) | (place == length - 1)]
    return finish(canvas, title, words, data.rename(columns={"x": "step", "y": "mean"}),
                  wide=columns > 2)  # fmt: skip


def _panel(axes: "Axes", method: str, series: "list[tuple[str, pd.Series[float]]]") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(method, loc="left", fontsize=9, fontweight="bold", pad=3 + 10 * len(series))
    for place, (name, points) in enumerate(series):
        colour = _COLOURS[place]
        first, last = float(points.iloc[0]), float(points.iloc[-1])
        largest = float(points.abs().max()) or 1.0
        stride = -(-len(points) // _MOST)
        # The first entry counts as much as the last, and is often the largest.
        kept = points.iloc[sorted({0, *range(len(points) - 1, -1, -stride)})] / largest
        axes.plot(kept.index, kept, color=colour, lw=1.2, ls=("-", "--", ":")[place])
        axes.text(
            0, 1.02 + 0.13 * (len(series) - 1 - place), f"{name} {_short(first)} → {_short(last)}",
            transform=axes.transAxes, fontsize=7.2, color=colour, va="bottom",
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.set_yticks([])
    below = any(points.min() < 0 for _, points in series)
    axes.set_ylim(-1.08 if below else -0.04, 1.08)
    axes.axhline(0, color=MUTED, lw=0.6)
    axes.tick_params(labelsize=7.5)


def _short(value: float) -> str:
    text = f"{abs(value):.2g}"
    if "e" in text:
        mantissa, _, power = text.partition("e")
        text = f"{mantissa}e{int(power)}"
    return f"−{text}" if value < 0 else text
