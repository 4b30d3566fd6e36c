"""Whether verdicts stay the same when training is computed in another way, as a Markdown table.

    python benchmarks/rounding_verdicts.py [WAY ...]

Runs the suite digits with five methods and three seeds once per way, originals and retrained models
included, and prints each method's verdict, distance to retraining in points and p-value. A way
takes a minute on two quiet cores, compiling about three.
"""

import sys
import tempfile
from pathlib import Path

import yaml

import unlearn_bench
from unlearn_bench.analysis.verdict import verdicts as section_verdicts
from unlearn_bench.report.content import read_content
from unlearn_bench.report.text import plus_minus
from unlearn_bench.results.metrics import DISTANCE
from unlearn_bench.suite import config

METHODS = ("pbu", "scissorhands", "salun", "delete", "finetune")
WAYS = {
    "fp32": {},
    "channels_last": {"memory_format": "channels_last"},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": True},
}


def verdicts(way: str, folder: Path) -> dict[str, str]:
    """Return one cell per method: the verdict, the distance in points and the p-value."""
    source = config.suite_file(config.DEFAULT_SUITE)
    suite = yaml.safe_load(source.read_text()) | {"methods": list(METHODS), "params": {}}
    suite["recipe"] = suite["recipe"] | WAYS[way]
    del suite["params_from"]  # tuned for another way of training: defaults run
    file = folder / f"{way}.yaml"
    file.write_text(yaml.safe_dump(suite))
    out = folder / way
    unlearn_bench.run(file, seeds=3, out=out)
    section = read_content(out).sections[0].section
    found = {verdict.method: verdict for verdict in section_verdicts(section)}
    cells = {}
    for name in METHODS:
        distance = section.table.value(name, DISTANCE)
        away = plus_minus(distance, 1) if distance else "–"
        cells[name] = f"{found[name].verdict}, {away}, p = {found[name].p_value:.2g}"
    return cells


def main(asked: list[str]) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        cells = {way: verdicts(way, Path(folder)) for way in asked or WAYS}
    print(f"| method | {' | '.join(cells)} |")
    print(f"|---|{'---|' * len(cells)}")
    for name in METHODS:
        print(f"| {name} | {' | '.join(cell[name] for cell in cells.values())} |")


if __name__ == "__main__":
    main(sys.argv[1:])
