"""The figures of a report: SVG and PDF files, the same bytes for the same numbers.

One file per figure; each gives the numbers that it draws as CSV, a title that states what they
show, and a caption that says n and how to read it. What a folder lacks is not drawn.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn_bench.analysis.stream import place_of
from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures import (
    accuracy,
    changed,
    classes,
    cost,
    phases,
    privacy,
    ranking,
    roc,
    stream,
    training,
    tuning,
)
from unlearn_bench.report.figures.canvas import RC, Figure, Look, inline, looks
from unlearn_bench.report.figures.drawable import explained, nearest_only
from unlearn_bench.report.figures.processes import side_by_side, silence
from unlearn_bench.report.limits import lines_drawn, settings_drawn
from unlearn_bench.report.many import of_section
from unlearn_bench.results.curves import ROC, TRAINING

if TYPE_CHECKING:
    import pandas as pd

    from unlearn_bench.analysis.stream import Place, Stream

__all__ = ["OVERALL", "Figure", "draw", "inline"]

# Where figures over all sections stand among those of each.
OVERALL = -1
_OF_RECORDS: tuple[tuple[str, Callable[[Section, Look], Figure | None]], ...] = (
    ("cost", cost.draw),
    ("accuracy", accuracy.draw),
    ("damage", classes.draw_damage),
    ("classes", classes.draw_destinations),
    ("phases", phases.draw),
    ("tuning", tuning.draw),
    ("changed", changed.draw),
)


def draw(
    sections: Sequence[Section],
    curves: "pd.DataFrame | None" = None,
    population: "pd.DataFrame | None" = None,
    streams: "Mapping[Place, Stream] | None" = None,
) -> dict[int, tuple[Figure, ...]]:
    """Draw every section that has something to show, keyed by its place in ``sections``.

    Args:
        sections: What was measured.
        curves: Points of all curves, from :func:`unlearn_bench.results.curves.read_curves`.
        population: What takes many models, columns as in ``population.parquet``.
        streams: Streams of requests by dataset, model and scenario.
    """
    if not any(row.seeds for section in sections for row in section.table.rows):
        return {}
    import matplotlib

    methods = sorted({row.method for s in sections for row in s.table.of_kind("method")})
    look = looks(methods)
    drawn: dict[int, tuple[Figure, ...]] = {}
    some = population if population is not None and len(population) else None
    settings = [
        _Setting(
            section,
            "" if len(sections) == 1 else f"{index + 1:02d}-{_slug(section)}-",
            look,
            _curves_of(section, curves),
            None if some is None else of_section(some, section),
            (streams or {}).get(place_of(section)),
        )
        for index, section in enumerate(sections[: settings_drawn(sections)])
    ]
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        silence()
        overall = ranking.draw(sections, look)
        if overall is not None:
            drawn[OVERALL] = (overall.named("ranking"),)
        lines = sum(lines_drawn(setting.section) for setting in settings)
        return drawn | dict(enumerate(side_by_side(_figures_of, settings, lines)))


@dataclass(frozen=True)
class _Setting:
    """What the figures of one setting are drawn from.

    Attributes:
        section: What was measured.
        prefix: Begins the names of its files.
        look: Of every method of the report.
        curves: Its own, if there are any.
        population: Its own rows, if the report has any.
        requests: Of its stream, if it is one.
    """

    section: Section
    prefix: str
    look: Look
    curves: "pd.DataFrame | None"
    population: "pd.DataFrame | None"
    requests: "Stream | None"


def _figures_of(setting: _Setting) -> tuple[Figure, ...]:
    """Draw one setting."""
    look, section = setting.look, nearest_only(setting.section)
    found = [(name, make(section, look)) for name, make in _OF_RECORDS]
    if setting.curves is not None:
        found.insert(2, ("roc", roc.draw(section, look, setting.curves)))
        found.insert(-3, ("training", training.draw(section, look, setting.curves)))
    if setting.population is not None:
        found.insert(2, ("privacy", privacy.draw(section, look, setting.population)))
    if setting.requests is not None:
        found.insert(0, ("came-back", stream.draw_back(section, setting.requests)))
        found.insert(1, ("requests", stream.draw_way(section, look, setting.requests)))
    return tuple(
        explained(figure, setting.section).named(f"{setting.prefix}{name}")
        for name, figure in found
        if figure is not None
    )


def _curves_of(section: Section, curves: "pd.DataFrame | None") -> "pd.DataFrame | None":
    """Return the curves of a section that are drawn, if there are any."""
    if curves is None:
        return None
    own = curves[
        curves["curve"].isin((ROC, TRAINING))
        & (curves["dataset"] == section.dataset)
        & (curves["model"] == section.model)
        & (curves["scenario"] == section.scenario)
    ]
    names = own.columns[own.dtypes == "category"]
    return own.astype(dict.fromkeys(names, "str")) if len(own) else None


def _slug(section: Section) -> str:
    parts = f"{section.dataset}-{section.model}-{section.scenario}".lower()
    return re.sub(r"[^a-z0-9]+", "-", parts).strip("-")[:60]
