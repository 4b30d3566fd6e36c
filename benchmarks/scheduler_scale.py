"""What the harness itself takes for 1,000, 3,000 and 10,000 runs: time and memory, no training.

A suite of every method on digits, eight seeds, and as many scenarios as give the number of runs
goes through ``unlearn-bench``'s commands, each in a process of its own. Only the work is replaced:
64 workers answer at once with what runs of ``reports/digits`` recorded, durations included::

    python benchmarks/scheduler_scale.py                         # half an hour, 4 GB of disk
    python benchmarks/scheduler_scale.py --runs 500 --into DIR   # and keep the folders

Start is the time from the command to the first run that is handed out. Scheduling is what the
scheduler takes to hand out all runs and to write what comes back, without the making of answers.
"""

import argparse
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

RECORDED = Path(__file__).parents[1] / "reports" / "digits"
# Of the recorded seeds so many are replayed: enough for a spread.
REPLAYED, SEEDS, WORKERS = 4, 8, 64
SIZES = (1_000, 3_000, 10_000)
STARTED, INTO = "SCALE_STARTED", "SCALE_MARKS"


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds of wall-clock and of CPU, and bytes at most."""

    wall: float
    cpu: float
    peak: float = 0.0


def suite_of(runs: int) -> dict[str, Any]:
    """Return a suite of about so many runs: of scenarios it has as many as that takes."""
    scenarios = [f"class:{n}" for n in range(10)]
    scenarios += [f"random:{n / 200}" for n in range(2, 100)]
    here = {
        "datasets": "digits",
        "models": "test_resnet",
        "methods": "all",
        "seeds": SEEDS,
        "threads": 1,
    }
    from unlearn_bench.suite.config import expand
    from unlearn_bench.suite.spec import Suite

    def count(places: int) -> int:
        asked = here | {"name": "scale", "scenarios": scenarios[:places]}
        return len(expand(Suite.model_validate(asked), device="cpu").runs)

    places = max(1, round(runs / count(1)))
    return here | {"scenarios": scenarios[:places]}


def replayed() -> dict[str, list[bytes]]:
    """Return pickled records and curves of recorded runs, by method; of each seed one."""
    from unlearn_bench.results.records import Curve, Record

    records = pd.read_parquet(RECORDED / "records.parquet")
    curves = pd.read_parquet(RECORDED / "curves.parquet").groupby("run_key")
    found: dict[str, list[bytes]] = {}
    kept = records[(records["seed"] < REPLAYED) & (records["status"] == "ok")]
    kept = kept[~kept["metric"].isin(("time_ratio_to_retrain", "break_even_requests"))]
    numbers = ["value", "low", "high", "gap_error"]
    kept[numbers] = kept[numbers].astype(object).where(kept[numbers].notna(), None)
    for (method, key), rows in kept.groupby(["method", "run_key"]):
        measured = tuple(
            Record(r.metric, r.split, r.value, r.low, r.high, r.status, r.error, r.gap_error)
            for r in rows.itertuples()
        )
        drawn = tuple(
            Curve(curve, series, tuple(points["x"]), tuple(points["y"]), int(points["n"].iloc[0]))
            for (curve, series), points in curves.get_group(key).groupby(["curve", "series"])
        )
        found.setdefault(method, []).append(pickle.dumps((measured, drawn)))
    return found


class Instant:
    """Workers that answer at once with what was recorded.

    Attributes:
        seconds: Wall-clock and CPU seconds that making the answers took.
    """

    retries, timeout, at_a_time = 0, None, WORKERS

    def __init__(self, runner: Any, answers: Mapping[str, list[bytes]], first: Callable[[], None]):
        self._runner, self._answers, self._first = runner, answers, first
        self._given: list[tuple[int, Any]] = []
        self.seconds = (0.0, 0.0)

    def __enter__(self) -> "Instant":
        return self

    def __exit__(self, *ended: object) -> None:
        self._given.clear()

    @property
    def busy(self) -> bool:
        """Whether any run is under way."""
        return bool(self._given)

    def takes(self, spec: Any) -> bool:
        """Whether a worker is free."""
        return len(self._given) < WORKERS

    def submit(self, position: int, spec: Any, key: str, failed: Mapping[str, str]) -> None:
        """Take a run."""
        self._first()
        self._given.append((position, spec))

    def wait(self, tell: Callable[[Any], None]) -> None:
        """Answer all runs that were given out."""
        from unlearn_bench.execution.backend import Event

        given, self._given = self._given, []
        for position, spec in given:
            tell(Event(position, step="evaluate"))
            before = clocks()
            pool = self._answers.get(spec.label) or self._answers["finetune"]
            records, curves = pickle.loads(pool[spec.seed % len(pool)])  # noqa: S301
            result = self._runner.result(spec, "ok", records=records, curves=curves)
            self.seconds = plus(self.seconds, since(before))
            tell(Event(position, result=result))


def clocks() -> tuple[float, float]:
    """Return wall-clock and CPU seconds of this process."""
    return time.perf_counter(), time.process_time()


def since(before: tuple[float, float]) -> tuple[float, float]:
    """Return the seconds that passed."""
    now = clocks()
    return now[0] - before[0], now[1] - before[1]


def plus(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the sum of seconds."""
    return one[0] + other[0], one[1] + other[1]


