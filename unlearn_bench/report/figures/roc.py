"""ROC of the loss attack on log axes, where the tail that matters can be seen."""

from typing import TYPE_CHECKING

from unlearn_bench.analysis.table import ORIGINAL, Section
from unlearn_bench.report.figures.canvas import (
    GRID,
    INK,
    MUTED,
    PALETTE,
    Figure,
    Look,
    drawn_name,
    finish,
    look_of,
    name_axes,
    new_canvas,
    plain_log_ticks,
    seeds_reading,
    settle,
)
from unlearn_bench.report.findings import roc_title
from unlearn_bench.results.curves import ROC
from unlearn_bench.results.metrics import MIA_AUC

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

ATTACK = "mia_loss"
# False positives below this number say nothing about the tail, as in the metric.
_MIN_FALSE_POSITIVES = 10
# Curves in colour: the nearest methods and those whose attack differs most from retraining.
_NEAREST, _FARTHEST = 2, 3


def draw(section: Section, look: Look, curves: "pd.DataFrame") -> Figure | None:
    """Draw the mean true positive rate over seeds at each false positive rate."""
    import numpy as np

    own = curves[(curves["curve"] == ROC) & (curves["series"] == ATTACK) & (curves["n"] > 0)]
    drawn = set(own["method"])
    rows = {row.method: row for row in section.table.rows if row.method in drawn}
    if not rows:
        return None
    n = int(own["n"].min())
    grid = np.unique(np.geomspace(1, n, 60).round()) / n
    means = {
        name: np.mean(
            [
                np.interp(grid, of_seed["x"], of_seed["y"])
                for _, of_seed in own[own["method"] == name].groupby("seed")
            ],
            axis=0,
        )
        for name in rows
    }
    low = 0.5 / n
    canvas, axes = new_canvas()
    axes.set(xscale="log", yscale="log", xlim=(grid[0], 1.02), ylim=(max(low, 1e-4), 1.15))
    plain_log_ticks(axes.xaxis)
    plain_log_ticks(axes.yaxis)
    resolvable = min(1.0, _MIN_FALSE_POSITIVES / n)
    axes.axvspan(resolvable, 1.02, color=GRID, alpha=0.55, lw=0, zorder=0.4)
    axes.plot([grid[0], 1], [grid[0], 1], color=MUTED, lw=0.9, ls=":", zorder=1, label="guessing")
    stressed = _stressed(section, list(means))
    _draw_curves(axes, section, look, grid, means, stressed)
    handles, names = axes.get_legend_handles_labels()
    first = [section.reference, ORIGINAL, *stressed, "guessing"]
    order = sorted(range(len(names)), key=lambda i: first.index(names[i]))
    shown = [drawn_name(names[i]) for i in order]
    axes.legend([handles[i] for i in order], shown, loc="lower right")
    name_axes(axes, "False positive rate (log scale)", "True positive rate (log scale)")
    title = roc_title(section)
    words = (
        f"Members F against {n} unseen examples of the same classes. "
        f"{seeds_reading(section, rows)} Shaded is the range that {_MIN_FALSE_POSITIVES} false "
        f"positives resolve (from {100 * resolvable:.2g} % on); left of it the curve is chance. "
        "Ideal is retraining’s curve, not the lowest."
    )
    if any(row.kind == "method" and name not in stressed for name, row in rows.items()):
        words += " Thin grey lines are the other methods."
    settle(canvas, title)
    import pandas as pd

    data = pd.DataFrame(means, index=grid).rename_axis("fpr").reset_index()
    return finish(canvas, title, words, data.melt("fpr", var_name="method", value_name="tpr"))


def _draw_curves(
    axes: "Axes",
    section: Section,
    look: Look,
    grid: "NDArray[np.float64]",
    means: "Mapping[str, NDArray[np.float64]]",
    stressed: list[str],
) -> None:
    import numpy as np

    colours = _apart([look_of(section, look, name)[0] for name in stressed])
    kinds = {row.method: row.kind for row in section.table.rows}
    for name, rates in means.items():
        clipped = np.maximum(rates, axes.get_ylim()[0])
        if name in (section.reference, ORIGINAL):
            dashed = name == ORIGINAL
            axes.plot(
                grid, clipped, color=INK, lw=1.6, ls="--" if dashed else "-", zorder=4, label=name
            )
        elif name in stressed:
            _, marker = look_of(section, look, name)
            place = stressed.index(name)
            # Begun at different points, so that the marks of like curves do not hide each other.
            axes.plot(
                grid,
                clipped,
                color=colours[place],
                marker=marker,
                markevery=(place, 5),
                ms=4.5,
                lw=1.3,
                zorder=3,
                label=name,
                markeredgecolor="none",
            )
        elif kinds[name] == "method":
            axes.plot(grid, clipped, color=MUTED, lw=0.5, alpha=0.45, zorder=2)


def _apart(colours: list[str]) -> list[str]:
    """Keep each method's own colour, but give a second curve of the same one another."""
    free = [colour for colour in PALETTE if colour not in colours]
    return [c if c not in colours[:i] else free.pop(0) for i, c in enumerate(colours)]


def _stressed(section: Section, drawn: list[str]) -> list[str]:
    ranked = [row.method for row in section.ranking if row.method in drawn]
    nearest = ranked[:_NEAREST]

    def away(method: str) -> float:
        gap = section.table.gap(method, MIA_AUC)
        return -abs(gap.mean) if gap else 0.0

    return nearest + sorted((m for m in ranked if m not in nearest), key=away)[:_FARTHEST]
