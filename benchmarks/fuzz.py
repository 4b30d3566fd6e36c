"""Try the command on damaged and hostile input, and check what it promises about any input.

A results folder, its bundle, a store, suites, weights, image folders and Parquet files are made
by the command itself; then file after file is mutated (``benchmarks/mutations.py``) and the actual
command is run on it in a forked process. Whatever it is given, the command must

- end by itself within a time, within a limit of memory;
- end with 0, 1 or 2 (``status`` also with 3 or 4), and without a traceback;
- say a mistake in one line that begins with ``error:``;
- leave everything outside its ``--out`` and the store as it was.

Run it with ``python benchmarks/fuzz.py --minutes 20``. A case that breaks a promise is printed
with its number and kept below ``--keep``; ``--replay CASE/case.json`` runs it again.
"""

import argparse
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import mutations

CHECKOUT = Path(__file__).parents[1]
SECONDS = 60.0
MEMORY = 3 << 30
OUTPUT_BYTES = 4 << 20
SUITE = """\
name: fuzzed
datasets: {dataset}
models: {{name: test_resnet, stem: standard}}
scenarios: class:1
methods: {{name: finetune, params: {{epochs: 1}}}}
recipe: {{epochs: 1, batch_size: 64, lr: 4.0e-3}}
relearn_steps: 2
seeds: 1
"""


@dataclass(frozen=True)
class Ended:
    """What a command line left behind; the code is None where it had to be killed."""

    code: int | None
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Case:
    """One command on one mutated input.

    Attributes:
        name: What was mutated, such as ``report``.
        argv: Relative to the case's folder.
        spared: What of the case's folder the command must leave as it is.
    """

    name: str
    argv: tuple[str, ...]
    spared: tuple[str, ...]


class Server:
    """Runs command lines in forks of a process that has loaded the libraries.

    Args:
        process: One that speaks the protocol of ``tests/warm_cli.py``, if one is there already.
    """

    def __init__(self, process: "subprocess.Popen[str] | None" = None) -> None:
        self.process = process or subprocess.Popen(
            [sys.executable, str(CHECKOUT / "tests" / "warm_cli.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def run(self, argv: Sequence[str], cwd: Path, place: Path, seconds: float = SECONDS) -> Ended:
        """Run a command line in ``cwd``; its streams and store are put below ``place``."""
        out, err = place / "stdout", place / "stderr"
        request = {
            "argv": list(argv),
            "cwd": str(cwd),
            "env": dict(os.environ) | {"UNLEARN_BENCH_HOME": str(place / "home")},
            "out": str(out),
            "err": str(err),
            "file_limit": 0,
            "memory_limit": MEMORY,
        }
        assert self.process.stdin is not None
        start = time.monotonic()
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        pid = self._answer(None)["pid"]
        answer = self._answer(seconds)
        if late := answer is None:
            os.killpg(pid, signal.SIGKILL)
            answer = self._answer(None)
        # A fork that failed leaves none.
        said = [p.read_bytes()[:OUTPUT_BYTES].decode("utf-8", "replace") for p in (out, err)]
        code = None if late else answer["code"]
        return Ended(code, said[0], said[1], time.monotonic() - start)

    def _answer(self, seconds: float | None) -> Any:
        """Return the next line of the server, None if none comes in time."""
        assert self.process.stdout is not None
        handle, line = self.process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            if not select.select([handle], [], [], seconds)[0]:
                return None
            # Byte by byte, as the answers follow each other: what is read is not given back.
            line += os.read(handle, 1)
        return json.loads(line)

    def close(self) -> None:
        """End the process; only for one that was started here."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def make_material(server: Server, place: Path, results: Path | None = None) -> None:
    """Make what is mutated: results, bundle and store of a run, suites, weights, images.

    Args:
        server: Runs the command.
        place: Where to.
        results: A folder that has a run's results in ``out`` and their store in ``home``; without
            one a suite is run.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    place.mkdir(parents=True)
    draw, rng = Random(0), np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 6)):
        rows = []
        for label in range(2):
            folder = place / "images" / part / str(label)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (16, 16, 3), dtype=np.uint8) + 150 * label
                path = folder / f"{number}.{draw.choice(('png', 'jpg', 'bmp'))}"
                Image.fromarray(pixels.astype(np.uint8)).save(path)
                rows.append({"image": {"bytes": path.read_bytes(), "path": ""}, "label": label})
        (place / "parquet").mkdir(exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist(rows), place / "parquet" / f"{part}-00000-of-00001.parquet"
        )
    for name, dataset in (("suite", "digits"), ("images", "imagefolder:images"), ("parquet", "")):
        text = SUITE.format(dataset=dataset or "parquet:parquet")
        (place / f"{name}.yaml").write_text(text)
    if results is None:
        made = server.run(["run", "suite.yaml", "--out", "out"], place, place, 300)
    else:
        for name in ("out", "home"):
            shutil.copytree(results / name, place / name)
    bundling = ["report", "out", "--bundle", "--out", "bundle.zip"]
    made = server.run(bundling, place, place, 300)
    if made.code != 0:
        raise SystemExit(f"the material cannot be made: {made.err}")
    weights = min((place / "home").rglob("*.safetensors"))
    shutil.copy(weights, place / "weights.safetensors")


