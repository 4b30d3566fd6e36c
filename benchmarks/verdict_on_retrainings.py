"""How often is exact retraining called DISTINGUISHABLE? Suites drawn from real retrained models.

    unlearn-bench run digits --methods retrain --references 41 --seeds 1 --out runs/retrainings
    python benchmarks/verdict_on_retrainings.py runs/retrainings

Every draw takes some of the retrained models at random, three for each of the seeds of a suite, and
calls one of the three the unlearned one. Whatever the rule says of it is an error.
"""

import argparse
from pathlib import Path

import numpy as np

from unlearn_bench.analysis.exchange import LEVEL, exchange
from unlearn_bench.analysis.nearness import AUC_LIMIT, NEARNESS_LIMIT, joint_auc, nearness
from unlearn_bench.analysis.verdict import primary, retrainings
from unlearn_bench.report.provenance import read_report


def main() -> None:
    """Print one line per number of seeds."""
    given = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    given.add_argument("folder", type=Path)
    given.add_argument("--suites", type=int, default=200)
    asked = given.parse_args()
    (section,) = read_report(asked.folder).sections
    floors = {c: f for c, f in primary(section).items() if c in section.places}
    places = [section.places[column] for column in floors]
    rows = [str(section.reference), *retrainings(section)]
    models = np.concatenate([section.runs(row).values[:, places] for row in rows])
    models = models[~np.isnan(models).any(1)]
    print(f"{len(models)} retrained models, {len(floors)} primary metrics, {asked.suites} suites")
    print(
        "spread of each:", dict(zip(floors, models.std(0, ddof=1).round(4).tolist(), strict=True))
    )
    limits = np.array(list(floors.values()))
    for seeds in (n for n in (3, 5, 8, 13) if 3 * n <= len(models)):
        rng = np.random.default_rng(seeds)
        apart = passing = 0
        for _ in range(asked.suites):
            drawn = models[rng.permutation(len(models))[: 3 * seeds]].reshape(seeds, 3, -1)
            told = exchange(drawn, limits).p_value <= LEVEL
            apart += told
            if not told and nearness(drawn, limits).max() <= (NEARNESS_LIMIT):
                passing += joint_auc(drawn, limits) <= AUC_LIMIT
        shares = (f"{100 * count / asked.suites:.1f} %" for count in (apart, passing))
        print(f"{seeds} seeds: DISTINGUISHABLE {next(shares)}, INDISTINGUISHABLE {next(shares)}")


if __name__ == "__main__":
    main()
