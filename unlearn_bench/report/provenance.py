"""What a results folder says of its own making: command, versions, hardware, gaps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unlearn_bench.report.table import Section, sections
from unlearn_bench.results import COLUMNS, read_records, read_suite


@dataclass(frozen=True)
class Provenance:
    """How the results came to be; every entry may be empty.

    Attributes:
        name: Name of the suite.
        facts: Pairs of label and text, in reading order.
        planned: Runs that the suite asked for.
        finished: Runs with a result.
        failed: Runs that ended without one.
        notes: Remarks of the harness.
    """

    name: str
    description: str
    command: str
    facts: tuple[tuple[str, str], ...]
    planned: int
    finished: int
    failed: int
    notes: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Runs that were planned and have neither result nor failure."""
        return self.planned - self.finished - self.failed


@dataclass(frozen=True)
class Report:
    """Everything a renderer needs."""

    sections: tuple[Section, ...]
    provenance: Provenance


def read_report(folder: Path) -> Report:
    """Read a results folder; a suite that has not run yet has no sections.

    Raises:
        OutputError: If the folder is not a results folder, or is damaged.
    """
    has_suite = (folder / "suite.json").exists()
    # Killed before its first run, a suite has a plan and no records: still worth a page.
    if has_suite and not (folder / "records.csv").exists():
        records = pd.DataFrame(columns=list(COLUMNS))
    else:
        records = read_records(folder)
    suite = read_suite(folder) if has_suite else {}
    return Report(sections(records), _provenance(suite, records))


def _provenance(stored: Mapping[str, Any], records: pd.DataFrame) -> Provenance:
    suite = _mapping(stored.get("suite"))
    environment = _mapping(stored.get("environment"))
    keys = records["run_key"].astype(str)
    failed = set(keys[records["status"] == "failed"])
    finished = set(keys) - failed
    plan = {str(key) for key in stored.get("plan") or ()}
    named = {"device", "cpu", "threads"}
    versions = [f"{name} {value}" for name, value in environment.items() if name not in named]
    hardware = [str(environment[name]) for name in ("device", "cpu") if environment.get(name)]
    if environment.get("threads"):
        hardware.append(f"{environment['threads']} threads")
    seeds = sorted(set(records["seed"]))
    facts = (
        ("Suite", str(suite.get("name", ""))),
        ("Versions", ", ".join(versions)),
        ("Hardware", ", ".join(hardware)),
        ("Seeds", f"{len(seeds)} ({', '.join(map(str, seeds))})" if seeds else ""),
    )
    return Provenance(
        name=str(suite.get("name", "")),
        description=str(suite.get("description") or ""),
        command=str(stored.get("command") or ""),
        facts=tuple((label, text) for label, text in facts if text),
        planned=len(plan | finished | failed),
        finished=len(finished),
        failed=len(failed),
        notes=tuple(str(note) for note in stored.get("notes") or ()),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
