"""Map the runs of a suite over one process or several, into a folder that survives anything.

A run whose result is on disk is not repeated; a failed one is tried again. The folder belongs
to one suite and one command at a time. Whatever the number of processes, the records are the
same: what a run does depends on its specification alone.
"""

import contextlib
import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn_bench.core import locks
from unlearn_bench.core.errors import ConfigError, OutputError
from unlearn_bench.core.files import readable_os_errors, write_atomically
from unlearn_bench.core.keys import canonical_json
from unlearn_bench.core.quantities import in_order
from unlearn_bench.execution.backend import Backend
from unlearn_bench.execution.heartbeat import Heartbeat
from unlearn_bench.execution.observer import Observer
from unlearn_bench.execution.origin import keep_sources, origin
from unlearn_bench.execution.run import EVALUATING, TRAINING, RunFailedError, Runner, wants_log
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.metric import stored_metrics
from unlearn_bench.results.curves import write_curves
from unlearn_bench.results.records import (
    FORMAT,
    DamagedResultError,
    RunResult,
    put_run_aside,
    read_run,
    read_suite,
    write_records,
    write_run,
)
from unlearn_bench.suite.config import Plan
from unlearn_bench.suite.spec import RunSpec

# What lies in a results folder beside files.
FOLDERS = ("runs", "plugins", "figures")
# Attempts to get the folder's lock before it counts as taken.
PATIENCE = 5


def execute(
    plan: Plan,
    runner: Runner,
    out: Path,
    observer: Observer,
    *,
    command: str,
    workers: Backend | None = None,
) -> list[RunResult]:
    """Run every planned run that has no result in ``out`` yet; return the results of all.

    Whatever ends this early, ``records.csv`` and ``curves.parquet`` cover what was finished.

    Args:
        plan: The runs, in order.
        runner: Knows keys, checks and environment; executes the runs where no workers do.
        out: The results folder; created if need be.
        observer: Told about progress.
        command: The command line, for the report.
        workers: What executes the runs, not yet started; None for this process.

    Raises:
        UserError: If the data, a model or the folder make the suite impossible; nothing has
            been run then.
    """
    keys = check_plan(plan, runner)
    with (
        _owned(out, observer),
        Heartbeat(out, observer, workers.at_a_time if workers else 1) as observer,
    ):
        there = {key: found for key in keys if (found := _readable(out, key)) is not None}
        _claim(plan, runner, keys, there, out, command)
        _tell_of_given(plan, runner, observer)
        results: dict[str, RunResult] = {}
        try:
            todo = {}
            for position, (spec, key) in enumerate(zip(plan.runs, keys, strict=True)):
                if workers is None:
                    results[key] = _one(position, spec, key, runner, there, out, observer)
                elif (old := _reused(position, spec, key, there, out, observer)) is not None:
                    results[key] = old
                else:
                    todo[position] = spec
            if workers is not None and todo:
                for position, result in _several(todo, keys, runner, workers, observer):
                    write_run(out, result)
                    results[keys[position]] = result
                    observer.run_finished(position, result, reused=False)
        finally:
            # An earlier process may have finished runs that this one did not come to.
            for key in keys:
                known = results.get(key) or _readable(out, key)
                if known is not None:
                    results[key] = known
            finished = [results[key] for key in keys if key in results]
            _insistently(lambda: write_records(out, finished))
            _insistently(lambda: write_curves(out, finished))
    return [results[key] for key in keys]


def _insistently(write: Callable[[], object]) -> None:
    """Write, and write again if Ctrl-C came between: a second one ends everything by itself."""
    try:
        write()
    except KeyboardInterrupt:
        write()
        raise


def _readable(out: Path, key: str) -> RunResult | None:
    try:
        return read_run(out, key)
    except OutputError:
        return None


def _stands(result: RunResult | None) -> bool:
    """Whether a run need not be repeated."""
    return result is not None and result.status == "ok" and not result.error


def _reused(
    position: int,
    spec: RunSpec,
    key: str,
    there: Mapping[str, RunResult],
    out: Path,
    observer: Observer,
) -> RunResult | None:
    """Return the result on disk if the run need not be repeated; a damaged one is put aside."""
    try:
        result = there.get(key) or read_run(out, key)
    except DamagedResultError as error:
        observer.notice(
            f"{error.args[0]}".partition("; ")[0]
            + f": kept as {put_run_aside(out, key)}, made again"
        )
        return None
    if result is None or not _stands(result):
        return None
    observer.run_started(position, spec)
    observer.run_finished(position, result, reused=True)
    return result


def _one(
    position: int,
    spec: RunSpec,
    key: str,
    runner: Runner,
    there: Mapping[str, RunResult],
    out: Path,
    observer: Observer,
) -> RunResult:
    """Return the result on disk, or execute the run in this process."""
    old = _reused(position, spec, key, there, out, observer)
    if old is not None:
        return old
    observer.run_started(position, spec)
    try:
        result = runner.run(spec, lambda text: observer.step(position, text))
    except RunFailedError as failure:
        result = runner.result(spec, "failed", error=str(failure))
        cause = failure.__cause__
        observer.run_failed("".join(traceback.format_exception(cause)) if cause else "")
    write_run(out, result)
    observer.run_finished(position, result, reused=False)
    return result


