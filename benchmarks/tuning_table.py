"""Compare what tuning made of every method on the true forget set, as a Markdown table.

    unlearn-bench run digits --params none --out reports/tuning/digits-default
    unlearn-bench run digits --out reports/tuning/digits-tuned
    python benchmarks/tuning_table.py reports/tuning/digits-default reports/tuning/digits-tuned

Printed is the distance to retraining in points under the published default and under the tuned
setting, the difference paired by seed with its 95 % interval, and what the surrogates had promised.
A third folder, such as one tuned by random search, gets a column of its own, and a line that
compares it with the second.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearn_bench.analysis.estimate import Estimate, estimate
from unlearn_bench.analysis.table import Section
from unlearn_bench.report.content import read_content
from unlearn_bench.report.text import plus_minus
from unlearn_bench.report.tuning import fresh
from unlearn_bench.results.metrics import DISTANCE

# A default that is nearer than this to retraining, in points, has no room to be tuned.
ROOM = 1.0


def distances(section: Section, method: str) -> dict[int, float]:
    """Return a method's distance to retraining by seed."""
    runs, place = section.runs(method), section.places[DISTANCE]
    found = zip(runs.seeds, runs.values[:, place], strict=True)
    return {int(seed): float(value) for seed, value in found if not math.isnan(value)}


def gain(before: dict[int, float], after: dict[int, float]) -> Estimate | None:
    """Return tuned minus default, paired by seed."""
    return estimate(after[seed] - before[seed] for seed in before if seed in after)


def chosen(section: Section, method: str) -> Mapping[str, Any]:
    """Return the setting that a method was tuned to; empty where it was not tuned."""
    found = section.tuned.methods.get(method) if section.tuned else None
    return found.params if found else {}


def main() -> None:
    """Print one table per dataset, model and scenario, and how many methods gained."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("default", type=Path)
    parser.add_argument("tuned", type=Path)
    parser.add_argument("others", type=Path, nargs="*")
    args = parser.parse_args()
    folders = [args.default, args.tuned, *args.others]
    contents = [read_content(folder).sections for folder in folders]
    for sections in zip(*contents, strict=True):
        print(f"\n### {sections[0].title}\n")
        table([of.section for of in sections], [folder.name for folder in folders])


def table(sections: list[Section], names: list[str]) -> None:
    """Print the table of one dataset, model and scenario."""
    print("| " + " | ".join(["Method", *names, "Tuned − default", "On the fresh seed"]) + " |")
    print("|---" * (len(names) + 3) + "|")
    room = better = 0
    worse = []
    against: dict[str, list[float]] = {name: [] for name in names[2:]}
    setting = sections[1].tuned
    for row in sections[1].table.of_kind("method"):
        by_folder = [distances(section, row.method) for section in sections]
        means = [estimate(found.values()) for found in by_folder]
        change = gain(by_folder[0], by_folder[1])
        promised = setting.methods.get(row.method) if setting else None
        cells = [*(plus_minus(m, 1) if m else "–" for m in means)]
        cells += [plus_minus(change, 1, sign=True) if change else "–"]
        cells += [fresh(promised.check) if promised else "–"]
        print(f"| {row.method} | " + " | ".join(cells) + " |")
        if change and means[0] and means[0].mean > ROOM:
            room += 1
            better += change.mean < 0
            worse += [row.method] if change.mean > 0 else []
            for name, other, found in zip(names[2:], sections[2:], by_folder[2:], strict=True):
                apart = gain(by_folder[1], found)
                if apart and chosen(other, row.method) != chosen(sections[1], row.method):
                    against[name].append(apart.mean)
    print(
        f"\nOf {room} methods with room (default more than {ROOM:g} points away) {better} came "
        f"nearer; farther away: {', '.join(worse) or 'none'}."
    )
    for name, differences in against.items():
        mean = estimate(differences)
        print(
            f"\n{name} beside {names[1]}, {len(differences)} methods with room and other settings: "
            f"{sum(d < 0 for d in differences)} nearer, "
            f"{sum(d > 0 for d in differences)} farther; on average "
            f"{plus_minus(mean, 1, sign=True) if mean else '–'} points."
        )


if __name__ == "__main__":
    main()
