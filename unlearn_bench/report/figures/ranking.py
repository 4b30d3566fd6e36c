"""Mean ranks of the methods with their critical difference, over all seeds and scenarios."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures.canvas import (
    GRID,
    INK,
    MUTED,
    PALETTE,
    Figure,
    Look,
    drawn_name,
    finish,
    joined,
    new_canvas,
    settle,
)
from unlearn_bench.report.findings import blind
from unlearn_bench.report.limits import MOST_METHODS
from unlearn_bench.results.metrics import DISTANCE

if TYPE_CHECKING:
    import pandas as pd

FEWEST_CELLS = 2
_LEVEL = 0.05


def distances(sections: Sequence[Section]) -> "pd.DataFrame":
    """Return the distance of every method (columns) in every cell of section and seed (rows).

    Methods without a distance in some cell are left out.
    """
    import pandas as pd

    parts = []
    for number, section in enumerate(sections):
        methods = [row.method for row in section.ranking]
        if methods:
            own = section.values[DISTANCE].unstack("method").reindex(columns=methods)
            parts.append(own.set_axis([(number, seed) for seed in own.index]))
    if not parts:
        return pd.DataFrame()
    return pd.concat(parts).dropna(how="all").dropna(axis="columns")


def critical_difference(methods: int, cells: int) -> float:
    """Return by how much mean ranks must differ at 5 %, over all pairs (Nemenyi's test).

    Source: Demšar 2006, Statistical comparisons of classifiers over multiple data sets, JMLR 7.
    """
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - _LEVEL, methods, float("inf")))
    return quantile * float((methods * (methods + 1) / (12 * cells)) ** 0.5)


def why_absent(sections: Sequence[Section]) -> str:
    """Say why there is no ranking, or nothing where there is one."""
    found = distances(sections)
    if len(found.columns) < 2:
        return "No ranking: fewer than two methods have a distance in every seed and scenario."
    if len(found) < FEWEST_CELLS:
        return "No ranking with a critical difference: one seed of one scenario has no spread."
    return ""


def draw(sections: Sequence[Section], look: Look) -> Figure | None:
    """Draw mean ranks; bars of half a critical difference overlap where no pair is told apart."""
    found = distances(sections)
    if why_absent(sections):
        return None
    # Rounded to what is printed: noise of the last bit is no difference.
    ranks = found.round(1).rank(axis="columns")
    mean = ranks.mean().sort_values(kind="stable")
    cells, methods = ranks.shape
    width = critical_difference(methods, cells)
    p_value = friedman(found)
    within = [name for name in mean.index[1:] if mean[name] - mean.iloc[0] < width]
    unseeing = next(filter(None, map(blind, sections)), "")
    title = _title(list(mean.index), len(within), p_value, unseeing)
    data = mean.rename("mean_rank").rename_axis("method").reset_index()
    data["critical_difference"] = width
    mean = mean.iloc[:MOST_METHODS]
    canvas, axes = new_canvas((5.0, 1.5 + 0.2 * len(mean)))
    places = list(range(len(mean)))
    axes.axvspan(mean.iloc[0], mean.iloc[0] + width, color=GRID, alpha=0.7, lw=0, zorder=0.4)
    axes.hlines(
        places,
        (mean - width / 2).clip(lower=1),
        (mean + width / 2).clip(upper=methods),
        color=MUTED,
        lw=1,
    )
    for place, (name, rank) in enumerate(mean.items()):
        colour, marker = look.get(str(name), (PALETTE[0], "o"))
        axes.scatter([rank], [place], s=34, color=colour, marker=marker, zorder=3, clip_on=False)
    axes.set_yticks(places, [drawn_name(name) for name in mean.index], fontsize=8.5)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.get_yticklabels()[0].set_color(INK)
    axes.set_ylim(len(mean) - 0.4, -0.6)
    axes.set_xlim(0.5, methods + 0.5)
    axes.grid(False, axis="y")
    axes.set_xlabel("Mean rank, 1 is nearest", loc="left")
    of = "seeds" if len(sections) == 1 else "pairs of seed and scenario"
    p_text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    words = (
        f"Mean rank by distance to retraining over {cells} {of} (n = {cells}). Bars are the "
        f"critical difference of {width:.1f} ranks (Nemenyi, 5 %): methods whose bars do not "
        f"overlap differ; shaded is what lies that near to the first. Friedman test: {p_text}."
    )
    if methods > MOST_METHODS:
        words += f" The figure shows the first {MOST_METHODS} of {methods:,} methods."
    ranked = set(data["method"])
    absent = [
        row.method
        for section in sections
        for row in section.table.of_kind("method")
        if row.method not in ranked
    ]
    if absent:
        everywhere = "seed" if len(sections) == 1 else "seed and scenario"
        names = joined(dict.fromkeys(absent), most=30)
        words += f" Left out, without a distance in every {everywhere}: {names}."
    settle(canvas, title)
    return finish(canvas, title, words, data)


def _title(names: Sequence[str], within: int, p_value: float, blind: str) -> str:
    """State what the ranks show, of methods in their order, so many of them near the first.

    Nobody is named where the ranks mean nothing; ``blind`` says why.
    """
    methods, best = len(names), names[0]
    if blind:
        return f"Ranks of {methods} methods; no evidence of forgetting: {blind}"
    if p_value >= _LEVEL:
        return f"Ranks of {methods} methods do not differ (Friedman p = {p_value:.2g})"
    if within == methods - 1:
        return f"No method is ranked significantly behind {best}, the first"
    if within > 0:
        return (
            f"{best} ranks first; {within} of {methods - 1} others lie within the critical "
            "difference"
        )
    return f"{best} ranks first, by more than the critical difference to {joined(names[1:2])}"


def friedman(found: "pd.DataFrame") -> float:
    """Return the p-value of "all methods rank alike", corrected for ties, of two methods too.

    Source: Friedman 1937, Journal of the American Statistical Association 32.
    """
    import numpy as np
    from scipy.special import chdtrc

    ranks = found.round(1).rank(axis="columns")
    n, k = ranks.shape
    sizes = [np.unique(row, return_counts=True)[1] for row in ranks.to_numpy()]
    ties = sum(int((size**3 - size).sum()) for size in sizes)
    spread = 1 - ties / (n * k * (k * k - 1))
    if spread == 0:
        return 1.0
    sums = (ranks.sum().to_numpy() ** 2).sum()
    statistic = (12 * sums / (n * k * (k + 1)) - 3 * n * (k + 1)) / spread
    return float(chdtrc(k - 1, statistic))
