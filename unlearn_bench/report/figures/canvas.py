"""What all figures share: their type, colours, marks, scales, and the way into a file.

Colours of ink, grid, paper and methods are fixed hex values in the files; on the HTML page they
become CSS variables (:func:`inline`), so that one drawing serves the light and the dark theme.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

from unlearn_bench.analysis.table import ORIGINAL, Section
from unlearn_bench.core.text import shortened
from unlearn_bench.report.limits import MOST_SEEDS
from unlearn_bench.results.checks import as_cells

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas

    from unlearn_bench.report.figures.labels import Label

INK, MUTED, GRID, PAPER = "#1b1c1f", "#5f636c", "#e3e3df", "#fffffe"
# Seaborn's colour-blind-safe palette without its yellow, light pink and grey, which fade on
# white paper; 7 colours and 8 markers share no factor, so 56 methods look different.
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--rule)",
    PAPER: "var(--paper)",
    **{colour: f"var(--c{i})" for i, colour in enumerate(PALETTE)},
}
LOSS, GAIN = PALETTE[3], PALETTE[0]
SIZE = (5.0, 4.1)
# Characters of a title that fit an inch of width.
_TITLE_CHARACTERS = 9.6
# Characters that are drawn of a title and of a name; tables and captions have all of them.
_LONGEST_TITLE, _LONGEST_NAME = 240, 40
_SEED_SIZE, _MEAN_SIZE, _STAR_SIZE = 12, 52, 170

RC: dict[Any, Any] = {
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
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.frameon": True,
    "legend.facecolor": PAPER,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.9,
    "axes.ymargin": 0.015,
    "legend.fontsize": 8.5,
}

# Colour and marker of every method, the same in all figures of a report.
Look = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Figure:
    """One drawing with its words and its numbers.

    Attributes:
        title: The finding, also drawn in the figure.
        caption: What n is and how to read it.
        svg: The drawing.
        pdf: The same drawing for print.
        data: The numbers that are drawn, as CSV.
        wide: Whether it takes the page's whole width.
        name: Its file's name without suffix.
    """

    title: str
    caption: str
    svg: str
    pdf: bytes
    data: str
    wide: bool = False
    name: str = ""

    def named(self, name: str) -> "Figure":
        """Return the figure under a file name."""
        return replace(self, name=name)

    @property
    def path(self) -> str:
        """Place of the SVG below the results folder."""
        return f"figures/{self.name}.svg"

    @property
    def pdf_path(self) -> str:
        """Place of the PDF below the results folder."""
        return f"figures/{self.name}.pdf"


def looks(methods: Sequence[str]) -> Look:
    """Give every method one colour and one marker for the whole report."""
    return {
        method: (PALETTE[i % len(PALETTE)], _MARKERS[i % len(_MARKERS)])
        for i, method in enumerate(methods)
    } | {ORIGINAL: (MUTED, "d")}


def look_of(section: Section, look: Look, method: str) -> tuple[str, str]:
    """Return a row's colour and marker; retraining is a star in ink, other controls are grey."""
    return (INK, "*") if method == section.reference else look.get(method, (MUTED, "h"))


def drawn_name(name: object) -> str:
    """Return a name as it is drawn: no longer than a figure has room for."""
    return shortened(str(name), _LONGEST_NAME)


def new_canvas(size: tuple[float, float] = SIZE) -> tuple["Canvas", "Axes"]:
    """Return a drawing with one pair of axes; size in inches."""
    canvas = bare_canvas(size)
    return canvas, canvas.subplots()


