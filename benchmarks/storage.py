"""Say how many bytes a suite keeps: for each run in its folder, for each model in the store.

UNLEARN_BENCH_HOME=store unlearn-bench run digits --methods finetune,neg_grad_plus,ssd --seeds 1 \
    --out results
python benchmarks/storage.py results store
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from unlearn_bench.results.records import read_suite
from unlearn_bench.store import layout


def of_results(folder: Path) -> Counter[str]:
    """Return the bytes of a results folder by what lies in it; ``runs/`` among them."""
    sizes: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.is_file():
            first = path.relative_to(folder).parts[0]
            sizes["briefs" if first.startswith(".brief-") else first] += path.stat().st_size
    return sizes


def of_store(home: Path) -> dict[str, list[int]]:
    """Return the bytes of every artifact of a store, by kind."""
    sizes: dict[str, list[int]] = {}
    for folder in layout.folders(home):
        size = sum(path.stat().st_size for path in folder.iterdir())
        sizes.setdefault(folder.parent.name, []).append(size)
    return sizes


def lines(folder: Path, home: Path) -> Iterator[str]:
    """Yield the lines of two Markdown tables."""
    runs = len(read_suite(folder)["plan"])
    yield f"| results, {runs} runs | KB | KB a run |"
    yield "|---|---|---|"
    sizes = of_results(folder)
    for name, size in sizes.most_common():
        yield f"| `{name}` | {size / 1e3:,.0f} | {size / 1e3 / runs:,.1f} |"
    yield f"| all | {sizes.total() / 1e3:,.0f} | {sizes.total() / 1e3 / runs:,.1f} |"
    yield "\n| store | artifacts | KB each | KB a run |"
    yield "|---|---|---|---|"
    for kind, each in sorted(of_store(home).items()):
        total = sum(each) / 1e3
        yield f"| {kind} | {len(each)} | {total / len(each):,.0f} | {total / runs:,.0f} |"


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("store", type=Path)
    given = parser.parse_args()
    print("\n".join(lines(given.results, given.store)))


if __name__ == "__main__":
    main()