# How often each kind of case is tried.
_SHARES = {
    "report": 5,
    "compare": 2,
    "status": 2,
    "verify": 4,
    "unpacked": 3,
    "suite": 5,
    "weights": 2,
    "images": 3,
    "store": 3,
}


# Each mutates part of a copy of the material and gives the command line.
def _case(rng: Random, place: Path) -> Case:
    what = rng.choices(
        (
            "report",
            "compare",
            "status",
            "verify",
            "unpacked",
            "suite",
            "weights",
            "images",
            "store",
        ),
        (5, 2, 2, 4, 3, 5, 2, 3, 3),
    )[0]
    sentinel = place / "sentinel"
    dry = ("--dry-run", "--out", "fresh")
    match what:
        case "report" | "compare" | "status":
            if rng.random() < 0.3:  # as reports are kept in git
                (place / "out" / "records.csv").unlink()
            _mutate_folder(rng, place / "out", sentinel)
            argv = {"report": ["report", "out"], "status": ["status", "out"]}
            if what == "report" and rng.random() < 0.2:
                argv["report"] += ["--bundle", "--out", "new.zip"]
            pair = rng.choice((["intact", "out"], ["out", "intact"]))
            spared = ["sentinel", "intact"] + (["out"] if what != "report" else [])
            return Case(what, (*argv.get(what, ["report", *pair]),), tuple(spared))
        case "verify":
            mutations.one_file(rng, place / "bundle.zip", sentinel)
            return Case(what, ("verify", "bundle.zip"), ("sentinel", "out"))
        case "unpacked":
            _mutate_folder(rng, place / "unpacked", sentinel)
            if rng.random() < 0.8:
                _relist(place / "unpacked")
            return Case(what, ("verify", "unpacked"), ("sentinel", "unpacked"))
        case "suite":
            mutations.as_yaml(rng, place / "suite.yaml")
            return Case(what, ("run", "suite.yaml", *dry), ("sentinel", "out", "suite.yaml"))
        case "weights":
            mutations.one_file(rng, place / "weights.safetensors", sentinel)
            given = ["--original", "weights.safetensors"]
            return Case(what, ("run", "suite.yaml", *given, *dry), ("sentinel", "out"))
        case "images":
            which = rng.choice(("images", "parquet"))
            _mutate_folder(rng, place / which, sentinel, some=rng.choice((1, 5)))
            argv = ("run", f"{which}.yaml", "--data-root", ".", *dry)
            return Case(which, argv, ("sentinel", which))
        case _:
            _mutate_folder(rng, place / "home", sentinel)
            argv = rng.choice(
                (
                    ("cache", "ls"),
                    ("cache", "verify"),
                    ("cache", "gc", "--dry-run"),
                    ("run", "suite.yaml", "--dry-run", "--out", "out"),
                )
            )
            return Case(what, argv, ("sentinel", "out"))


def _mutate_folder(rng: Random, folder: Path, sentinel: Path, some: int = 1) -> None:
    if rng.random() < 0.12:
        mutations.place(rng, folder, sentinel)
    for _ in range(some):
        files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
        # What is read most is mutated most; pictures are only hashed.
        files = [p for p in files if p.suffix not in (".svg", ".pdf")]
        tables = ("records.csv", "records.parquet", "curves.parquet")
        telling = [p for p in files if p.name in ("suite.json", *tables)]
        chosen = telling if telling and rng.random() < 0.5 else files
        if chosen:
            mutations.one_file(rng, rng.choice(sorted(chosen)), sentinel)


def _relist(folder: Path) -> None:
    """Write the manifest again, as a forger would."""
    if (folder / "MANIFEST.sha256").is_dir() or not folder.is_dir():
        return
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "MANIFEST.sha256" and path.stat().st_size < 1 << 28:
            name = os.fsencode(path.relative_to(folder))
            lines.append(sha256(path.read_bytes()).hexdigest().encode() + b"  " + name + b"\n")
    (folder / "MANIFEST.sha256").unlink(missing_ok=True)
    (folder / "MANIFEST.sha256").write_bytes(b"".join(lines))