def bare_canvas(size: tuple[float, float]) -> "Canvas":
    """Return an empty drawing; size in inches."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=size, layout="constrained")
    FigureCanvasSVG(canvas)
    return canvas


def name_axes(axes: "Axes", x: str, y: str = "") -> None:
    """Name both axes; the name of the upright one is read without turning the head."""
    axes.set_xlabel(x, loc="left")
    if y:
        axes.set_title(y, loc="left", fontsize=9.5, color=MUTED, pad=8)


def settle(canvas: "Canvas", title: str) -> None:
    """Write the title, wrapped, and fix the layout: what is placed from now on stays put."""
    import textwrap

    title = shortened(title, _LONGEST_TITLE)
    full = int(canvas.get_figwidth() * _TITLE_CHARACTERS)
    lines = len(textwrap.wrap(title, full))
    # The narrowest width with as many lines: no word is left alone on the last one.
    wrapped = next(
        w for w in (textwrap.wrap(title, n) for n in range(full // 2, full + 1)) if len(w) <= lines
    )
    left = 0.1 / canvas.get_figwidth()
    canvas.suptitle("\n".join(wrapped), x=left, ha="left", fontsize=11, fontweight="bold")
    engine = canvas.get_layout_engine()
    assert engine is not None, "every canvas is made with one"
    engine.execute(canvas)
    canvas.set_layout_engine("none")


def finish(
    canvas: "Canvas",
    title: str,
    caption: str,
    data: "pd.DataFrame",
    names: Mapping[str, str] | None = None,
    wide: bool = False,
) -> Figure:
    """Write a settled drawing into files.

    Args:
        canvas: After :func:`settle`.
        title: The finding.
        caption: What n is and how to read it.
        data: The numbers drawn.
        names: What a mark of a given gid is called when a reader points at it.
        wide: Whether it takes the page's whole width.
    """
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    svg, pdf = io.StringIO(), io.BytesIO()
    # Not savefig: it draws everything once more before it writes.
    FigureCanvasSVG(canvas).print_svg(svg, metadata={"Date": None, "Creator": None, "Title": title})
    FigureCanvasPdf(canvas).print_pdf(pdf, metadata={"CreationDate": None, "Title": title})
    text = svg.getvalue().replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    for gid, name in (names or {}).items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{escape(name)}</title>')
    numbers = as_cells(data).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return Figure(title, caption, text, pdf.getvalue(), numbers, wide)


def inline(svg: str) -> str:
    """Make a stand-alone SVG part of an HTML page: no prologue, no fixed theme, no ids to clash."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' xmlns(:xlink)?="[^"]*"', "", body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body)
    # Half of matplotlib's bytes are blanks, line ends and repeated font names.
    body = re.sub(r"font: (\w+ )?([\d.]+)px [^;\"]*", r"font: \1\2px sans-serif", body)
    body = re.sub(r' (d|x|y|transform)="[^"]*"', lambda found: _rounded(found[0]), body)
    body = re.sub(r">\s+<", "><", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    return body


def _rounded(attribute: str) -> str:
    """Cut coordinates to hundredths of a point."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute)


def scatter(
    axes: "Axes", section: Section, points: "pd.DataFrame", look: Look
) -> tuple[list["Label"], dict[str, str]]:
    """Draw seeds small and means large.

    Args:
        axes: Where.
        section: For the order of its rows.
        points: Columns ``x`` and ``y``, indexed by method and seed.
        look: Colour and marker of every method.

    Returns:
        The labels, to be placed on the final layout, and the names of the marks.
    """
    from unlearn_bench.report.figures.labels import Label

    measured = set(points.index.get_level_values("method"))
    several = points.groupby(level="method").size().gt(1).any()
    labels, names = [], {}
    for number, row in enumerate(row for row in section.table.rows if row.method in measured):
        colour, marker = look_of(section, look, row.method)
        of_row = points[points.index.get_level_values("method") == row.method]
        x, y = float(of_row["x"].mean()), float(of_row["y"].mean())
        common: dict[str, Any] = {"color": colour, "marker": marker, "clip_on": False}
        if several:
            seeds = of_row.iloc[:MOST_SEEDS]
            axes.scatter(
                seeds["x"], seeds["y"], s=_SEED_SIZE, alpha=0.5, linewidth=0, zorder=3, **common
            )
        is_reference = row.method == section.reference
        axes.scatter(
            [x],
            [y],
            s=_STAR_SIZE if is_reference else _MEAN_SIZE,
            edgecolor=PAPER,
            linewidth=0.8,
            zorder=4,
            gid=f"mark-{number}",
            **common,
        )
        names[f"mark-{number}"] = row.method
        labels.append(Label(drawn_name(row.method), x, y, bold=is_reference))
    return labels, names


def write_labels(axes: "Axes", labels: Sequence["Label"], points: "pd.DataFrame") -> str:
    """Place labels on a settled layout; return a sentence about those without room."""
    from unlearn_bench.report.figures.labels import place_labels

    drawn = points.groupby(level="method", sort=False).head(MOST_SEEDS)
    dots = drawn[["x", "y"]].itertuples(index=False, name=None)
    left_out = place_labels(axes, labels, dots, INK, MUTED, PAPER)
    if not left_out:
        return ""
    return f" No room for the labels of {', '.join(left_out)}: see the table."


def reading(section: Section, drawn: Iterable[str]) -> str:
    """Say what large and small marks are, and n."""
    n = len(section.seeds)
    if n == 1:
        return "One seed (n = 1)."
    seeds = f"the first {MOST_SEEDS} seeds" if n > MOST_SEEDS else "the seeds"
    return f"Large marks are means, small ones {seeds} ({_n_text(section, drawn)})."


def seeds_reading(section: Section, drawn: Iterable[str]) -> str:
    """Say over how many seeds a mean was taken."""
    if len(section.seeds) == 1:
        return "One seed (n = 1)."
    return f"Means over seeds ({_n_text(section, drawn)})."


def _n_text(section: Section, drawn: Iterable[str]) -> str:
    """Write n, and name those among the rows drawn that have fewer seeds."""
    n, wanted = len(section.seeds), set(drawn)
    fewer: dict[int, list[str]] = {}
    for row in section.table.rows:
        if row.method in wanted and len(row.seeds) < n:
            fewer.setdefault(len(row.seeds), []).append(row.method)
    told = (f"{joined(names, most=30)} n = {count}" for count, names in sorted(fewer.items()))
    return "; ".join((f"n = {n}", *told))


def padded(values: "pd.Series[float]") -> tuple[float, float]:
    """Limits of an axis of accuracies: the data with room, never narrower than 10 points."""
    low, high = float(values.min()), float(values.max())
    room = max(0.06 * (high - low), (10 - (high - low)) / 2)
    return max(low - room, -4), min(high + room, 104)


def padded_root(values: "pd.Series[float]") -> tuple[float, float]:
    """Limits of an axis of gaps on the square-root scale, with at least 1 point either side."""
    low, high = min(float(values.min()), -1.0), max(float(values.max()), 1.0)
    room = 0.07 * (high**0.5 + abs(low) ** 0.5)
    return -((abs(low) ** 0.5 + room) ** 2), (high**0.5 + room) ** 2


def root_scale(axes: "Axes", name: str, low: float, high: float) -> None:
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
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value, signed)))


def tick_text(value: float, signed: bool = False) -> str:
    """Write a tick with a true minus sign, and a plus where gaps are meant."""
    text = f"{abs(value):g}"
    return f"−{text}" if value < 0 else f"+{text}" if signed and value > 0 else text


def plain_log_ticks(axis: "Axis") -> None:
    """Write the ticks of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def joined(names: Iterable[str], most: int = 3) -> str:
    """Join names as prose, cutting a long list short."""
    listed = list(names)
    if len(listed) > most:
        listed = [*listed[: most - 1], f"{len(listed) - most + 1} others"]
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} and {listed[-1]}"
