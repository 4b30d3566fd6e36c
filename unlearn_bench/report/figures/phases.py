"""What a request costs: seconds spent once beforehand, and for each request."""

from collections.abc import Mapping

from matplotlib.ticker import MaxNLocator

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures.canvas import (
    INK,
    MUTED,
    PALETTE,
    Figure,
    Look,
    drawn_name,
    finish,
    new_canvas,
    seeds_reading,
    settle,
)
from unlearn_bench.report.text import share
from unlearn_bench.results.metrics import TIME_RATIO

_TOTAL, _ONCE = "wall_seconds", "wall_seconds_precompute"


def draw(section: Section, look: Look) -> Figure | None:
    """Draw one bar per method, retraining among them, the cheapest on top."""
    rows = [r.method for r in section.table.rows if r.kind != "control"]
    found = section.values.reindex(columns=[_TOTAL, _ONCE])
    found = found[found.index.isin(rows, level="method")].dropna(subset=[_TOTAL])
    seconds = found.groupby(level="method").mean().sort_values(_TOTAL, kind="stable")
    methods = [name for name in seconds.index if name != section.reference]
    if not methods:
        return None
    once, total = seconds[_ONCE].fillna(0.0), seconds[_TOTAL]
    canvas, axes = new_canvas((5.0, 1.5 + 0.2 * len(seconds)))
    places = range(len(seconds))
    # A bar of no length would still show its edge.
    axes.barh(
        places,
        once.where(once > 0),
        color=PALETTE[1],
        height=0.66,
        hatch="////",
        edgecolor=INK,
        linewidth=0.3,
        label="once, before any request",
    )
    axes.barh(
        places, total - once, left=once, color=PALETTE[0], height=0.66, label="for each request"
    )
    axes.set_yticks(list(places), [drawn_name(name) for name in seconds.index], fontsize=8.5)
    for tick, name in zip(axes.get_yticklabels(), seconds.index, strict=True):
        if name == section.reference:
            tick.set_fontweight("bold")
            tick.set_color(INK)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("Wall-clock seconds", loc="left")
    if section.reference in seconds.index:
        retrain = float(total[str(section.reference)])
        axes.axvline(retrain, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    axes.legend(loc="upper right" if len(seconds) > 6 else "best")
    words = (
        "Wall-clock seconds of one unlearning request, evaluation left out; the hatched part is "
        "done once (importances, masks, teachers) and need not be repeated. The dashed line is "
        f"retraining. {seeds_reading(section, seconds.index)}"
    )
    ratios = {
        name: ratio.mean for name in methods if (ratio := section.table.value(name, TIME_RATIO))
    }
    if ratios:
        words += " The title’s share is the mean of the seeds’ own ratios, as in the table."
    title = _title(ratios) if ratios else f"{methods[0]} took least, {total[methods[0]]:.2g} s"
    settle(canvas, title)
    data = seconds.assign(**{_ONCE: once}).reset_index()
    return finish(canvas, title, words, data)


def _title(ratios: Mapping[str, float]) -> str:
    """State who was cheapest, by the very ratios of the table, and how many saved nothing."""
    cheapest = min(ratios, key=lambda name: ratios[name])
    cost = f"{share(ratios[cheapest])} retraining’s time"
    if len(ratios) == 1:
        return f"{cheapest} took {cost}"
    longer = sum(ratio >= 1 for ratio in ratios.values()) or "none"
    return f"{cheapest} is the cheapest, at {cost}; {longer} of {len(ratios)} took longer"
