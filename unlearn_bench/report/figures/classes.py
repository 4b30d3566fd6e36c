"""Heat-maps by class: what each method took from each class, and where forgotten examples go."""

from typing import TYPE_CHECKING

from unlearn_bench.analysis.table import DAMAGE_POINTS, Section
from unlearn_bench.report.figures.canvas import (
    GAIN,
    GRID,
    INK,
    LOSS,
    Figure,
    Look,
    drawn_name,
    finish,
    new_canvas,
    seeds_reading,
    settle,
)

if TYPE_CHECKING:
    import pandas as pd

# More classes do not fit on a page: those with the largest numbers are drawn.
_MOST_CLASSES = 20
_NARROW = 12


def draw_damage(section: Section, look: Look) -> Figure | None:
    """Draw the points of accuracy that each retained class lost against retraining."""
    drops = _in_order(section, "class_drop")
    if drops is None:
        return None
    worst = drops[drops.index.isin([row.method for row in section.table.of_kind("method")])]
    if worst.empty:
        return None
    method = str(worst.max(axis=1).idxmax())
    name = str(worst.loc[method].idxmax())
    loss = float(worst.to_numpy()[~worst.isna().to_numpy()].max())
    many = int((worst.max(axis=1) >= DAMAGE_POINTS).sum())
    if loss < 0.5:
        title = "No method lost half a point on any retained class"
    else:
        title = f"{method} lost {loss:.0f} points on class {name}"
        seeds = {row.method: len(row.seeds) for row in section.table.rows}[method]
        if seeds < len(section.seeds):
            title += f" (n = {seeds})"
        if len(worst) > 1:
            title += (
                f"; {many} of {len(worst)} methods lost {DAMAGE_POINTS:.0f} or more on some class"
                if many
                else ", the largest loss of all methods"
            )
    words = (
        "Accuracy lost on each retained class, acc(G) − acc(U) on its test examples, in points; "
        f"orange is lost against retraining, blue gained. {seeds_reading(section, drops.index)} "
        "Ideal is the row of retrain_other_seed."
    )
    return _heat_map(section, drops, title, words, "Retained class", "points_lost")


def draw_destinations(section: Section, look: Look) -> Figure | None:
    """Draw as what the examples to forget are classified, one row per model."""
    shares = _in_order(section, "forget_predicted_as")
    if shares is None:
        return None
    title = "Where the examples to forget go"
    if section.reference in shares.index:
        of_retrained = shares.loc[section.reference]
        name, share = of_retrained.idxmax(), of_retrained.max()
        title = f"Retraining sends {share:.0f} % of what is to be forgotten to class {name}"
        methods = [r.method for r in section.table.of_kind("method") if r.method in shares.index]
        same = sum(shares.loc[m].idxmax() == name for m in methods)
        if len(methods) == 1:
            title += f"; {methods[0]} prefers {'that class too' if same else 'another'}"
        elif methods:
            prefer = "prefers" if same == 1 else "prefer"
            title += f"; {same or 'none'} of {len(methods)} methods {prefer} that class too"
    words = (
        "Per cent of the examples to forget that each model classifies as each class. "
        f"{seeds_reading(section, shares.index)}"
    )
    return _heat_map(section, shares, title, words, "Classified as", "percent")


def _in_order(section: Section, metric: str) -> "pd.DataFrame | None":
    """Return the per cents of one metric, methods in the table's order, or None."""
    found = section.by_class[metric].dropna(how="all")
    found = 100 * found.reindex([r.method for r in section.table.rows if r.method in found.index])
    if found.empty:
        return None
    largest = set(found.abs().sum().nlargest(_MOST_CLASSES).index)
    return found[[name for name in found.columns if name in largest]]


def _heat_map(
    section: Section, values: "pd.DataFrame", title: str, words: str, axis: str, unit: str
) -> Figure:
    """Draw one cell per method and class; strength is opacity, so any paper will do."""
    import numpy as np
    import seaborn
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    columns = len(values.columns)
    everywhere = len(section.by_class["forget_predicted_as"].columns)
    if columns == _MOST_CLASSES < everywhere:
        words += f" Of {everywhere} classes the {columns} with the largest numbers are shown."
    size = (max(5.0, 1.8 + 0.34 * columns), 1.25 + 0.215 * len(values))
    canvas, axes = new_canvas(size)
    share = np.clip(np.nan_to_num(values.to_numpy()) / 100, -1, 1)
    share[np.abs(share) < 0.005] = 0
    positive, negative = to_rgb(LOSS if unit == "points_lost" else GAIN), to_rgb(GAIN)
    shades = LinearSegmentedColormap.from_list(
        "strength",
        [
            (0.0, (*negative, 0.85)),
            (0.5, (*negative, 0.0)),
            (0.5, (*positive, 0.0)),
            (1.0, (*positive, 0.85)),
        ],
    )
    seaborn.heatmap(
        # The square root lets a loss of 4 points be seen, at a fifth of full strength.
        np.sign(share) * np.sqrt(np.abs(share)),
        vmin=-1,
        vmax=1,
        cmap=shades,
        cbar=False,
        linewidths=0.5,
        linecolor=GRID,
        ax=axes,
        annot=[[_points(value) for value in row] for row in values.to_numpy()],
        fmt="",
        annot_kws={"fontsize": 7.5, "color": INK},
    )
    names = [drawn_name(name) for name in values.columns]
    methods = [drawn_name(name) for name in values.index]
    axes.set_xticks([j + 0.5 for j in range(columns)], names, rotation=0)
    axes.set_yticks([i + 0.5 for i in range(len(values))], methods, fontsize=8.5, rotation=0)
    axes.tick_params(length=0)
    crowded = sum(map(len, names)) > 8 * size[0]
    if crowded:
        axes.set_xticks(axes.get_xticks(), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(axis, loc="left")
    settle(canvas, title)
    data = values.rename_axis(index="method").reset_index()
    data = data.melt("method", var_name="class", value_name=unit).dropna()
    return finish(canvas, title, words, data, wide=columns > _NARROW)


def _points(value: float) -> str:
    """Return a whole number, empty where there is none or it is 0."""
    if not abs(value) >= 0.5:
        return ""
    return f"{value:.0f}" if value > 0 else f"−{-value:.0f}"