def digest(path: Path) -> str:
    """Return a hash of a file or folder: names, kinds, targets of links, contents."""
    total = sha256()
    for entry in [path, *sorted(path.rglob("*"))]:
        total.update(os.fsencode(entry.relative_to(path)) + b"\0")
        if entry.is_symlink():
            total.update(os.fsencode(entry.readlink()))
        elif entry.is_file() and entry.stat().st_size < 1 << 28:
            total.update(entry.read_bytes())
    return total.hexdigest()


def broken(case: Case, ended: Ended, changed: Sequence[str]) -> list[str]:
    """Name the promises that a case broke."""
    found = [f"changed {name}" for name in changed]
    if ended.code is None:
        return [*found, f"did not end within {SECONDS:.0f} s"]
    allowed = (0, 1, 2, 3, 4) if case.argv[0] == "status" else (0, 1, 2)
    if ended.code not in allowed:
        found.append(f"ended with {ended.code}")
    if "Traceback" in ended.err + ended.out:
        last = ended.err.strip().rpartition("\n")[2]
        found.append(f"traceback: {last[:300]}")
    lines = ended.err.splitlines()
    errors = sum(line.startswith("error: ") for line in lines)
    if ended.code == 2 and (errors != 1 or not lines[-1].startswith("error: ")):
        found.append(f"says its mistake in {errors} lines: {ended.err[:200]!r}")
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", ended.out + ended.err):
        found.append("prints control characters")
    return found


def prepare(material: Path, place: Path) -> None:
    """Lay out a case: copies of all that may be mutated, and a sentinel that nobody may touch."""
    shutil.copytree(material, place, symlinks=True)
    shutil.copytree(place / "out", place / "intact")
    shutil.unpack_archive(place / "bundle.zip", place / "unpacked")
    (place / "sentinel" / "deep").mkdir(parents=True)
    for name in ("key", "deep/report.html", "suite.json", "records.csv"):
        (place / "sentinel" / name).write_text("PRIVATE\n")


def try_case(server: Server, case: Case, place: Path) -> tuple[Ended, list[str]]:
    """Run a case that is laid out in ``place``, and name the promises that it broke."""
    before = {name: digest(place / name) for name in case.spared}
    ended = server.run(case.argv, place, place)
    after = {name: digest(place / name) for name in case.spared}
    return ended, broken(case, ended, [name for name in before if before[name] != after[name]])


def fuzz(
    server: Server,
    seconds: float,
    seed: int,
    keep: Path,
    most: int = sys.maxsize,
    results: Path | None = None,
) -> tuple[Counter[str], list[str]]:
    """Try cases until the time is over, ``most`` at most, as :func:`make_material` makes them.

    Returns:
        How many cases of which kind, and a line for each that broke a promise.
    """
    counts: Counter[str] = Counter()
    findings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        material = Path(temporary) / "material"
        make_material(server, material, results)
        number, end = 0, time.monotonic() + seconds
        while time.monotonic() < end and number < most:
            number += 1
            place = Path(temporary) / "case"
            prepare(material, place)
            case = _case(Random(f"{seed}:{number}"), place)
            kept = keep / f"{seed}-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            ended, found = try_case(server, case, place)
            counts[case.name] += 1
            if found:
                # Mutated again: the command may have changed what it was given.
                shutil.rmtree(place)
                prepare(material, place)
                _case(Random(f"{seed}:{number}"), place)
                subprocess.run(["cp", "-a", "--sparse=always", place, kept.absolute()], check=True)
                (kept / "case.json").write_text(json.dumps(asdict(case)) + "\n")
                (kept / "stderr.txt").write_text(ended.err)
                line = f"{kept.name} {' '.join(case.argv)}: {'; '.join(found)}"
                findings.append(line)
                print(line, flush=True)
            shutil.rmtree(place)
    return counts, findings


def replay(server: Server, file: Path) -> list[str]:
    """Run a kept case again on a copy of its input."""
    stored = json.loads(file.read_text())
    case = Case(stored["name"], tuple(stored["argv"]), tuple(stored["spared"]))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        place = Path(temporary) / "case"
        subprocess.run(["cp", "-a", "--sparse=always", file.parent, place], check=True)
        ended, found = try_case(server, case, place)
    print(textwrap.indent(ended.out[-2000:] + ended.err[-4000:], "  "))
    print(f"{' '.join(case.argv)}: code {ended.code}, {ended.seconds:.1f} s")
    return found


def main() -> None:
    """Read the command line and fuzz, or replay a case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), metavar="FOLDER")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="case.json of a kept case")
    given = parser.parse_args()
    server = Server()
    try:
        if given.replay:
            findings = replay(server, given.replay)
            print("\n".join(findings) or "every promise is kept")
        else:
            given.keep.mkdir(parents=True, exist_ok=True)
            counts, findings = fuzz(server, 60 * given.minutes, given.seed, given.keep)
            kinds = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            print(f"seed {given.seed}: {counts.total()} cases ({kinds}), {len(findings)} findings")
    finally:
        server.close()
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
