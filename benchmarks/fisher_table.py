"""Write the Markdown table of Fisher timings from the JSON files of test_fisher_speed.py.

Usage: ``python benchmarks/fisher_table.py reports/fisher/speed.md reports/fisher/speed*.json``.
"""

import json
import sys
from pathlib import Path

COLUMNS = ["ours", "batch-1 loop", "torch.func vmap", "nngeometry", "BackPACK"]


def table(record: dict) -> list[str]:
    """One table: a workload a row, ratios to a plain pass."""
    lines = [
        f"## malloc: {record['malloc']}",
        "",
        f"torch {record['torch']}, Python {record['python']}, {record['threads']} thread,"
        f" {record['date']}.",
        "",
        "| workload | load | plain, ms | " + " | ".join(COLUMNS) + " |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for workload, row in sorted(record["workloads"].items()):
        cells = []
        for column in COLUMNS:
            ratio, note = row["ratios"].get(column), row["notes"].get(column, "exact")
            figure = "" if ratio is None else f"{ratio:.2f}"
            cells.append(figure if note == "exact" else f"{figure} ({note})".strip())
        milliseconds = row["plain_seconds"] * 1e3
        head = f"| {workload} | {row.get('load', '')} | {milliseconds:.0f} | "
        lines.append(head + " | ".join(cells) + " |")
    return [*lines, ""]


def main(target: str, *sources: str) -> None:
    command = "FISHER_JSON=FILE pytest -m heavy benchmarks/test_fisher_speed.py"
    lines = [
        "# Time of the Fisher diagonal, as a multiple of one forward and backward pass",
        "",
        f"Measured by `{command}` with the extra `bench`, each peer interleaved with the plain pass"
        " in one process, medians of CPU time; written by"
        f" `python benchmarks/fisher_table.py {target} {' '.join(sources)}`.",
        "Notes in brackets: what a peer leaves out, or how it fails, against float64. `load` is"
        " the machine's load average: all above 1 is other work beside this one process;"
        " empty where not noted.",
        "",
    ]
    for source in sources:
        lines += table(json.loads(Path(source).read_text()))
    Path(target).write_text("\n".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