def _several(
    todo: Mapping[int, RunSpec],
    keys: Sequence[str],
    runner: Runner,
    workers: Backend,
    observer: Observer,
) -> Iterator[tuple[int, RunResult]]:
    """Execute runs by workers and yield their results as they come.

    A run waits for the one that makes what it needs as well: retraining for the first run with
    the same original, everything else for retraining. So nothing is computed twice, and no
    worker waits at another's lock.

    Raises:
        UserError: What a worker found to make the suite impossible.
    """
    waiting: dict[int, int | None] = _order(todo)
    failed: dict[str, str] = {}
    steps: dict[int, str] = {}
    deaths: Counter[int] = Counter()
    done: set[int] = set()
    with workers:
        while waiting or workers.busy:
            for position in [p for p, first in waiting.items() if first is None or first in done]:
                if not workers.takes(todo[position]):
                    break
                del waiting[position]
                observer.run_started(position, todo[position])
                workers.submit(position, todo[position], keys[position], failed)
            for event in workers.events():
                position, spec, result = event.position, todo[event.position], event.result
                if event.error is not None:
                    raise event.error
                if event.step:
                    steps[position] = event.step
                    observer.step(position, event.step)
                if event.notice:
                    observer.notice(event.notice)
                if event.died and deaths[position] < workers.retries:
                    deaths[position] += 1
                    steps.pop(position, None)
                    observer.notice(
                        f"{spec.label} (seed {spec.seed}): {event.died}; it is tried again, "
                        f"{deaths[position]} of {workers.retries}"
                    )
                    waiting = {position: None, **waiting}
                elif event.died:
                    result = runner.result(spec, "failed", error=event.died)
                elif event.timed_out:
                    step = steps.get(position, "")
                    result = runner.result(spec, "failed", error=_overdue(workers.timeout, step))
                    if step.startswith(TRAINING):
                        failed[runner.original_key(spec)] = result.error
                if result is not None:
                    failed |= event.failed
                    # A worker that ended tells nothing of what it was making.
                    ended = event.died or event.timed_out
                    if ended and steps.get(position) != EVALUATING:
                        failed[result.key] = result.error
                    if result.status == "failed":
                        observer.run_failed(event.trace)
                    done.add(position)
                    yield position, result


def _overdue(limit: float | None, step: str) -> str:
    where = f" at {step!r}" if step else ""
    return (
        f"ended after {limit:g} s, the --timeout of a run,{where}; give more time (what a run has "
        "to train first, or waits for another process to train, counts as well; what is finished "
        "is kept) or take fewer epochs"
    )


def _order(todo: Mapping[int, RunSpec]) -> dict[int, int | None]:
    """Say for each run which other one it waits for, those that start something first.

    An original is trained by a run that wants its training log, if there is one: it is recorded
    on the way then, and not by training again.
    """
    originals: dict[str, int] = {}
    cells: dict[tuple[str, str], int] = {}
    after: dict[int, int | None] = {}
    for position, spec in sorted(todo.items(), key=lambda item: not wants_log(item[1])):
        training = canonical_json(spec.training_identity())
        cell = (training, spec.forget.model_dump_json())
        if training not in originals:
            after[position] = None
        elif cell not in cells:
            after[position] = originals[training]
        else:
            after[position] = cells[cell]
        originals.setdefault(training, position)
        cells.setdefault(cell, position)
    return dict(sorted(after.items(), key=lambda item: (item[1] is not None, item[0])))


def check_plan(plan: Plan, runner: Runner) -> list[str]:
    """Set up every split and every model once, so that mistakes show before hours of work.

    Returns:
        The key of each run's result.

    Raises:
        UserError: If the data, a model or the plan make the suite impossible.
    """
    seen: set[Any] = set()
    for spec in plan.runs:
        split = ("split", spec.dataset, spec.forget.model_dump_json(), spec.seed)
        given = spec.unlearned and spec.unlearned.sha256
        model = ("model", spec.dataset, spec.model.model_dump_json(), given)
        for what, check in ((split, runner.check_split), (model, runner.check_model)):
            if what not in seen:
                seen.add(what)
                check(spec)
    keys = [runner.key(spec) for spec in plan.runs]
    _refuse_repeats(plan, keys)
    return keys


def _refuse_repeats(plan: Plan, keys: list[str]) -> None:
    by_key: dict[str, RunSpec] = {}
    for spec, key in zip(plan.runs, keys, strict=True):
        other = by_key.setdefault(key, spec)
        if other is not spec:
            raise ConfigError(
                f"methods: {other.label!r} and {spec.label!r} are the same method with the same "
                "parameters; change one or leave it out"
            )


