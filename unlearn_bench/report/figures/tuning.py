"""The best gap so far by trial, for every tuned method, as small multiples."""

from typing import TYPE_CHECKING

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures.canvas import (
    MUTED,
    PALETTE,
    Figure,
    Look,
    bare_canvas,
    finish,
    settle,
)
from unlearn_bench.report.tuning import best_so_far
from unlearn_bench.suite.tuned import TunedMethod

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_COLUMNS = 5


def draw(section: Section, look: Look) -> Figure | None:
    """Draw one panel per method: every trial as a dot, the best so far as a line."""
    setting = section.tuned
    searched = {
        name: method
        for name, method in (setting.methods if setting else {}).items()
        if sum(gap is not None for gap in method.history) > 1
    }
    if not searched:
        return None
    columns = min(_COLUMNS, len(searched))
    lines = -(-len(searched) // columns)
    canvas = bare_canvas((max(5.0, 1.95 * columns), 0.9 + 1.45 * lines))
    grid = canvas.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(searched) :]:
        axes.set_visible(False)
    for axes, (name, method) in zip(grid, searched.items(), strict=False):
        _panel(axes, name, method)
    better = sum(method.chosen > 0 for method in searched.values())
    title = f"Another setting than the default was chosen for {better} of {len(searched)} methods"
    words = (
        "Gap to the surrogates’ retraining in points, lower is nearer, by trial: dots are single "
        "trials, the line is the best so far, the dashed line the published default, which is "
        "trial 0. Every panel has a scale of its own, from 0 to its default or the best trial if "
        "that is larger; trials above it are not shown. n is the number of surrogates times "
        "tuning seeds of each trial."
    )
    settle(canvas, title)
    return finish(canvas, title, words, _data(searched), wide=columns > 2)


def _data(searched: dict[str, TunedMethod]) -> "pd.DataFrame":
    import pandas as pd

    rows = [
        (name, trial, gap, best)
        for name, method in searched.items()
        for trial, (gap, best) in enumerate(
            zip(method.history, best_so_far(method.history), strict=True)
        )
    ]
    return pd.DataFrame(rows, columns=["method", "trial", "gap", "best_so_far"])


def _panel(axes: "Axes", name: str, method: TunedMethod) -> None:
    from matplotlib.ticker import MaxNLocator

    known = [(trial, gap) for trial, gap in enumerate(method.history) if gap is not None]
    best = [(t, gap) for t, gap in enumerate(best_so_far(method.history)) if gap is not None]
    default = method.history[0]
    axes.set_title(f"{name}, {best[-1][1]:.1f}", loc="left", fontsize=9, fontweight="bold", pad=3)
    trials, gaps = zip(*known, strict=True)
    axes.plot(trials, gaps, ".", color=MUTED, ms=3)
    trials, gaps = zip(*best, strict=True)
    axes.step(trials, gaps, where="post", color=PALETTE[0], lw=1.4)
    if default is not None:
        axes.axhline(default, color=MUTED, lw=0.9, ls=(0, (4, 3)))
    top = max(default if default is not None else best[0][1], best[-1][1]) or 1.0
    axes.set_ylim(0, 1.15 * top)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelsize=7.5)
