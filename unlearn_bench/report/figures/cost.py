"""Distance to retraining against what it cost, with the front of what is not dominated."""

from collections.abc import Sequence

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures.canvas import (
    GRID,
    MUTED,
    Figure,
    Look,
    finish,
    name_axes,
    new_canvas,
    plain_log_ticks,
    reading,
    root_scale,
    scatter,
    settle,
    write_labels,
)
from unlearn_bench.report.findings import cost_title
from unlearn_bench.results.metrics import DISTANCE, TIME_RATIO


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other beats in both, by rising x.

    A point is beaten by one that is at most as large in both and smaller in one.
    """
    front: list[int] = []
    least = float("inf")
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        if points[index][1] < least:
            front.append(index)
            least = points[index][1]
    return front


def draw(section: Section, look: Look) -> Figure | None:
    """Draw time relative to retraining (log axis) against the distance to retraining."""
    ranked = [row.method for row in section.ranking]
    priced = section.values.reindex(columns=[TIME_RATIO, DISTANCE]).dropna() * [100, 1]
    points = priced[priced.index.isin(ranked, level="method") & (priced[TIME_RATIO] > 0)]
    if points.empty:
        return None
    canvas, axes = new_canvas()
    data = points.reset_index().rename(columns={TIME_RATIO: "percent_of_retraining_time"})
    points.columns = ["x", "y"]
    axes.set_xscale("log")
    axes.set_xlim(min(points["x"].min(), 100) / 2, max(points["x"].max(), 100) * 2)
    plain_log_ticks(axes.xaxis)
    root_scale(axes, "y", 0, 1.25 * max(points["y"].max(), section.spread or 0, 1.0))
    name_axes(axes, "Time, % of retraining (log scale)", "Distance to retraining, points")
    labels, marks = scatter(axes, section, points, look)
    axes.axvline(100, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    means = points.groupby(level="method").mean()
    front = means.iloc[pareto_front(list(means.itertuples(index=False, name=None)))]
    axes.step(front["x"], front["y"], where="post", color=MUTED, lw=1.1, zorder=1.5)
    data["on_pareto_front"] = data["method"].isin(front.index)
    words = (
        "Lower is nearer to retraining, further left is cheaper; the dashed line is retraining’s "
        f"own time. The vertical scale is a square root. {reading(section, ranked)} Nothing is "
        f"both cheaper and nearer than the methods on the stepped line: {', '.join(front.index)}."
    )
    if section.spread is not None:
        axes.axhspan(0, section.spread, color=GRID, lw=0, zorder=0.5)
        words += " The band at the bottom is the distance between two retrainings."
    title = cost_title(section)
    settle(canvas, title)
    words += write_labels(axes, labels, points)
    return finish(canvas, title, words, data, marks)