def peak() -> float:
    """Return the most bytes that this process held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def act(arguments: list[str]) -> None:
    """Be ``unlearn-bench`` with instant workers until all runs are done; write what it took."""
    from unlearn_bench.cli import asked, main
    from unlearn_bench.execution import scheduler

    # Off the account: no user's process reads a report for its answers.
    before = clocks()
    answers = replayed()
    reading = since(before)
    marks: dict[str, Any] = {}
    team: list[Instant] = []

    def first() -> None:
        if "start" not in marks:
            wall = time.time() - float(os.environ[STARTED]) - reading[0]
            marks["start"] = (wall, time.process_time() - reading[1], peak())

    def of_instant(asked_for: Any, runner: Any, notify: object) -> tuple[Instant, str]:
        team.append(Instant(runner, answers, first))
        return team[0], "workers that do nothing"

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            start = clocks()
            result = function(*given, **named)
            marks[name] = (*since(start), peak())
            return result

        return call

    real = scheduler.execute

    def until_done(*given: Any, **named: Any) -> None:
        real(*given, **named)
        wall, cpu, most = marks["scheduling"]
        marks["scheduling"] = (wall - team[0].seconds[0], cpu - team[0].seconds[1], most)
        Path(os.environ[INTO]).write_text(json.dumps(marks))
        sys.exit()

    asked.Asked.team = of_instant  # type: ignore[assignment, method-assign]
    scheduler.Dispatcher.dispatch = timed("scheduling", scheduler.Dispatcher.dispatch)  # type: ignore[method-assign]
    scheduler._Agenda.write_tables = timed("tables", scheduler._Agenda.write_tables)  # type: ignore[method-assign]
    scheduler.execute = until_done  # type: ignore[assignment]
    sys.argv = ["unlearn-bench", *arguments]
    main()


def timed_command(*command: str | Path) -> Cost:
    """Run a command to its end; what it prints is dropped."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {STARTED: str(time.time())},
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 4):  # `status` of a suite that stopped ends with 4
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    wall = time.perf_counter() - start
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def measured(home: Path, runs: int) -> Iterator[tuple[str, Cost]]:
    """Yield what each command took, for a suite of about ``runs`` runs, in a new folder."""
    home.mkdir(parents=True)
    suite, out, marks = home / "scale.yaml", home / "out", home / "marks.json"
    suite.write_text(yaml.safe_dump(suite_of(runs)))
    os.environ |= {"UNLEARN_BENCH_HOME": str(home / "store"), INTO: str(marks)}
    program = ("-m", "unlearn_bench")
    asked = ("run", suite, "--out", out, "--device", "cpu")

    def run(which: str) -> Iterator[tuple[str, Cost]]:
        timed_command(__file__, "--act", *asked)
        for name, spent in json.loads(marks.read_text()).items():
            yield f"{name}{which}", Cost(*spent)

    yield "dry run", timed_command(*program, *asked, "--dry-run")
    yield from run("")
    yield "status", timed_command(*program, "status", out)
    yield "report", timed_command(*program, "report", out)
    for position, file in enumerate(sorted((out / "runs").glob("*.json"))):
        if position % 2:
            file.unlink()
    yield "status, half done", timed_command(*program, "status", out)
    yield "dry run, half done", timed_command(*program, *asked, "--dry-run")
    yield from ((name, cost) for name, cost in run(", half done") if name.startswith("start"))


def table(found: Mapping[int, Mapping[str, Cost]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: seconds (of CPU), MB, and growth per run."""
    sizes = sorted(found)
    yield "| | " + " | ".join(f"{size:,} runs" for size in sizes) + " | growth |"
    yield "|---|" + "---|" * (len(sizes) + 1)
    for name in found[sizes[0]]:
        costs = [found[size][name] for size in sizes]
        cells = [f"{c.wall:.1f} s ({c.cpu:.1f}), {c.peak / 1e6:,.0f} MB" for c in costs]
        more = sizes[-1] / sizes[0]
        growth = f"x{costs[-1].cpu / costs[0].cpu:.1f} for x{more:.1f}"
        yield f"| {name} | " + " | ".join(cells) + f" | {growth} |"


def main() -> None:
    """Read the command line, measure every size and print the table."""
    if sys.argv[1:2] == ["--act"]:
        act(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--into", type=Path, help="keep the folders here")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1"}
    place = given.into or Path(tempfile.mkdtemp())
    found: dict[int, dict[str, Cost]] = {}
    try:
        for asked in given.runs:
            costs: dict[str, Cost] = {}
            for name, cost in measured(place / str(asked), asked):
                costs[name] = cost
                print(f"{asked:,} {name}: {cost}", file=sys.stderr, flush=True)
            stored = json.loads((place / str(asked) / "out" / "suite.json").read_text())
            found[len(stored["plan"])] = costs
    finally:
        if not given.into:
            shutil.rmtree(place)
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
