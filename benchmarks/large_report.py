"""How long the report of a very large suite takes, and how much memory: invented numbers.

Writes ``records.csv``, ``curves.parquet`` and ``suite.json`` of a suite that never ran, with every
metric of the package, and times ``unlearn-bench report`` on it in a process of its own::

    python benchmarks/large_report.py                              # 200,000 rows, 20 settings
    python benchmarks/large_report.py --settings 1 --methods 1500 --seeds 1
    python benchmarks/large_report.py --settings 150 --methods 4
    python benchmarks/large_report.py --settings 1 --methods 2 --seeds 20000 --metrics 12
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from unlearn_bench.results.curves import COLUMNS as CURVE_COLUMNS
from unlearn_bench.results.metrics import BUILT_IN
from unlearn_bench.results.records import COLUMNS

CONTROLS = {"retrain": "reference", "original": "control", "retrain_other_seed": "control"}
CLASSES = [f"class {number}" for number in range(10)]


def run_of_metrics(most: int) -> pd.DataFrame:
    """Return metric and split of every record of one run."""
    derived = ("time_ratio_to_retrain", "break_even_requests")
    pairs = [
        (name, split)
        for name, info in BUILT_IN.items()
        if name not in derived
        for split in (CLASSES if info.by_class else info.splits)
    ]
    # What distances and verdicts need comes first, so that few are enough.
    return pd.DataFrame(pairs[:most], columns=["metric", "split"])


def invented(settings: int, methods: int, seeds: int, metrics: int) -> pd.DataFrame:
    """Return the records of a suite."""
    rng = np.random.default_rng(0)
    names = {**CONTROLS, **{f"method_{number}": "method" for number in range(methods)}}
    runs = pd.MultiIndex.from_product(
        [[f"class:{number}" for number in range(settings)], [*names], range(seeds)],
        names=["scenario", "method", "seed"],
    ).to_frame(index=False)
    runs["run_key"] = [f"{number:032x}" for number in range(len(runs))]
    runs["kind"] = runs["method"].map(names)
    quality = dict(zip(names, np.linspace(0.95, 0.6, len(names)), strict=True))
    records = runs.merge(run_of_metrics(metrics), how="cross")
    spread = rng.normal(0, 0.01, len(records))
    records["value"] = (records["method"].map(quality) + spread).clip(1e-3, 1).round(6)
    fixed = dict.fromkeys(("low", "high", "gap_error"), np.nan) | {
        "status": "ok",
        "error": "",
        "params": "{}",
    }
    records = records.assign(dataset="invented", model="resnet18", **fixed)
    ratio = records[records["metric"] == "wall_seconds"].assign(metric="time_ratio_to_retrain")
    return pd.concat([records, ratio], ignore_index=True)[list(COLUMNS)]


def curves_of(records: pd.DataFrame) -> pd.DataFrame:
    """Return a ROC and a training curve of every run."""
    runs = records.drop_duplicates("run_key")[list(CURVE_COLUMNS[:7])]
    grid = np.linspace(0, 1, 60)
    points = pd.concat(
        [
            pd.DataFrame({"curve": "roc", "series": "mia_loss", "n": 100, "x": grid, "y": grid}),
            pd.DataFrame({"curve": "training", "series": "loss", "n": 0, "x": grid, "y": 1 - grid}),
        ]
    )
    return runs.merge(points, how="cross")[list(CURVE_COLUMNS)]


def write(folder: Path, records: pd.DataFrame) -> None:
    """Write a results folder."""
    records.to_csv(folder / "records.csv", index=False)
    curves_of(records).to_parquet(folder / "curves.parquet", index=False)
    suite = {"suite": {"name": "large"}, "plan": records["run_key"].unique().tolist()}
    (folder / "suite.json").write_text(json.dumps(suite))


def main() -> None:
    """Read the command line, write a suite and time its report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--settings", type=int, default=20)
    parser.add_argument("--methods", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--metrics", type=int, default=1000)
    parser.add_argument("--into", type=Path, help="write the folder here and do not time")
    given = parser.parse_args()
    records = invented(given.settings, given.methods, given.seeds, given.metrics)
    if given.into:
        given.into.mkdir(parents=True, exist_ok=True)
        write(given.into, records)
        return
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary), records)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "unlearn_bench", "report", temporary],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = sum(p.stat().st_size for p in Path(temporary).rglob("*") if p.is_file())
    print(
        f"{len(records):,} rows, {given.settings} settings, {given.methods} methods, {given.seeds} "
        f"seeds: {seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of CPU), "
        f"{used.ru_maxrss / 1e6:.2f} GB at most, folder {size / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
