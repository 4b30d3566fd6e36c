"""Write what a large suite costs in units of one retraining, from the records of reports.

python benchmarks/scale.py reports/zoo reports/digits > reports/scale.md
"""

import argparse
from pathlib import Path

import pandas as pd

GPUS, MINUTES = (1, 8, 64), (1, 10, 60)
# The original, its retraining and the retraining that it is compared with.
TRAININGS = 3


def costs(folder: Path) -> tuple[pd.Series, float, float]:
    """Return methods' CPU time, and evaluating's, in retrainings; and runs per seed."""
    records = pd.read_parquet(folder / "records.parquet")
    records = records[records["status"] == "ok"]
    means = records.groupby(["kind", "method", "metric"])["value"].mean()
    retrain = means["reference", "retrain"]
    evaluating = records[records["metric"] == "wall_seconds_evaluate"]["value"].mean()
    runs = records["run_key"].nunique() / records["seed"].nunique()
    methods = means["method"].xs("cpu_seconds", level="metric") / retrain["cpu_seconds"]
    return methods, evaluating / retrain["wall_seconds"], runs


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--places", type=int, default=15, help="datasets x models")
    given = parser.parse_args()
    command = " ".join(["python benchmarks/scale.py", *map(str, given.folders)])
    print(f"# What a large suite costs\n\nWritten by `{command}`.\n\n## Measured, in retrainings\n")
    print("Methods by CPU time; evaluation by wall time, per run.\n")
    print("| report | methods | all | median | largest | evaluation |\n|---|---|---|---|---|---|")
    totals = {}
    for folder in given.folders:
        methods, evaluating, runs = costs(folder)
        largest = f"{methods.max():.1f} (`{methods.idxmax()}`)"
        print(
            f"| {folder.name} | {len(methods)} | {methods.sum():.1f} | {methods.median():.2f} | "
            f"{largest} | {evaluating:.3f} |"
        )
        one = TRAININGS + methods.sum() + runs * evaluating
        totals[folder.name] = one * given.seeds * given.places
    print(f"\n## {given.seeds} seeds, {given.places} pairs of dataset and model\n")
    print("Hours, one run at a time on each GPU, none idle. Ratios are the reports', from CPUs.\n")
    heads = (f"{n} GPU{'s' * (n > 1)} |" for n in GPUS)
    print("| costs of | retrainings | minutes of one |", *heads)
    print("|---|---|---|" + "---|" * len(GPUS))
    for name, total in totals.items():
        for minutes in MINUTES:
            hours = (f"{total * minutes / 60 / n:,.0f} |" for n in GPUS)
            print(f"| {name} | {total:,.0f} | {minutes} |", *hours)


if __name__ == "__main__":
    main()
