"""Map the runs of a suite over the runner, into a results folder that survives anything.

A run whose result is on disk is not repeated; a failed one is tried again. The folder belongs
to one suite and one process at a time.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from unlearn_bench.config import Plan
from unlearn_bench.errors import ConfigError, OutputError
from unlearn_bench.files import readable_os_errors, write_atomically
from unlearn_bench.keys import canonical_json
from unlearn_bench.results import RunResult, read_run, read_suite, write_records, write_run
from unlearn_bench.runner import RunFailedError, Runner
from unlearn_bench.spec import RunSpec


class Observer(Protocol):
    """Told what is going on while a suite runs."""

    def run_started(self, position: int, spec: RunSpec) -> None:
        """The run at ``position`` (from 0) begins."""

    def step(self, text: str) -> None:
        """The running run does something else now."""

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        """The run ended; ``reused`` when its result was on disk already."""

    def run_failed(self, cause: BaseException | None) -> None:
        """What the failed run raised, for debugging."""


def execute(
    plan: Plan, runner: Runner, out: Path, observer: Observer, *, command: str
) -> list[RunResult]:
    """Run every planned run that has no result in ``out`` yet; return the results of all.

    Whatever ends this early, ``records.csv`` covers what was finished.

    Args:
        plan: The runs, in order.
        runner: Executes single runs.
        out: The results folder; created if need be.
        observer: Told about progress.
        command: The command line, for the report.

    Raises:
        UserError: If the data, a model or the folder make the suite impossible; nothing has
            been run then.
    """
    _check(plan, runner)
    keys = [runner.key(spec) for spec in plan.runs]
    _refuse_repeats(plan, keys)
    with _owned(out):
        _claim(plan, runner, keys, out, command)
        results: dict[str, RunResult] = {}
        try:
            for position, (spec, key) in enumerate(zip(plan.runs, keys, strict=True)):
                results[key] = _one(position, spec, key, runner, out, observer)
        finally:
            # An earlier process may have finished runs that this one did not come to.
            for key in keys:
                there = results.get(key) or _readable(out, key)
                if there is not None:
                    results[key] = there
            write_records(out, [results[key] for key in keys if key in results])
    return list(results.values())


def _readable(out: Path, key: str) -> RunResult | None:
    try:
        return read_run(out, key)
    except OutputError:
        return None


def _one(
    position: int, spec: RunSpec, key: str, runner: Runner, out: Path, observer: Observer
) -> RunResult:
    observer.run_started(position, spec)
    result = read_run(out, key)
    if result is not None and result.status == "ok" and not result.error:
        observer.run_finished(position, result, reused=True)
        return result
    try:
        result = runner.run(spec, observer.step)
    except RunFailedError as failure:
        result = runner.result(spec, "failed", error=str(failure))
        observer.run_failed(failure.__cause__)
    write_run(out, result)
    observer.run_finished(position, result, reused=False)
    return result


def _check(plan: Plan, runner: Runner) -> None:
    """Set up every split and every model once, so that mistakes show before hours of work."""
    seen: set[Any] = set()
    for spec in plan.runs:
        split = ("split", spec.dataset, spec.forget.model_dump_json(), spec.seed)
        model = ("model", spec.dataset, spec.model.model_dump_json())
        for what, check in ((split, runner.check_split), (model, runner.check_model)):
            if what not in seen:
                seen.add(what)
                check(spec)


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
def _owned(out: Path) -> Iterator[None]:
    """Hold the folder for this process; the system lets go of it when the process dies."""
    lock = FileLock(out / ".lock")
    with readable_os_errors("write into", out):
        (out / "runs").mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"another process is running a suite in {out}; wait for it or choose another --out"
            ) from None
        for left in (*out.glob(".*.tmp"), *(out / "runs").glob(".*.tmp")):
            left.unlink(missing_ok=True)  # what a killed process was writing
    try:
        yield
    finally:
        lock.release()


def _claim(plan: Plan, runner: Runner, keys: list[str], out: Path, command: str) -> None:
    """Write ``suite.json``, or refuse a folder that holds another suite's results."""
    first = plan.runs[0]
    suite = plan.suite.model_dump(mode="json")
    asked = {
        "suite": suite,
        "device": first.device,
        "original": first.original.sha256 if first.original else None,
    }
    path = out / "suite.json"
    # Without a single run there is nothing to mix up: a first attempt that failed early, with
    # the wrong --original for one, does not bar the folder to the next.
    if path.exists() and any((out / "runs").glob("*.json")):
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
    stored = asked | {
        "plan": keys,
        "notes": list(plan.notes),
        "command": command,
        "environment": dict(runner.environment)
        | ({"threads": plan.suite.threads} if plan.suite.threads else {}),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_atomically(path, json.dumps(stored, indent=1, sort_keys=True) + "\n")


def _differs(one: object, other: object) -> bool:
    return canonical_json(one) != canonical_json(other)
