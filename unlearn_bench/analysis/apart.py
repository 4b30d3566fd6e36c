"""Sections of ensembles trained in shards: shown below the section of the same data, never ranked.

A method that starts from an ensemble of its own is compared with retraining of that ensemble. Its
records bear the ensemble as their model, so all that is computed of a section holds for it too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from unlearn_bench.results.facts import Facts

if TYPE_CHECKING:
    from unlearn_bench.analysis.table import Section


def put_below(sections: Sequence["Section"], facts: Facts) -> tuple["Section", ...]:
    """Put the sections of ensembles below those of the same architecture, data and scenario.

    Args:
        sections: In order of appearance.
        facts: Say which models are ensembles, and of what.
    """
    below: dict[tuple[str, str, str], list[Section]] = {}
    above: list[Section] = []
    there = {(s.dataset, s.model, s.scenario) for s in sections}
    for section in sections:
        known = facts.ensembles.get(section.model)
        place = (section.dataset, known.whole if known else "", section.scenario)
        if place in there:
            below.setdefault(place, []).append(section)
        else:
            above.append(section)
    return tuple(
        replace(s, apart=tuple(below.get((s.dataset, s.model, s.scenario), ()))) for s in above
    )


def each(sections: Sequence["Section"]) -> Iterator["Section"]:
    """Yield every section, then those below it."""
    for section in sections:
        yield section
        yield from section.apart
