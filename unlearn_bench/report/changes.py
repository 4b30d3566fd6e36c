"""What differs between two results folders before any number is looked at: the protocol.

Settings of the suite, parameters in force, code, versions, hardware, data and who took part.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unlearn_bench.core.errors import RefusedError
from unlearn_bench.core.reading import parse_json
from unlearn_bench.report.provenance import commit_text, mapping, versions_of
from unlearn_bench.report.text import NONE

_SETTING = ["dataset", "model", "scenario"]
_SHOWN = 12
# Told by other entries: hyper-parameters in force, and where results were written.
_ELSEWHERE = ("params", "methods")


@dataclass(frozen=True)
class Change:
    """One entry that differs, as text."""

    what: str
    first: str
    second: str


@dataclass(frozen=True, eq=False)
class Folder:
    """What results folders are compared by: ``suite.json``, the records and who made them."""

    suite: Mapping[str, Any]
    records: pd.DataFrame
    hardware: str


def changes(first: Folder, second: Folder) -> tuple[Change, ...]:
    """List what differs between two folders' protocols, each entry once, in reading order."""
    found = []
    for group, left, right in zip(_GROUPS, _entries(first), _entries(second), strict=True):
        if group.recorded and not (left and right):
            if left or right:
                counts = (
                    f"{len(one)} recorded" if one else "not recorded" for one in (left, right)
                )
                found.append(Change(f"{group.name}s", *counts))
            continue
        # Whoever took part in one folder only is named once, below, and not by its files.
        names = [n for n in left if n in right] if group.common else dict.fromkeys((*left, *right))
        for name in names:
            one, other = left.get(name, NONE), right.get(name, NONE)
            if one != other:
                found.append(Change(f"{group.name} {name}".strip(), one, other))
    return (*found, *_only_in_one(first, second))


@dataclass(frozen=True)
class _Group:
    """Entries of one kind; ``recorded`` by newer versions only, ``common`` to both or not told."""

    name: str
    recorded: bool = False
    common: bool = False


_GROUPS = (
    _Group("suite:"),
    _Group(""),
    _Group("version of"),
    _Group("package version", recorded=True),
    _Group("dataset", recorded=True),
    _Group("method file", recorded=True, common=True),
    _Group("", common=True),
)


def _entries(folder: Folder) -> Iterator[dict[str, str]]:
    """Yield the named texts of each of :data:`_GROUPS`."""
    suite, origin = mapping(folder.suite.get("suite")), mapping(folder.suite.get("origin"))
    yield dict(_flat({k: v for k, v in suite.items() if k not in _ELSEWHERE}))
    environment = mapping(folder.suite.get("environment"))
    seeds = sorted(set(folder.records["seed"]))
    yield {
        "device": str(folder.suite.get("device") or NONE),
        "original weights": str(folder.suite.get("original") or NONE)[:_SHOWN],
        "command": str(folder.suite.get("command") or NONE),
        "code": commit_text(folder.suite) or NONE,
        "hardware": folder.hardware or NONE,
        "seeds": ", ".join(map(str, seeds)) or NONE,
    }
    yield versions_of({"environment": environment})
    yield {str(name): str(found) for name, found in mapping(origin.get("packages")).items()}
    for name in ("data", "method_files"):
        yield {str(k): str(v)[:_SHOWN] for k, v in mapping(origin.get(name)).items()}
    yield _parameters(folder.records)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, entry in value.items():
        if isinstance(entry, Mapping) and entry:
            yield from _flat(entry, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", entry if isinstance(entry, str) else json.dumps(entry)


def _parameters(records: pd.DataFrame) -> dict[str, str]:
    """Return every method's parameters in force, by ``METHOD.PARAMETER`` and, if several, setting.

    A method that a scenario gives parameters of its own has several values, all named.
    """
    found: dict[str, dict[str, None]] = {}
    for method, text in records[["method", "params"]].drop_duplicates().itertuples(index=False):
        try:
            params = mapping(parse_json(str(text), "params"))
        except RefusedError:
            continue
        for name, value in params.items():
            found.setdefault(f"{method}.{name}", {}).setdefault(json.dumps(value))
    return {name: " or ".join(values) for name, values in found.items()}


def _only_in_one(first: Folder, second: Folder) -> Iterator[Change]:
    """Name the methods that only one folder has, by setting."""

    def methods(folder: Folder) -> dict[tuple[str, ...], set[str]]:
        groups = folder.records.groupby(_SETTING, sort=False)["method"]
        return {tuple(map(str, setting)): set(map(str, names)) for setting, names in groups}

    one, other = methods(first), methods(second)
    for setting in dict.fromkeys((*one, *other)):
        left, right = one.get(setting, set()), other.get(setting, set())
        # Parameters of a method that is absent are no news beside its absence.
        if left != right:
            names = (", ".join(sorted(names)) or NONE for names in (left - right, right - left))
            yield Change(f"methods only there ({' · '.join(setting)})", *names)
