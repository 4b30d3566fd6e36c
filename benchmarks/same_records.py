"""Hold two revisions to the same records: every value of every run of one suite, digit by digit.

    python benchmarks/same_records.py BEFORE [AFTER] [-- --methods pbu,finetune]

``BEFORE`` and ``AFTER`` are git revisions, or results folders that were made before; without
``AFTER`` it is the working tree. Each revision runs ``unlearn-bench run --methods all --seeds 1``
in a folder and store of its own, with the arguments after ``--`` added. Times and memory are left
out, and so are keys and file hashes, which change whenever a method's file is edited. Exits with 1
and names what differs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
RUN = ("run", "--methods", "all", "--seeds", "1")
# What the clock and the machine decide, and what names code instead of results.
VARIES = {"key", "check", "hashes", "environment", "metric_seconds"}


def results_of(what: str, work: Path, arguments: list[str]) -> Path:
    """Return a results folder: ``what`` itself, or one made by that revision."""
    if (Path(what) / "suite.json").is_file():
        return Path(what)
    work.mkdir()
    code = CHECKOUT
    if what:
        code = work / "code"
        code.mkdir()
        archive = subprocess.run(
            ["git", "archive", what], cwd=CHECKOUT, stdout=subprocess.PIPE, check=True
        )
        subprocess.run(["tar", "-x", "-C", str(code)], input=archive.stdout, check=True)
    # Methods are found by the installed entry point: the revision's own must come first.
    (work / "unlearn_bench_methods").symlink_to(code / "methods")
    (work / "unlearn_bench_suites").symlink_to(code / "benchmarks" / "suites")
    path = os.pathsep.join([str(code), str(work)])
    subprocess.run(
        [sys.executable, "-m", "unlearn_bench", *RUN, *arguments, "--out", str(work / "out")],
        env={**os.environ, "PYTHONPATH": path, "UNLEARN_BENCH_HOME": str(work / "home")},
        cwd=work,
        stdout=sys.stderr,
        check=True,
    )
    return work / "out"


def is_cost(name: str) -> bool:
    """Say whether a metric is a time, a memory or what follows from them."""
    return any(word in name for word in ("seconds", "bytes", "break_even", "share_of_retraining"))


def values(folder: Path) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value of every run under a name that both revisions give it."""
    for path in sorted((folder / "runs").glob("*.json")):
        run = json.loads(path.read_text())
        run = run.get("result", run)
        name = tuple(
            str(run[field]) for field in ("dataset", "model", "scenario", "method", "seed")
        )
        for field, value in run.items():
            if field == "records":
                for number, record in enumerate(value):
                    if not is_cost(record["metric"]):
                        yield (*name, record["metric"], record["split"], str(number)), record
            elif field not in VARIES:
                yield (*name, field), value


def main() -> int:
    """Run or read both, compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before")
    parser.add_argument("after", nargs="?", default="")
    own, _, further = " ".join(sys.argv[1:]).partition(" -- ")
    asked = parser.parse_args(own.split())
    work = Path(tempfile.mkdtemp(prefix="same_records_"))
    try:
        before = dict(values(results_of(asked.before, work / "before", further.split())))
        after = dict(values(results_of(asked.after, work / "after", further.split())))
    finally:
        shutil.rmtree(work)
    different = [
        name
        for name in sorted(before.keys() | after.keys())
        if name not in before or name not in after or before[name] != after[name]
    ]
    for name in different[:40]:
        print(f"{' / '.join(name)}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}")
    print(f"{len(before)} values before, {len(after)} after, {len(different)} different")
    return 1 if different or not before else 0


if __name__ == "__main__":
    sys.exit(main())
