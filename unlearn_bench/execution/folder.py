"""The results folder: of one suite and one command at a time, with what tells suites apart."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import (
    is_temporary,
    readable_os_errors,
    refuse_links,
    write_atomically,
)
from unlearn_bench.core.keys import canonical_json
from unlearn_bench.execution.examples import changed_examples
from unlearn_bench.execution.heartbeat import PREFIX as PROGRESS
from unlearn_bench.execution.identity import RETRAIN
from unlearn_bench.execution.names import FOLDERS, LOCK, TUNING
from unlearn_bench.execution.origin import keep_sources, origin
from unlearn_bench.execution.run import Runner
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.metric import stored_metrics
from unlearn_bench.results.brief import PREFIX as BRIEF
from unlearn_bench.results.checks import is_key
from unlearn_bench.results.records import FORMAT, RunResult, read_suite
from unlearn_bench.suite.config import Plan
from unlearn_bench.suite.spec import RunSpec

# What processes at work lock and write of themselves.
_OF_PROCESSES = re.compile(
    rf"{re.escape(LOCK)}(-join|-seed-\d{{1,9}})?|{PROGRESS}(-seed-\d{{1,9}})?\.json"
    rf"|{re.escape(BRIEF)}-seed-\d{{1,9}}\.jsonl"
)


def refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds files and was not made by a suite: they might be overwritten.

    Raises:
        OutputError: With one of the files, or if a part of the folder is a symbolic link.
    """
    refuse_links(out, (*FOLDERS, "suite.json"))
    with readable_os_errors("read", out):
        there = sorted(out.iterdir()) if out.is_dir() else []
        # A run that was ended before it wrote suite.json left no more than these.
        foreign = next((path.name for path in there if not _may_be_left(path)), None)
    if foreign is None or _is_a_suites(out):
        return
    raise OutputError(
        f"{out} contains files that unlearn-bench did not write ({foreign} for example), "
        "which results might overwrite; choose another --out, or an empty folder"
    )


def _may_be_left(path: Path) -> bool:
    """Whether a run that was ended early may have left this."""
    if path.name in ("runs", TUNING):
        inside = path.iterdir() if path.name == "runs" and path.is_dir() else ()
        return all(_is_result(p.name) or is_temporary(p.name) for p in inside)
    return _OF_PROCESSES.fullmatch(path.name) is not None or is_temporary(path.name)


def _is_result(name: str) -> bool:
    return name.endswith(".json") and is_key(name.removesuffix(".json"))


def _is_a_suites(out: Path) -> bool:
    """Whether ``suite.json`` is there and has a plan, which another program's has not.

    Raises:
        OutputError: If it is damaged or of a later version.
    """
    return (out / "suite.json").exists() and isinstance(read_suite(out).get("plan"), list)