@contextlib.contextmanager
def _owned(out: Path, observer: Observer) -> Iterator[None]:
    """Hold the folder for this process; the system lets go of it when the process dies."""
    with readable_os_errors("write into", out):
        (out / "runs").mkdir(parents=True, exist_ok=True)
        for attempt in range(PATIENCE):  # `status` may be looking at the lock in this moment
            time.sleep(0.05 if attempt else 0)
            held = locks.take(out / ".lock")
            if held is not None:
                break
        else:
            raise OutputError(
                f"another process is running a suite in {out}; wait for it or choose another --out"
            )
        if held.sure:
            for folder in (out, *(out / name for name in FOLDERS)):
                for left in folder.glob(".*.tmp"):
                    left.unlink(missing_ok=True)  # what a killed process was writing
        else:
            observer.notice(
                f"the file system of {out} has no locks: see to it yourself that only one command "
                "runs in it, or work is done twice"
            )
    with held:
        yield


def refuse_another_suite(plan: Plan, out: Path) -> dict[str, Any]:
    """Refuse a folder that holds another suite's results.

    Returns:
        What tells suites apart, for ``suite.json``.

    Raises:
        OutputError: With what differs.
    """
    first = plan.runs[0]
    suite = plan.suite.model_dump(mode="json")
    asked = {
        "suite": suite,
        "device": first.device,
        "original": first.original.sha256 if first.original else None,
        "unlearned": sorted({s.unlearned.sha256 for s in plan.runs if s.unlearned}) or None,
    }
    # Without a single run there is nothing to mix up: a first attempt that failed early, with
    # the wrong --original for one, does not bar the folder to the next.
    if (out / "suite.json").exists() and any((out / "runs").glob("*.json")):
        there = read_suite(out)
        different = [name for name in asked if _differs(asked[name], there.get(name))]
        if different == ["suite"]:
            old = there.get("suite") or {}
            different = [k for k, v in suite.items() if _differs(v, old.get(k))]
        if different:
            raise OutputError(
                f"{out} holds the results of another suite (it differs in: "
                f"{', '.join(different)}); choose another --out, or delete that folder"
            )
    return asked


def _claim(
    plan: Plan,
    runner: Runner,
    keys: list[str],
    there: Mapping[str, RunResult],
    out: Path,
    command: str,
) -> None:
    """Write ``suite.json``, or refuse a folder that holds another suite's results."""
    asked = refuse_another_suite(plan, out)
    stored = asked | {
        "format": FORMAT,
        "plan": keys,
        # By name, so that `status` can say what is left without loading methods or data.
        "runs": [
            {
                "dataset": spec.dataset,
                "model": spec.model.label,
                "scenario": spec.forget.name,
                "seed": spec.seed,
                "method": spec.label,
            }
            for spec in plan.runs
        ],
        "notes": list(plan.notes),
        "methods": {spec.label: _facts(spec.method) for spec in plan.runs},
        "metrics": stored_metrics(),
        "command": command,
        "environment": dict(runner.environment)
        | ({"threads": plan.suite.threads} if plan.suite.threads else {}),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "origin": origin(plan, keys, runner),
    }
    if all(_stands(there.get(key)) for key in keys) and _is_of(out, stored):
        return  # who only looks at results made none: the file keeps saying who did
    keep_sources(plan, out)
    write_atomically(out / "suite.json", json.dumps(stored, indent=1, sort_keys=True) + "\n")


def _tell_of_given(plan: Plan, runner: Runner, observer: Observer) -> None:
    """Say how well the user's own weights do here, who alone knows how well they should."""
    firsts = {(spec.dataset, spec.model.label): spec for spec in reversed(plan.runs)}
    for spec in [spec for spec in firsts.values() if spec.original is not None]:
        try:
            right = runner.given_accuracy(spec)
        except RunFailedError:
            continue  # so will the runs, each with the reason
        data = runner.dataset(spec)
        observer.notice(
            f"the given weights classify {right:.1%} of the {spec.dataset} test images; inputs "
            f"are {data.normalization}, classes in the order {in_order(data.classes)}. If that is "
            "less than you know of them, --mean/--std, --image-size or the order of the classes "
            "differ"
        )


def _is_of(out: Path, asked: Mapping[str, Any]) -> bool:
    """Say whether the folder says that it is of this very plan."""
    try:
        there = read_suite(out)
    except OutputError:
        return False
    telling = ("format", "suite", "device", "original", "unlearned", "plan", "runs", "notes")
    return not any(_differs(asked[name], there.get(name)) for name in telling)


def _facts(method: str) -> dict[str, Any]:
    """Return what a report says of a method beside its results, and filters by."""
    entry = registry.get(method)
    return {
        "name": method,
        "access": "" if entry.kind == "given" else str(entry.access),
        "family": entry.family,
        "year": entry.year,
        "source": entry.source,
        "fake": entry.fake,
    }


def _differs(one: object, other: object) -> bool:
    return canonical_json(one) != canonical_json(other)
