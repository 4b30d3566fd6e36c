"""How far a suite has come, from the files of its folder alone: for another terminal, or later."""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unlearn_bench.core import locks
from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import readable_os_errors
from unlearn_bench.execution import heartbeat
from unlearn_bench.execution.durations import Durations
from unlearn_bench.execution.names import LOCK, seed_lock
from unlearn_bench.results.brief import read_briefs
from unlearn_bench.results.records import RunResult, read_run, read_suite

State = Literal["finished", "failed", "running", "stopped"]

# What `status` ends with; 2 is for mistakes, as everywhere.
EXIT_CODES: Mapping[State, int] = {"finished": 0, "failed": 1, "running": 3, "stopped": 4}


@dataclass(frozen=True)
class UnderWay:
    """A run that a living process is at.

    Attributes:
        name: What it is, in words.
        step: What it does now.
        seconds: Since it began.
    """

    name: str
    step: str
    seconds: float


@dataclass(frozen=True)
class Status:
    """The state of a results folder.

    Attributes:
        state: ``finished``: every run has a result; ``failed``: so it is, but some failed;
            ``running``: a process is at work; ``stopped``: none is, and runs are left.
        planned: Number of runs.
        done: Of them with a result.
        failed: Those that failed: name and reason.
        running: Those under way.
        left: Not begun, or to be tried again.
        seconds_left: Until the end at this pace; None where nothing is known to tell it from.
        basis: What that is told from.
        process: Who is at work: pid and host; "" for nobody.
    """

    state: State
    planned: int
    done: int
    failed: tuple[tuple[str, str], ...]
    running: tuple[UnderWay, ...]
    left: int
    seconds_left: float | None
    basis: str
    process: str


def read_status(out: Path) -> Status:
    """Read how far the suite in ``out`` has come; nothing is written.

    Raises:
        OutputError: If the folder is none that a suite was run into, or cannot be read.
    """
    suite = read_suite(out)
    keys = suite.get("plan")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise OutputError(
            f"{out / 'suite.json'} has no plan: it does not belong to a suite; "
            "choose another folder"
        )
    beats = _beats(out)
    # What fails while tuning is a result as well, and is not tried again.
    tuning = bool(suite.get("tuning"))
    results: dict[int, RunResult] = {}
    briefs, there = read_briefs(out), _files(out / "runs")
    for position, key in enumerate(keys):
        result = briefs.get(key) or (_result(out, key) if f"{key}.json" in there else None)
        if result is not None:
            results[position] = result
    cells = _cells(out / "suite.json", suite, keys, results)

    running: dict[int, UnderWay] = {}
    for seed, beat in beats:
        passed = _since(beat)
        for run in beat.get("running", ()):
            name = _name(cells.get(run["position"]))
            running[run["position"]] = UnderWay(name, run["step"], run["seconds"] + passed)
        # What failed before this process began is tried again.
        ended = set(beat.get("ended", ()))
        for position, result in list(results.items()):
            again = not tuning and (result.status != "ok" or result.error)
            again = again and seed in (None, result.seed) and position not in ended
            if position in running or again:
                del results[position]
    failed = {p: r for p, r in results.items() if r.status != "ok"}
    left = [p for p in range(len(keys)) if p not in results and p not in running]
    over: State = "failed" if failed and not tuning else "finished"
    state: State = "running" if beats else "stopped" if left else over
    workers = sum(beat.get("workers", 1) for _, beat in beats)
    seconds_left, basis = _left(cells, results, running, left, workers)
    return Status(
        state,
        len(keys),
        len(results) - len(failed),
        tuple((_name(cells.get(p)), result.error) for p, result in failed.items()),
        tuple(running.values()),
        len(left),
        seconds_left,
        basis,
        ", ".join(map(_process, beats)),
    )


Beat = tuple[int | None, Mapping[str, Any]]


def _beats(out: Path) -> list[Beat]:
    """Return what every living process says of itself, with the only seed that it works on."""
    found: list[Beat] = []
    for seed in (None, *heartbeat.seeds_at_work(out)):
        beat = heartbeat.read(out, seed) or {}
        if _is_alive(out / LOCK if seed is None else seed_lock(out, seed), beat):
            found.append((seed, beat))
    return found


