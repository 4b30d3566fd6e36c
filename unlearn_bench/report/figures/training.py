"""What every method logged while it ran, as small multiples."""

from typing import TYPE_CHECKING

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures.canvas import (
    MUTED,
    PALETTE,
    Figure,
    Look,
    bare_canvas,
    drawn_name,
    finish,
    joined,
    seeds_reading,
    settle,
)
from unlearn_bench.results.curves import TRAINING

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
    panels: dict[str, list[tuple[str, pd.Series[float]]]] = {}
    carried: list[str] = []
    for row in section.table.rows:
        of_row = own[own["method"] == row.method]
        if of_row.groupby(["series", "seed"])["x"].max().groupby("series").nunique().gt(1).any():
            carried.append(row.method)
        for name, points in of_row.groupby("series", sort=False):
            mean = _mean(points)
            if len(mean) >= _FEWEST:
                panels.setdefault(row.method, []).append((str(name), mean))
    if not panels:
        return None
    crowded = [method for method, series in panels.items() if len(series) > _SERIES]
    panels = {method: series[:_SERIES] for method, series in panels.items()}
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    canvas = bare_canvas((max(5.0, 1.95 * columns), 0.9 + 1.45 * lines))
    grid = canvas.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, (method, series) in zip(grid, panels.items(), strict=False):
        _panel(axes, method, series)
    ends = [(points.iloc[0], points.iloc[-1]) for s in panels.values() for _, points in s]
    fell = sum(last < first for first, last in ends)
    rose = [m for m, s in panels.items() if s[0][1].iloc[-1] > s[0][1].iloc[0]]
    title = f"{fell} of {len(ends)} logged quantities ended below where they began"
    if rose and len(panels) > 1:
        title += f"; the first of {joined(rose)} rose"
    words = (
        "Quantities logged by each method, against its steps; each line is scaled by its largest "
        "value, and the numbers are its first and last values. "
        f"{seeds_reading(section, panels)} A method is missing if it logged fewer than {_FEWEST} "
        "entries."
    )
    carried = [method for method in carried if method in panels]
    if carried:
        words += (
            " A seed that stopped earlier than another keeps its last value to the end: "
            f"{joined(carried, most=30)}."
        )
    if crowded:
        words += f" Of {joined(crowded, most=30)} the first {_SERIES} quantities are shown."
    settle(canvas, title)
    return finish(canvas, title, words, _data(panels), wide=columns > 2)


def _data(panels: "dict[str, list[tuple[str, pd.Series[float]]]]") -> "pd.DataFrame":
    """Return as many points as the drawing has; curves.parquet has every seed's."""
    import pandas as pd

    data = pd.concat(
        [
            points.rename("mean")
            .rename_axis("step")
            .reset_index()
            .assign(method=method, series=name)
            for method, series in panels.items()
            for name, points in series
        ]
    )[["method", "series", "step", "mean"]]
    place = data.groupby(["method", "series"], sort=False).cumcount(ascending=False)
    length = data.groupby(["method", "series"], sort=False)["mean"].transform("size")
    kept: pd.DataFrame = data[(place % (-(-length // _MOST)) == 0) | (place == length - 1)]
    return kept


def _mean(points: "pd.DataFrame") -> "pd.Series[float]":
    """Return the mean over seeds at every step that any seed logged.

    Between its entries a seed is interpolated, and after its last it stays: were it to drop out
    there, the mean would jump to those that are left.
    """
    by_seed = points.pivot_table(index="x", columns="seed", values="y")
    return by_seed.interpolate("index", limit_area="inside").ffill().bfill().mean(axis="columns")


def _panel(axes: "Axes", method: str, series: "list[tuple[str, pd.Series[float]]]") -> None:
    from matplotlib.ticker import MaxNLocator

    above = 3 + 10 * len(series)
    axes.set_title(drawn_name(method), loc="left", fontsize=9, fontweight="bold", pad=above)
    for place, (name, points) in enumerate(series):
        colour = _COLOURS[place]
        first, last = float(points.iloc[0]), float(points.iloc[-1])
        largest = float(points.abs().max()) or 1.0
        stride = -(-len(points) // _MOST)
        # The first entry counts as much as the last, and is often the largest.
        kept = points.iloc[sorted({0, *range(len(points) - 1, -1, -stride)})] / largest
        axes.plot(kept.index, kept, color=colour, lw=1.2, ls=("-", "--", ":")[place])
        axes.text(
            0,
            1.02 + 0.13 * (len(series) - 1 - place),
            f"{drawn_name(name)} {_short(first)} → {_short(last)}",
            transform=axes.transAxes,
            fontsize=7.2,
            color=colour,
            va="bottom",
        )
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
