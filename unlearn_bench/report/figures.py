"""Draw the figures of a report as SVG, the same bytes for the same numbers.

Colours of ink, grid and paper are fixed hex values in the files; on the HTML page they become
CSS variables (:func:`inline`), so that one drawing serves the light and the dark theme.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlearn_bench.report.findings import accuracy_title, cost_title
from unlearn_bench.report.labels import Label, place_labels
from unlearn_bench.report.table import DISTANCE, ORIGINAL, TIME_RATIO, Section, seeds_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas

INK, MUTED, GRID, PAPER = "#1b1c1f", "#6a6d75", "#e3e3df", "#fffffe"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--rule)", PAPER: "var(--paper)"}
# Seaborn's colour-blind-safe palette without its yellow, light pink and grey, which fade on
# white paper; 7 colours and 8 markers share no factor, so 56 methods look different.
_PALETTE = (0, 1, 2, 3, 4, 5, 9)
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
_ACCURACY_AXES = ("forget_accuracy", "retain_accuracy")
_SIZE = (5.0, 4.0)
_TITLE_WIDTH = 48
_SEED_SIZE, _MEAN_SIZE, _STAR_SIZE = 14, 62, 190


@dataclass(frozen=True)
class Figure:
    """One drawing with its words.

    Attributes:
        path: Place below the results folder.
        title: The finding, also drawn in the figure.
        caption: What n is and how to read it.
    """

    path: str
    title: str
    caption: str
    svg: str


def draw(sections: Sequence[Section]) -> dict[int, tuple[Figure, ...]]:
    """Draw every section that has something to show, keyed by its place in ``sections``."""
    if not any(row.seeds for section in sections for row in section.table.rows):
        return {}
    import matplotlib

    methods = sorted({row.method for s in sections for row in s.table.of_kind("method")})
    style = _style(methods)
    drawn = {}
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        # A label in a script that the measuring font lacks is drawn by the reader's own font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for index, section in enumerate(sections):
            prefix = "" if len(sections) == 1 else f"{index + 1:02d}-{_slug(section)}-"
            drawn[index] = tuple(_section_figures(section, style, f"figures/{prefix}"))
    return drawn


def inline(svg: str) -> str:
    """Make a stand-alone SVG part of an HTML page: no prologue, no fixed theme, no ids to clash."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' xmlns(:xlink)?="[^"]*"', "", body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    return body


_RC: dict[Any, Any] = {
    "svg.hashsalt": "unlearn-bench",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.parse_math": False,  # a dollar sign in a user's label is a dollar sign
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}

_Style = Mapping[str, tuple[Any, str]]


def _style(methods: Sequence[str]) -> _Style:
    """Give every method one colour and one marker for the whole report."""
    import seaborn

    colours = seaborn.color_palette("colorblind").as_hex()
    return {
        method: (colours[_PALETTE[i % len(_PALETTE)]], _MARKERS[i % len(_MARKERS)])
        for i, method in enumerate(methods)
    } | {ORIGINAL: (MUTED, "d")}


def _section_figures(section: Section, style: _Style, prefix: str) -> list[Figure]:
    drawn = (
        _accuracy(section, style, f"{prefix}accuracy.svg"),
        _cost(section, style, f"{prefix}cost.svg"),
        _destinations(section, f"{prefix}classes.svg"),
    )
    return [figure for figure in drawn if figure is not None]


def _accuracy(section: Section, style: _Style, path: str) -> Figure | None:
    """Draw forget against retain accuracy, training examples, as gaps to retraining if known."""
    # Of the controls only the original: the others lie far off, or on top of it.
    shown = [r.method for r in section.table.rows if r.kind != "control" or r.method == ORIGINAL]
    values = section.values[section.values.index.isin(shown, level="method")]
    points = 100 * values.reindex(columns=list(_ACCURACY_AXES)).dropna()
    title = accuracy_title(section)
    words = f"Accuracy on the examples to forget and to retain. {_reading(section)}"
    if section.reference is None:
        names = ("Forget accuracy, %", "Retain accuracy, %")
        words += " Nothing was retrained, so the target is not known."
    else:
        target = seeds_of(points, section.reference)
        seed_of_row = points.index.get_level_values("seed")
        points = (points - target.reindex(seed_of_row).set_axis(points.index)).dropna()
        unit = "points from retraining"
        names = (f"Forget accuracy, {unit}", f"Retain accuracy, {unit}")
        forget, retain = (target[column].mean() for column in _ACCURACY_AXES)
        words += (
            f" The star is retraining, the target (forget {forget:.1f} %, retain {retain:.1f} %): "
            "right of it too little is forgotten, left of it too much, below it retained "
            "knowledge is lost. Scales are square roots, finest near the target."
        )
    if points.empty:
        return None
    canvas, axes = _canvas()
    points.columns = ["x", "y"]
    if section.reference is None:
        axes.set(xlim=_padded(points["x"]), ylim=_padded(points["y"]))
    else:
        _root_scale(axes, "x", *_padded_root(points["x"]))
        _root_scale(axes, "y", *_padded_root(points["y"]))
        axes.axhline(0, color=MUTED, lw=0.8, zorder=1)
        axes.axvline(0, color=MUTED, lw=0.8, zorder=1)
    labels = _scatter(axes, section, points, style)
    svg, missing = _finish(canvas, axes, points, labels, title, names)
    return Figure(path, title, words + missing, svg)


def _cost(section: Section, style: _Style, path: str) -> Figure | None:
    """Draw time relative to retraining (log axis) against the distance to retraining."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ranked = [row.method for row in section.ranking]
    priced = section.values.reindex(columns=[TIME_RATIO, DISTANCE]).dropna() * [100, 1]
    points = priced[priced.index.isin(ranked, level="method") & (priced[TIME_RATIO] > 0)]
    if points.empty:
        return None
    canvas, axes = _canvas()
    points.columns = ["x", "y"]
    axes.set_xscale("log")
    axes.set_xlim(min(points["x"].min(), 100) / 2, max(points["x"].max(), 100) * 2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _root_scale(axes, "y", 0, 1.25 * max(points["y"].max(), section.spread or 0, 1.0))
    labels = _scatter(axes, section, points, style)
    axes.axvline(100, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    words = (
        "Lower is nearer to retraining, further left is cheaper; the dashed line is retraining’s "
        f"own time. The vertical scale is a square root. {_reading(section)}"
    )
    if section.spread is not None:
        axes.axhspan(0, section.spread, color=GRID, lw=0, zorder=0.5)
        words += " The band at the bottom is the distance between two retrainings."
    title = cost_title(section)
    names = ("Time, % of retraining (log scale)", "Distance to retraining, points")
    svg, missing = _finish(canvas, axes, points, labels, title, names)
    return Figure(path, title, words + missing, svg)


# More classes do not fit on a page: those that most predictions go to are drawn.
_MOST_CLASSES = 20


def _destinations(section: Section, path: str) -> Figure | None:
    """Draw as what the examples to forget are classified, one row per model."""
    from matplotlib.colors import LinearSegmentedColormap

    shares = section.by_class["forget_predicted_as"].dropna(how="all")
    shares = 100 * shares.reindex(
        [r.method for r in section.table.rows if r.method in shares.index]
    )
    if shares.empty:
        return None
    largest = set(shares.sum().nlargest(_MOST_CLASSES).index)
    shares = shares[[name for name in shares.columns if name in largest]]
    canvas, axes = _canvas((5.0, 1.3 + 0.27 * len(shares)))
    # One hue on mid-grey ground reads alike on light and dark pages.
    shade = LinearSegmentedColormap.from_list("shares", [PAPER, "#0173b2"])
    axes.pcolormesh(shares.to_numpy(), cmap=shade, vmin=0, vmax=100, edgecolor=GRID, linewidth=0.5)
    for i, row in enumerate(shares.to_numpy()):
        for j, value in enumerate(row):
            if value >= 0.5:
                ink = "#ffffff" if value > 55 else "#1a1b1e"
                axes.text(j + 0.5, i + 0.5, f"{value:.0f}", ha="center", va="center",
                          fontsize=7.5, color=ink)  # fmt: skip
    axes.set_xticks([j + 0.5 for j in range(len(shares.columns))], list(shares.columns))
    axes.set_yticks([i + 0.5 for i in range(len(shares))], list(shares.index))
    axes.tick_params(length=0)
    crowded = sum(map(len, shares.columns)) > 50
    axes.tick_params(axis="x", rotation=60 if crowded else 0)
    axes.grid(False)
    axes.invert_yaxis()
    axes.set_xlabel("Classified as", loc="left")
    title = "Where the examples to forget go"
    canvas.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold")
    words = (
        "Per cent of the examples to forget that each model classifies as each class, mean over "
        f"seeds (n = {len(section.seeds)})."
    )
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    return Figure(path, title, words, _accessible(buffer.getvalue(), title))


def _root_scale(axes: "Axes", name: str, low: float, high: float) -> None:
    """Scale an axis by the signed square root, with ticks at round values.

    Unlike a logarithm it has a place for 0; unlike a straight scale it tells 1 point from 2
    while 50 is still on the page.
    """
    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    def root(value: Any) -> Any:
        return np.sign(value) * np.sqrt(np.abs(value))

    def square(value: Any) -> Any:
        return np.sign(value) * np.square(value)

    if name == "x":
        axes.set_xscale("function", functions=(root, square))
        axes.set_xlim(low, high)
        axis: Axis = axes.xaxis
    else:
        axes.set_yscale("function", functions=(root, square))
        axes.set_ylim(low, high)
        axis = axes.yaxis
    least_gap = 0.09 * (root(high) - root(low))
    ticks: list[float] = []
    for tick in (0, *(s * t for t in (100, 50, 20, 10, 5, 2, 1, 0.5, 0.1) for s in (1, -1))):
        # Roundest first; one is left out where it would crowd those that stand already.
        crowded = any(abs(root(tick) - root(placed)) < least_gap for placed in ticks)
        if low <= tick <= high and not crowded:
            ticks.append(tick)
    signed = low < 0
    axis.set_major_locator(FixedLocator(sorted(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick_text(value, signed)))


def _tick_text(value: float, signed: bool) -> str:
    text = f"{abs(value):g}"
    return f"−{text}" if value < 0 else f"+{text}" if signed and value > 0 else text


def _canvas(size: tuple[float, float] = _SIZE) -> tuple["Canvas", "Axes"]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=size, layout="constrained")
    FigureCanvasSVG(canvas)
    return canvas, canvas.subplots()


def _scatter(axes: "Axes", section: Section, points: "pd.DataFrame", style: _Style) -> list[Label]:
    """Draw seeds small and means large; return the labels, to be placed on the final layout."""
    import seaborn

    rows = [row for row in section.table.rows if row.method in points.index.get_level_values(0)]
    names = [row.method for row in rows]
    looks = {name: style.get(name, (MUTED, "h")) for name in names}
    if section.reference is not None:
        looks[section.reference] = (INK, "*")
    palette = {name: colour for name, (colour, _) in looks.items()}
    markers = {name: marker for name, (_, marker) in looks.items()}
    means = points.groupby(level="method", sort=False).mean().reindex(names).reset_index()
    several = points.groupby(level="method").size().gt(1).any()
    common: dict[str, Any] = dict(
        x="x", y="y", hue="method", style="method", hue_order=names, style_order=names,
        palette=palette, markers=markers, legend=False, ax=axes, clip_on=False,
    )  # fmt: skip
    if several:
        seaborn.scatterplot(
            points.reset_index(), s=_SEED_SIZE, alpha=0.5, linewidth=0, zorder=3, **common
        )
    sizes = [_STAR_SIZE if name == section.reference else _MEAN_SIZE for name in means["method"]]
    seaborn.scatterplot(means, s=sizes, edgecolor=PAPER, linewidth=0.8, zorder=4, **common)
    return [
        Label(name, x, y, bold=name == section.reference)
        for name, x, y in zip(means["method"], means["x"], means["y"], strict=True)
    ]


def _finish(
    canvas: "Canvas",
    axes: "Axes",
    points: "pd.DataFrame",
    labels: list[Label],
    title: str,
    names: tuple[str, str],
) -> tuple[str, str]:
    """Title and label the axes, place the points' labels; return the SVG and what is missing."""
    import textwrap

    axes.set(xlabel="", ylabel="")
    axes.set_xlabel(names[0], loc="left")
    # A horizontal name of the y axis is read without turning the head.
    axes.set_title(names[1], loc="left", fontsize=9.5, color=MUTED, pad=8)
    lines = len(textwrap.wrap(title, _TITLE_WIDTH))
    # The narrowest width with as many lines: no word is left alone on the last one.
    widths = range(_TITLE_WIDTH // 2, _TITLE_WIDTH + 1)
    wrapped = next(w for w in (textwrap.wrap(title, width) for width in widths) if len(w) <= lines)
    canvas.suptitle("\n".join(wrapped), x=0.02, ha="left", fontsize=11, fontweight="bold")
    canvas.draw_without_rendering()
    canvas.set_layout_engine("none")
    dots = points.itertuples(index=False, name=None)
    left_out = place_labels(axes, labels, dots, INK, MUTED, PAPER)
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    words = f" No room for the labels of {', '.join(left_out)}: see the table." if left_out else ""
    return _accessible(buffer.getvalue(), title), words


def _accessible(svg: str, title: str) -> str:
    from html import escape

    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)


def _reading(section: Section) -> str:
    n = len(section.seeds)
    if n == 1:
        return "One seed (n = 1)."
    return f"Large marks are means, small ones the seeds (n = {n})."


def _padded(values: "pd.Series[float]") -> tuple[float, float]:
    """Limits of an axis of accuracies: the data with room, never narrower than 10 points."""
    low, high = float(values.min()), float(values.max())
    room = max(0.06 * (high - low), (10 - (high - low)) / 2)
    return max(low - room, -4), min(high + room, 104)


def _padded_root(values: "pd.Series[float]") -> tuple[float, float]:
    """Limits of an axis of gaps on the square-root scale, with at least 1 point either side."""
    low, high = min(float(values.min()), -1.0), max(float(values.max()), 1.0)
    room = 0.07 * (high**0.5 + abs(low) ** 0.5)
    return -((abs(low) ** 0.5 + room) ** 2), (high**0.5 + room) ** 2


def _slug(section: Section) -> str:
    parts = f"{section.dataset}-{section.model}-{section.scenario}".lower()
    return re.sub(r"[^a-z0-9]+", "-", parts).strip("-")[:60]
