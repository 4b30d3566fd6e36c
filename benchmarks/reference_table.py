"""Print the table of a results folder that reports/zoo/README.md shows, as Markdown.

Usage: python benchmarks/reference_table.py reports/zoo
"""

import sys
from pathlib import Path

import pandas as pd

from unlearn_bench.results.records import read_records

# CPU seconds over those of retraining the same network under the same seed: unlike the wall time
# that reports show, they hardly depend on what else the machine does.
CPU_RATIO = "cpu_ratio"
# Heading, metric, split, factor, decimals.
COLUMNS = (
    ("forget, %", "test_forget_accuracy", "test_forget", 100, 1),
    ("retain, %", "test_retain_accuracy", "test_retain", 100, 1),
    ("loss MIA AUC", "mia_loss_auc", None, 1, 3),
    ("probe leak, points", "probe_leak", None, 100, 1),
    ("BN recovery, %", "bn_recovery", "forget", 100, 1),
    ("CPU time, % of retraining", CPU_RATIO, None, 100, 0),
)
KINDS = ("reference", "control", "method")


def table(records: pd.DataFrame) -> str:
    """Return one line per method, mean and range over seeds; failed seeds are named."""
    seeds = records["seed"].nunique()
    records = pd.concat([records, _cpu_ratios(records)], ignore_index=True)
    lines = [
        f"| method | {' | '.join(heading for heading, *_ in COLUMNS)} |",
        f"|---|{'---:|' * len(COLUMNS)}",
    ]
    order = {}
    for kind in KINDS:
        for method in sorted(records.loc[records["kind"] == kind, "method"].unique()):
            mine = records[records["method"] == method]
            values = {}
            for _, metric, split, _, _ in COLUMNS:
                found = mine[(mine["metric"] == metric) & (mine["status"] == "ok")]
                if split is not None:
                    found = found[found["split"] == split]
                values[metric] = found["value"].astype(float)
            failed = mine.loc[mine["status"] == "failed", "seed"].nunique()
            name = method + (f" ({failed} of {seeds} seeds failed)" if failed else "")
            cells = [_cell(values[m], f, d) for _, m, _, f, d in COLUMNS]
            distance = mine.loc[mine["metric"] == "test_forget_accuracy", "value"]
            order[name] = (KINDS.index(kind), distance.astype(float).mean(), cells)
    for name, (_, _, cells) in sorted(order.items(), key=lambda item: item[1][:2]):
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cpu_ratios(records: pd.DataFrame) -> pd.DataFrame:
    spent = records[records["metric"] == "cpu_seconds"].copy()
    retrained = spent[spent["method"].str.match(r"retrain( of .*)?$")]
    by_seed = retrained.set_index(["model", "seed"])["value"].astype(float)
    keys = pd.MultiIndex.from_frame(spent[["model", "seed"]])
    spent["value"] = spent["value"].astype(float).to_numpy() / by_seed.reindex(keys).to_numpy()
    return spent.assign(metric=CPU_RATIO)


def _cell(values: pd.Series, factor: float, decimals: int) -> str:
    if values.empty:
        return "–"
    numbers = (values.mean(), values.min(), values.max())
    mean, low, high = (_number(factor * value, decimals) for value in numbers)
    return mean if low == high else f"{mean} ({low} to {high})"


def _number(value: float, decimals: int) -> str:
    # Rounded first, and nothing added: what rounds to zero has no sign.
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


if __name__ == "__main__":
    print(table(read_records(Path(sys.argv[1]))))