def _process(at_work: Beat) -> str:
    seed, beat = at_work
    process = f"process {beat.get('pid', '?')} on {beat.get('host', 'this machine')}"
    return process if seed is None else f"{process} at seed {seed}"


@dataclass(frozen=True)
class _Cell:
    dataset: str
    model: str
    scenario: str
    seed: int
    method: str


_TEXTS = ("dataset", "model", "scenario", "method")


def _cells(
    path: Path, suite: Mapping[str, Any], keys: Sequence[str], results: Mapping[int, RunResult]
) -> dict[int, _Cell]:
    """Say what each run is; of folders from before suites said so, the finished ones.

    Raises:
        OutputError: If the suite's file says it in no way that a suite does.
    """
    names = suite.get("runs")
    if isinstance(names, list) and len(names) == len(keys):
        try:
            return {
                p: _Cell(seed=int(name["seed"]), **{part: str(name[part]) for part in _TEXTS})
                for p, name in enumerate(names)
            }
        except (KeyError, TypeError, ValueError) as error:
            raise OutputError(f"{path} is damaged: it does not list its runs ({error!r})") from None
    return {p: _Cell(r.dataset, r.model, r.scenario, r.seed, r.method) for p, r in results.items()}


def _name(cell: _Cell | None) -> str:
    if cell is None:
        return "a run"
    return " · ".join((cell.dataset, cell.model, cell.scenario, f"seed {cell.seed}", cell.method))


def _files(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208, a path for each takes longer than the rest
    except OSError:
        return set()


def _result(out: Path, key: str) -> RunResult | None:
    try:
        return read_run(out, key)
    except OutputError:
        return None  # damaged: it will be made again


def _is_alive(lock: Path, beat: Mapping[str, Any]) -> bool:
    """Say whether a process is at work that holds this lock."""
    with readable_os_errors("look at", lock):
        held = locks.is_held(lock)
    if held is not None or not beat:
        return bool(held)
    # No locks here: ask for the process, or believe the file where that is on another machine.
    if beat.get("host") != socket.gethostname():
        return True
    try:
        os.kill(beat["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _since(beat: Mapping[str, Any]) -> float:
    """Seconds since the file was written; 0 where only clocks that can be set could tell."""
    if beat.get("boot") and beat["boot"] == heartbeat.boot():
        return max(0.0, time.monotonic() - float(beat["clock"]))
    return 0.0


def _left(
    cells: Mapping[int, _Cell],
    results: Mapping[int, RunResult],
    running: Mapping[int, UnderWay],
    left: Sequence[int],
    workers: int,
) -> tuple[float | None, str]:
    """Return the seconds that are left, and what that is told from."""
    durations = Durations()
    for result in results.values():
        durations.add_result(result)
    if not left and not running:
        return 0.0, "nothing is left"
    total, guessed = 0.0, 0
    begun = {(r.dataset, r.model, r.seed) for r in results.values()}
    for position in (*running, *left):
        cell = cells.get(position)
        if cell is None:
            return None, "this folder does not list its other runs"
        where = (cell.dataset, cell.model)
        unlearning = durations.unlearning(where, [cell.method])
        if unlearning is None:
            guessed += 1
            unlearning = durations.any_unlearning(where)
        evaluating = durations.evaluating(where)
        if unlearning is None or evaluating is None:
            return None, f"no run of {cell.model} on {cell.dataset} has finished yet"
        seconds = unlearning + evaluating
        if (*where, cell.seed) not in begun:
            begun.add((*where, cell.seed))
            seconds += durations.original(where) or 0.0
        if position in running:
            seconds = max(0.0, seconds - running[position].seconds)
        total += seconds
    at_a_time = max(1, min(workers, len(left) + len(running)))
    basis = f"from {len(results)} finished runs"
    if guessed:
        basis += f"; {guessed} of methods that have not run yet, assumed to be like the others"
    if at_a_time > 1:
        basis += f"; {at_a_time} at a time"
    return total / at_a_time, basis
