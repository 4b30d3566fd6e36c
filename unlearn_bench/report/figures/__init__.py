"""The figures of a report: SVG and PDF files, the same bytes for the same numbers.

One file per figure; each gives the numbers that it draws as CSV, a title that states what they
show, and a caption that says n and how to read it. What a folder lacks is not drawn.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
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
from unlearn_bench.report.limits import settings_drawn
from unlearn_bench.report.many import of_section

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
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        # A label in a script that the measuring font lacks is drawn by the reader's own font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        overall = ranking.draw(sections, look)
        if overall is not None:
            drawn[OVERALL] = (overall.named("ranking"),)
        for index, whole in enumerate(sections[: settings_drawn(sections)]):
            section = nearest_only(whole)
            prefix = "" if len(sections) == 1 else f"{index + 1:02d}-{_slug(section)}-"
            found = [(name, make(section, look)) for name, make in _OF_RECORDS]
            own = _curves_of(section, curves)
            if own is not None:
                found.insert(2, ("roc", roc.draw(section, look, own)))
                found.insert(-3, ("training", training.draw(section, look, own)))
            if population is not None and len(population):
                found.insert(
                    2, ("privacy", privacy.draw(section, look, of_section(population, section)))
                )
            requests = (streams or {}).get(place_of(section))
            if requests is not None:
                found.insert(0, ("came-back", stream.draw_back(section, requests)))
                found.insert(1, ("requests", stream.draw_way(section, look, requests)))
            drawn[index] = tuple(
                explained(figure, whole).named(f"{prefix}{name}")
                for name, figure in found
                if figure is not None
            )
    return drawn


def _curves_of(section: Section, curves: "pd.DataFrame | None") -> "pd.DataFrame | None":
    if curves is None:
        return None
    own = curves[
        (curves["dataset"].astype(str) == section.dataset)
        & (curves["model"].astype(str) == section.model)
        & (curves["scenario"].astype(str) == section.scenario)
    ]
    return own if len(own) else None


def _slug(section: Section) -> str:
    parts = f"{section.dataset}-{section.model}-{section.scenario}".lower()
    return re.sub(r"[^a-z0-9]+", "-", parts).strip("-")[:60]
