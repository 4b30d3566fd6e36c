"""Forget against retain accuracy, as gaps to retraining where that is known."""

from matplotlib.patches import Rectangle

from unlearn_bench.analysis.pivot import seeds_of
from unlearn_bench.analysis.table import ORIGINAL, Section
from unlearn_bench.analysis.verdict import retrain_band
from unlearn_bench.report.figures.canvas import (
    GRID,
    MUTED,
    Figure,
    Look,
    finish,
    name_axes,
    new_canvas,
    padded,
    padded_root,
    reading,
    root_scale,
    scatter,
    settle,
    write_labels,
)
from unlearn_bench.report.findings import accuracy_title

_AXES = ("forget_accuracy", "retain_accuracy")


def draw(section: Section, look: Look) -> Figure | None:
    """Draw every method, retraining and the original; the shaded region is the retrain band."""
    # Of the controls only the original: the others lie far off, or on top of it.
    shown = [r.method for r in section.table.rows if r.kind != "control" or r.method == ORIGINAL]
    values = section.values[section.values.index.isin(shown, level="method")]
    points = 100 * values.reindex(columns=list(_AXES)).dropna()
    title = accuracy_title(section)
    words = f"Accuracy on the examples to forget and to retain. {reading(section, shown)}"
    if section.reference is None:
        names = ("Forget accuracy, %", "Retain accuracy, %")
        kind = "percent"
        words += " Nothing was retrained, so the target is not known."
    else:
        target = seeds_of(points, section.reference)
        seed_of_row = points.index.get_level_values("seed")
        points = (points - target.reindex(seed_of_row).set_axis(points.index)).dropna()
        unit = "points from retraining"
        kind = "gap_points"
        names = (f"Forget accuracy, {unit}", f"Retain accuracy, {unit}")
        forget, retain = (target[column].mean() for column in _AXES)
        words += (
            f" The star is retraining, the target (forget {forget:.1f} %, retain {retain:.1f} %): "
            "right of it too little is forgotten, left of it too much, below it retained "
            "knowledge is lost. Scales are square roots, finest near the target."
        )
    if points.empty:
        return None
    canvas, axes = new_canvas()
    # What the file's columns hold is told by their names: gaps where there is a target.
    data = points.reset_index().rename(
        columns=lambda name: f"{name}_{kind}" if name in _AXES else name
    )
    points.columns = ["x", "y"]
    if section.reference is None:
        axes.set(xlim=padded(points["x"]), ylim=padded(points["y"]))
    else:
        root_scale(axes, "x", *padded_root(points["x"]))
        root_scale(axes, "y", *padded_root(points["y"]))
        axes.axhline(0, color=MUTED, lw=0.8, zorder=1)
        axes.axvline(0, color=MUTED, lw=0.8, zorder=1)
        widths = [
            retrain_band(section, section.reference, column, section.facts.of(column).floor)
            for column in _AXES
        ]
        if None not in widths:
            x, y = (100 * (width or 0.0) for width in widths)
            axes.add_patch(
                Rectangle(
                    (-x, -y), 2 * x, 2 * y, facecolor=GRID, edgecolor=MUTED, lw=0.6, zorder=0.5
                )
            )
            words += f" The shaded region, ± {x:.1f} and ± {y:.1f} points, is the retrain band."
    name_axes(axes, *names)
    labels, marks = scatter(axes, section, points, look)
    settle(canvas, title)
    words += write_labels(axes, labels, points)
    return finish(canvas, title, words, data, marks)
