"""Attacks by many models: how well what a method forgot is told from what was never seen."""

from collections.abc import Mapping

import pandas as pd

from unlearn_bench.analysis.table import ORIGINAL, Section
from unlearn_bench.report.figures.canvas import (
    GRID,
    INK,
    MUTED,
    Figure,
    Look,
    drawn_name,
    finish,
    look_of,
    name_axes,
    new_canvas,
    settle,
)

_METRIC = "privacy_lira_auc"


def draw(section: Section, look: Look, found: pd.DataFrame) -> Figure | None:
    """Draw one interval per method, what retraining gives as a band.

    Args:
        section: For the order of its rows.
        look: Colour and marker of every method.
        found: Its numbers over many models, columns as in ``population.parquet``.
    """
    own = found[(found["metric"] == _METRIC) & found["value"].notna()].set_index("method")
    rows = [row.method for row in section.table.rows if row.method in own.index]
    if section.reference not in rows or len(rows) < 2:
        return None
    numbers = own.loc[rows, ["value", "low", "high", "n_models"]]
    intervals: dict[str, list[float]] = dict(
        zip(rows, numbers[["value", "low", "high"]].to_numpy(dtype=float).tolist(), strict=True)
    )
    _, least, most = intervals[str(section.reference)]
    canvas, axes = new_canvas((5.0, 1.6 + 0.24 * len(rows)))
    axes.axvspan(least, most, color=GRID, lw=0, zorder=0.5)
    axes.axvline(0.5, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    for place, (method, (value, low, high)) in enumerate(intervals.items()):
        colour, marker = look_of(section, look, method)
        axes.plot([low, high], [place, place], color=colour, lw=1.6)
        axes.plot([value], [place], marker=marker, color=colour, ms=6, ls="")
    axes.set_yticks(range(len(rows)), [drawn_name(name) for name in rows], fontsize=8.5)
    axes.get_yticklabels()[rows.index(str(section.reference))].set_color(INK)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False, axis="y")
    name_axes(axes, "AUC of the attack: forgotten, or never seen?")
    title = _title(section, {name: low for name, (_, low, _) in intervals.items()}, most)
    settle(canvas, title)
    models = int(numbers["n_models"].max())
    words = (
        f"LiRA with one variance for all examples, {models} models of each method, each judged by "
        "the others; 95 % intervals over models and targets. The band is retraining’s interval, "
        "the dashed line chance. Further right, more of what was to be forgotten is left."
    )
    return finish(canvas, title, words, numbers.reset_index())


def _title(section: Section, lows: Mapping[str, float], chance: float) -> str:
    methods = {row.method for row in section.table.of_kind("method")} & set(lows)
    told = [name for name in methods if lows[name] > chance]
    if lows.get(ORIGINAL, 0.0) <= chance:
        return "The attack cannot even separate the original’s training examples from unseen ones"
    return f"{len(told)} of {len(methods)} methods leave more behind than retraining does"