def refuse_another_suite(plan: Plan, out: Path, keys: list[str] | None = None) -> dict[str, Any]:
    """Refuse a folder that holds another suite's results.

    Args:
        plan: The suite.
        out: The folder.
        keys: Of the results of all planned runs, where other processes are at work on the suite:
            theirs must be the same.

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
        "tuning": dict(plan.tuning) or None,
        "tuned": plan.tuned.fingerprint if plan.tuned else None,
    }
    # Without a single run there is nothing to mix up: a first attempt that failed early, with
    # the wrong --original for one, does not bar the folder to the next.
    used = keys is not None or any((out / "runs").glob("*.json"))
    if (out / "suite.json").exists() and used:
        there = read_suite(out)
        different = [name for name in asked if _differs(asked[name], there.get(name))]
        if "suite" in different:
            old = there.get("suite") or {}
            # Also what is only there: a key is left out where it is as it always was. What is shown
            # beside the results has no part in them.
            parts = [part for part in {**old, **suite} if part != "published"]
            inside = [part for part in parts if _differs(suite.get(part), old.get(part))]
            different = inside + [name for name in different if name != "suite"]
        if different:
            raise OutputError(
                f"{out} holds the results of another suite (it differs in: "
                f"{', '.join(different)}); choose another --out, or delete that folder"
            )
        if keys is not None and _differs(keys, there.get("plan")):
            raise OutputError(
                f"the processes running in {out} use other data or another version of a method; "
                "choose another --out, or wait for them"
            )
    return asked


def is_there(out: Path) -> bool:
    """Whether the folder that :func:`claim` wrote into is still there."""
    return (out / "suite.json").is_file()


def refuse_if_gone(out: Path) -> None:
    """End a suite whose folder was deleted, moved or emptied: what it lacks cannot be known.

    Raises:
        OutputError: If it was.
    """
    if not is_there(out):
        raise OutputError(
            f"{out} was deleted, moved or emptied while the suite ran; run the same command again: "
            "models already trained are kept in the store"
        )


def stands(result: RunResult | None, spec: RunSpec | None = None) -> bool:
    """Whether a run need not be repeated; of a failed trial of tuning, the failure is the result.

    Args:
        result: What is on disk.
        spec: Which run it is of, where that matters.
    """
    if result is None:
        return False
    trial = spec is not None and spec.surrogate is not None and spec.method != RETRAIN
    return trial or result.status == "ok" and not result.error


def claim(
    plan: Plan,
    runner: Runner,
    keys: list[str],
    there: Mapping[str, RunResult],
    out: Path,
    command: str,
    *,
    alone: bool = True,
) -> dict[str, Any]:
    """Write ``suite.json``, or refuse a folder that holds another suite's results.

    Args:
        plan: The suite.
        runner: Says what it runs with.
        keys: Of the results of all planned runs.
        there: Results on disk, by key.
        out: The folder.
        command: The command line.
        alone: Whether no other process is at work on the suite.

    Returns:
        What the file says, for :func:`record_growth`.
    """
    asked = refuse_another_suite(plan, out, None if alone else keys)
    stored = asked | {
        "format": FORMAT,
        "plan": keys,
        "runs": _cells(plan),
        "notes": list(plan.notes),
        "methods": {spec.label: _facts(spec) for spec in plan.runs},
        "metrics": stored_metrics(),
        "ensembles": _ensembles(plan),
        "changed_examples": changed_examples(plan, runner),
        "tuned_settings": plan.tuned.model_dump(mode="json") if plan.tuned else None,
        "published": plan.published.model_dump(mode="json") if plan.published else None,
        "rows": {
            place: {label: [row.text, row.tuned] for label, row in rows.items()}
            for place, rows in plan.rows.items()
        },
        "command": command,
        "environment": dict(runner.environment)
        | ({"threads": plan.suite.threads} if plan.suite.threads else {}),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "origin": origin(plan, keys, runner),
    }
    # Who only looks at results made none, and who joins others came after them: the file keeps
    # saying who made them, and who came first.
    looks = all(stands(there.get(key)) for key in keys)
    if (looks or not alone) and _is_of(out, stored):
        return stored
    # First: what tells that the folder is ours, whatever ends this in the next moment.
    _write(out, stored)
    keep_sources(plan, out)
    return stored


def record_growth(plan: Plan, keys: list[str], out: Path, stored: dict[str, Any]) -> None:
    """Write into ``suite.json`` that a plan has got more runs, for `status` and for readers."""
    _write(out, stored | {"plan": keys, "runs": _cells(plan)})


def _write(out: Path, stored: Mapping[str, Any]) -> None:
    write_atomically(out / "suite.json", json.dumps(stored, indent=1, sort_keys=True) + "\n")


def _cells(plan: Plan) -> list[dict[str, Any]]:
    """Name the runs, so that `status` can say what is left without loading methods or data."""
    return [
        {
            "dataset": spec.dataset,
            "model": spec.model.label,
            "scenario": spec.place,
            "seed": spec.seed,
            "method": spec.label,
        }
        for spec in plan.runs
    ]


def _ensembles(plan: Plan) -> dict[str, list[str]]:
    """Say of models that are trained in shards what they are as one model, and whose they are."""
    found: dict[str, list[str]] = {}
    for spec in plan.runs:
        if spec.model.sharding is not None and registry.get(spec.method).access.checkpoints:
            found.setdefault(spec.model.label, [spec.model.whole.label, spec.label])
    return found


def _is_of(out: Path, asked: Mapping[str, Any]) -> bool:
    """Say whether the folder says that it is of this very plan."""
    try:
        there = read_suite(out)
    except OutputError:
        return False
    made_of = ("format", "suite", "device", "original", "unlearned", "published")
    telling = (*made_of, "plan", "runs", "notes")
    return not any(_differs(asked[name], there.get(name)) for name in telling)


def _facts(spec: RunSpec) -> dict[str, Any]:
    """Return what a report says of a method beside its results, and filters by."""
    entry = registry.get(spec.method)
    # Of access to surrogate images, what this run made of it.
    reads = str(replace(entry.access, surrogate=False))
    reads += f" + surrogate images of {spec.surrogate_data}" if spec.surrogate_data else ""
    return {
        "name": spec.method,
        "access": "" if entry.kind == "given" else reads,
        "family": entry.family,
        "year": entry.year,
        "source": entry.source,
        "fake": entry.fake,
    }


def _differs(one: object, other: object) -> bool:
    return canonical_json(one) != canonical_json(other)
