"""Write ``records.csv`` of a committed report again, from the ``records.parquet`` beside it.

    python benchmarks/restore_records.py reports/digits ...

The large CSV files are not in git; `unlearn-bench report` and comparisons read them.
"""

import sys
from pathlib import Path

import pandas as pd

from unlearn_bench.results.records import as_cells


def restore(folder: Path) -> Path:
    """Write ``records.csv`` into a results folder and return its path."""
    path = folder / "records.csv"
    records = pd.read_parquet(folder / "records.parquet")
    path.write_text(as_cells(records.astype(object)).to_csv(index=False))
    return path


def main() -> None:
    for name in sys.argv[1:]:
        print(restore(Path(name)))


if __name__ == "__main__":
    main()
