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
from unlearn_bench.report.table import DISTANCE, ORIGINAL, TIME_RATIO, Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INK, MUTED, GRID, PAPER = "#1b1c1f", "#6a6d75", "#e3e3df", "#fffffe"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--rule)", PAPER: "var(--paper)"}
# Seaborn's colour-blind-safe palette without its yellow, light pink and grey, which fade on
# white paper; 7 colours and 8 markers share no factor, so 56 methods look different.
_PALETTE = (0, 1, 2, 3, 4, 5, 9)
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
_SIZE = (5.0, 4.0)
_SEED_SIZE, _MEAN_SIZE = 14, 62


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


_RC: Mapping[str, Any] = {
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
    figures = []
    measured = {"forget_accuracy", "retain_accuracy"} <= set(section.table.columns)
    if measured and section.values[["forget_accuracy", "retain_accuracy"]].dropna().size:
        figures.append(_accuracy(section, style, f"{prefix}accuracy.svg"))
    priced = {DISTANCE, TIME_RATIO} <= set(section.values.columns)
    if priced and any(section.table.value(row.method, TIME_RATIO) for row in section.ranking):
        figures.append(_cost(section, style, f"{prefix}cost.svg"))
    return figures


def _accuracy(section: Section, style: _Style, path: str) -> Figure:
    """Draw forget against retain accuracy, on the training examples, in percent."""
    canvas, axes = _canvas()
    points = 100 * section.values[["forget_accuracy", "retain_accuracy"]].dropna()
    points.columns = ["x", "y"]
    labels = _scatter(axes, section, points, style)
    axes.set_xlim(*_padded(points["x"], 0, 100))
    axes.set_ylim(*_padded(points["y"], 0, 100))
    title = accuracy_title(section)
    svg = _finish(canvas, axes, labels, title, "Forget accuracy, %", "Retain accuracy, %")
    target = (
        "The star is retraining, the target: left of it is over-forgetting, right of it too "
        "little forgotten, below it retained knowledge lost."
        if section.reference is not None
        else "Nothing was retrained, so the target is not known."
    )
    caption = f"Accuracy on the examples to forget and to retain. {_reading(section)} {target}"
    return Figure(path, title, caption, svg)


def _cost(section: Section, style: _Style, path: str) -> Figure:
    """Draw time relative to retraining (log axis) against the distance to retraining."""
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    canvas, axes = _canvas()
    ranked = [row.method for row in section.ranking]
    points = section.values.loc[ranked, [TIME_RATIO, DISTANCE]].dropna()
    points = points[points[TIME_RATIO] > 0] * [100, 1]
    points.columns = ["x", "y"]
    axes.set_xscale("log")
    # A square root shows 0, and tells 1 from 2 points while 50 is still on the page.
    axes.set_yscale("function", functions=(lambda y: abs(y) ** 0.5, lambda y: y**2))
    labels = _scatter(axes, section, points, style)
    low, high = min(points["x"].min(), 100), max(points["x"].max(), 100)
    axes.set_xlim(low / 2, high * 2)
    top = max(points["y"].max(), section.spread or 0, 1.0) * 1.25
    axes.set_ylim(0, top)
    axes.set_yticks([tick for tick in (0, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 100) if tick <= top and (top < 8 or tick in (0, 1, 5, 10, 20, 40, 60, 80, 100))])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        axis.set_minor_locator(NullLocator())
    if section.spread is not None:
        axes.axhspan(0, section.spread, color=GRID, lw=0, zorder=0.5)
    axes.axvline(100, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    title = cost_title(section)
    svg = _finish(
        canvas, axes, labels, title, "Time, % of retraining (log)", "Distance to retraining, points"
    )
    band = (
        " The shaded band is the distance between two retrainings: nearer than that is as good "
        "as retraining."
        if section.spread is not None
        else ""
    )
    caption = (
        f"Nearer to retraining is lower, cheaper is further left; the dashed line is "
        f"retraining’s own time. The vertical scale is a square root. {_reading(section)}{band}"
    )
    return Figure(path, title, caption, svg)


def _canvas() -> tuple["Canvas", "Axes"]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=_SIZE, layout="constrained")
    FigureCanvasSVG(canvas)
    return canvas, canvas.subplots()


def _scatter(axes: "Axes", section: Section, points: Any, style: _Style) -> list[Label]:
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
    seaborn.scatterplot(means, s=_MEAN_SIZE, edgecolor=PAPER, linewidth=0.8, zorder=4, **common)
    return [
        Label(name, x, y, bold=name == section.reference)
        for name, x, y in zip(means["method"], means["x"], means["y"], strict=True)
    ]


def _finish(
    canvas: "Canvas", axes: "Axes", labels: list[Label], title: str, x_label: str, y_label: str
) -> str:
    """Title and label the axes, place the points' labels, and return the SVG."""
    import textwrap

    axes.set(xlabel="", ylabel="")
    axes.set_xlabel(x_label, loc="left")
    # A horizontal name of the y axis is read without turning the head.
    axes.set_title(y_label, loc="left", fontsize=9.5, color=MUTED, pad=8)
    wrapped = "\n".join(textwrap.wrap(title, 46))
    canvas.suptitle(wrapped, x=0.02, ha="left", fontsize=11.5, fontweight="bold", color=INK)
    canvas.draw_without_rendering()
    canvas.set_layout_engine("none")
    place_labels(axes, labels, INK, MUTED)
    buffer = io.StringIO()
    canvas.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title}
    )
    return _accessible(buffer.getvalue(), title)


def _accessible(svg: str, title: str) -> str:
    from html import escape

    return re.sub(
        r"<svg ", f'<svg role="img" aria-label="{escape(title)}" ', svg, count=1
    )


def _reading(section: Section) -> str:
    n = len(section.seeds)
    if n == 1:
        return "One seed (n = 1)."
    return f"Large marks are means, small ones the seeds (n = {n})."


def _padded(values: Any, least: float, most: float) -> tuple[float, float]:
    """Limits of an accuracy axis: the data with room for labels, never narrower than 10 points."""
    low, high = float(values.min()), float(values.max())
    room = max(0.06 * (high - low), (10 - (high - low)) / 2, 1.0)
    return max(low - room, least - 4), min(high + room, most + 4)


def _slug(section: Section) -> str:
    parts = f"{section.dataset}-{section.model}-{section.scenario}".lower()
    return re.sub(r"[^a-z0-9]+", "-", parts).strip("-")[:60]
