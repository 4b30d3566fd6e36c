"""How often does the rule of verdict err? Simulated with metrics of known distribution.

    python benchmarks/verdict_rule.py --draws 500 --out reports/verdict/README.md

Every draw invents seven metrics of an unlearned model and of two retrainings in each seed, and asks
the package's own test and limits. Metrics are normal (independent, or correlated by 0.5 or 0.9),
heavy-tailed (Student's t with 3 degrees of freedom), lognormal, rounded to whole spreads, or share
an effect of the seed that is twice their spread. The spread of a retraining is 1, floors are 0.1.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unlearn_bench.analysis.exchange import LEVEL, exchange, smallest_p_value
from unlearn_bench.analysis.nearness import AUC_LIMIT, NEARNESS_LIMIT, joint_auc, nearness

Floats = NDArray[np.float64]
Shape = tuple[int, int, int]
METRICS = 7
SEEDS = (3, 5, 8, 16, 32)
FLOOR = 0.1


def correlated(rng: np.random.Generator, shape: Shape, share: float) -> Floats:
    """Return normal metrics whose correlation is ``share``."""
    common = rng.standard_normal((*shape[:2], 1))
    return np.sqrt(1 - share) * rng.standard_normal(shape) + np.sqrt(share) * common


KINDS: dict[str, Callable[[np.random.Generator, Shape], Floats]] = {
    "independent": lambda rng, shape: rng.standard_normal(shape),
    "correlated 0.5": lambda rng, shape: correlated(rng, shape, 0.5),
    "correlated 0.9": lambda rng, shape: correlated(rng, shape, 0.9),
    "t, 3 degrees": lambda rng, shape: rng.standard_t(3, size=shape) / np.sqrt(3),
    "lognormal": lambda rng, shape: np.exp(rng.standard_normal(shape)) / np.sqrt((np.e - 1) * np.e),
    "rounded": lambda rng, shape: np.round(rng.standard_normal(shape)),
    "effect of the seed": lambda rng, shape: (
        rng.standard_normal(shape) + 2 * rng.standard_normal((shape[0], 1, shape[2]))
    ),
}
# What the unlearned model has more than a retraining, per metric.
SHIFTS: dict[str, Floats] = {
    "exact retraining": np.zeros(METRICS),
    "one metric off by 2": np.eye(METRICS)[0] * 2,
    "all metrics off by 1": np.ones(METRICS),
}


def rates(kind: str, seeds: int, retrainings: int, draws: int) -> list[tuple[float, float, float]]:
    """Return, per shift, how often each verdict falls and the median number of spreads."""
    found = []
    floors = np.full(METRICS, FLOOR)
    for shift in SHIFTS.values():
        rng = np.random.default_rng(seeds)
        apart = passing = 0
        spreads = []
        for _ in range(draws):
            values = KINDS[kind](rng, (seeds, 1 + retrainings, METRICS))
            values[:, 0] += shift
            told = exchange(values, floors).p_value <= LEVEL
            spreads.append(float(nearness(values, floors).max()))
            apart += told
            if not told and spreads[-1] <= NEARNESS_LIMIT:
                passing += joint_auc(values, floors) <= AUC_LIMIT
        found.append((apart / draws, passing / draws, float(np.median(spreads))))
    return found


def table(retrainings: int, draws: int, jobs: int) -> str:
    """Return the rates of all kinds of metrics and numbers of seeds as a Markdown table."""
    heads = [f"{name}: D / I / spreads" for name in SHIFTS]
    lines = [
        f"| metrics | seeds | {' | '.join(heads)} |",
        "| --- | ---: |" + " ---: |" * len(SHIFTS),
    ]
    cases = [
        (kind, seeds)
        for kind, seeds in product(KINDS, SEEDS)
        if smallest_p_value(seeds, 1 + retrainings) <= LEVEL
    ]
    with ProcessPoolExecutor(jobs) as pool:
        runs = [pool.submit(rates, kind, seeds, retrainings, draws) for kind, seeds in cases]
        for (kind, seeds), run in zip(cases, runs, strict=True):
            cells = (f"{100 * d:.1f} / {100 * i:.1f} / {s:.1f}" for d, i, s in run.result())
            lines.append(f"| {kind} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print or write both tables."""
    given = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    given.add_argument("--draws", type=int, default=500)
    given.add_argument("--jobs", type=int, default=2)
    given.add_argument("--out", type=Path, help="a Markdown file with the marks of the tables")
    asked = given.parse_args()
    for retrainings in (2, 4):
        text = table(retrainings, asked.draws, asked.jobs)
        if asked.out is None:
            print(f"\n{retrainings} retrainings per seed\n\n{text}")
            continue
        page = asked.out.read_text()
        start, end = (f"<!-- {retrainings} retrainings{mark} -->" for mark in ("", ", end"))
        before, _, rest = page.partition(start)
        after = rest.partition(end)[2]
        asked.out.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}")


if __name__ == "__main__":
    main()
