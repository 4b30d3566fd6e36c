"""What a results folder says of its own making: command, code, versions, hardware, gaps."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from unlearn_bench.analysis.table import Section, sections
from unlearn_bench.core.errors import OutputError, RefusedError
from unlearn_bench.core.fence import FENCED
from unlearn_bench.core.quantities import in_order
from unlearn_bench.core.reading import MIB, read_json, read_text
from unlearn_bench.core.text import csv_text, from_cell, readable
from unlearn_bench.results.checks import is_number
from unlearn_bench.results.curves import read_curves
from unlearn_bench.results.facts import BUILT_IN_FACTS, Facts, facts_of
from unlearn_bench.results.records import COLUMNS, read_records, read_suite, run_file
from unlearn_bench.results.tables import source_of

WEIGHTS = "weights.csv"
WEIGHTS_BYTES = 128 * MIB
# Hex digits of a SHA-256 that are shown; the files of the folder hold them in full.
_SHOWN = 12
# What a reproduce line leaves to its reader.
_VARIABLES = (
    ("DATA_ROOT", "the folder of the data"),
    ("ORIGINAL", "the file of the original weights"),
    ("UNLEARNED", "the folder of the unlearned weights"),
)
# From this many on, hashes are counted and not listed.
_MANY = 12


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
        recipe: How original and retrained models were trained, in words.
        original: Name and hash of the file that the original was given in, if it was.
        hardware: What the times were measured on.
        not_run: Planned runs without a result, methods that lack the same seeds together.
        reproduce: The shell line that makes the results again.
    """

    name: str
    description: str
    command: str
    facts: tuple[tuple[str, str], ...]
    planned: int
    finished: int
    failed: int
    notes: tuple[str, ...]
    recipe: str = ""
    original: str = ""
    hardware: str = ""
    not_run: tuple[str, ...] = ()
    reproduce: str = ""

    @property
    def how_to_repeat(self) -> str:
        """Say where the line of :attr:`reproduce` runs, and what it needs."""
        needed = [f"{name} set to {what}" for name, what in _VARIABLES if name in self.reproduce]
        needs = f" (with {' and '.join(needed)})" if needed else ""
        return f"To make it again, in this folder{needs}, into reproduced/:"

    @property
    def missing(self) -> int:
        """Runs that were planned and have neither result nor failure."""
        return self.planned - self.finished - self.failed


@dataclass(frozen=True)
class Report:
    """Everything a renderer needs.

    Attributes:
        records: The long table that all of it comes from.
        methods: What the suite knew of each method by its label: access, family, year, source.
        curves: Points of all curves, or None where the folder has none.
        runs: What the runs' own files add, as far as it is known.
        facts: What is known of metrics, and of who is a fake.
    """

    sections: tuple[Section, ...]
    provenance: Provenance
    records: pd.DataFrame
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    curves: pd.DataFrame | None = None
    runs: "tuple[Made, ...]" = ()
    facts: Facts = BUILT_IN_FACTS


@dataclass(frozen=True)
class Made:
    """Where one run was made, and the SHA-256 of the weights it knew; empty where not known.

    ``isolation`` is what kept the method from all but what it was handed.

    Read from the runs' own files, and kept in :data:`WEIGHTS`: reports are committed without
    ``runs/``, and say the same when they are written again.
    """

    run_key: str
    dataset: str
    model: str
    scenario: str
    method: str
    seed: str
    hardware: str
    original: str
    unlearned: str
    retrained: str
    isolation: str = ""


_MADE = tuple(field.name for field in fields(Made))


def read_report(folder: Path) -> Report:
    """Read a results folder; a suite that has not run yet has no sections.

    Raises:
        OutputError: If the folder is not a results folder, or is damaged.
    """
    has_suite = os.path.lexists(folder / "suite.json")
    # Killed before its first run, a suite has a plan and no records: still worth a page.
    if has_suite and source_of(folder) is None:
        records = pd.DataFrame(columns=list(COLUMNS))
    else:
        records = read_records(folder)
    suite = mapping(_readable(read_suite(folder))) if has_suite else {}
    if suite.get("tuning"):
        raise OutputError(
            f"settings were tuned in {folder}, and nothing was compared with the true retraining; "
            f"see `unlearn-bench tune {folder} --show`"
        )
    runs = made(folder, records)
    methods = {str(name): mapping(known) for name, known in mapping(suite.get("methods")).items()}
    facts = facts_of(suite)
    provenance = _provenance(suite, records, runs, facts)
    found, curves = sections(records, facts), read_curves(folder)
    return Report(found, provenance, records, methods, curves, runs, facts)


def hardware_text(environment: Mapping[str, Any]) -> str:
    """Name the machine that an environment describes."""
    words = [str(environment[name]) for name in ("device", "cpu") if environment.get(name)]
    if environment.get("threads"):
        threads = environment["threads"]
        words.append(f"{threads} thread{'s' if threads != 1 else ''}")
    return ", ".join(words)


def versions_of(stored: Mapping[str, Any]) -> dict[str, str]:
    """Return name and version of all software that ``suite.json`` names."""
    hardware = {"device", "cpu", "cores", "threads"}
    environment = mapping(stored.get("environment"))
    versions = {name: value for name, value in environment.items() if name not in hardware}
    packages = mapping(mapping(stored.get("origin")).get("packages"))
    return {str(name): str(value) for name, value in {**versions, **packages}.items()}


def commit_text(stored: Mapping[str, Any]) -> str:
    """Name the commit that the code was checked out from, empty where it was installed."""
    commit = mapping(mapping(stored.get("origin")).get("commit"))
    if not commit.get("id"):
        return ""
    return f"commit {commit['id']}" + (", with local changes" if commit.get("modified") else "")


def mapping(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping, else an empty one: files may be of any version."""
    return value if isinstance(value, Mapping) else {}


def listed(value: object) -> list[str]:
    """Return the entries of a list as text; of anything else, none."""
    return [str(entry) for entry in value] if isinstance(value, list) else []


def _readable(value: Any) -> Any:
    """Return a value of JSON, whose depth is bounded, with every text in it readable."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, list):
        return [_readable(entry) for entry in value]
    if isinstance(value, dict):
        return {readable(name): _readable(entry) for name, entry in value.items()}
    return value


def made(folder: Path, records: pd.DataFrame) -> tuple[Made, ...]:
    """Return what is known of the making of each run in ``records``, in their order.

    From the runs' own files, else from :data:`WEIGHTS`; folders of before it may have neither.
    """
    kept = _kept(folder)
    found = (
        _read_made(folder, key) or kept.get(key) for key in records["run_key"].astype(str).unique()
    )
    return tuple(run for run in found if run is not None)


def weights_csv(runs: Iterable[Made]) -> str:
    """Return the text of :data:`WEIGHTS`, one line per run; without isolation if none knows it."""
    lines = [astuple(run) for run in runs]
    width = len(_MADE) - (not any(line[-1] for line in lines))
    return csv_text([_MADE[:width], *(line[:width] for line in lines)])


def _read_made(folder: Path, key: str) -> Made | None:
    try:
        stored = read_json(run_file(folder, key), links=False)
        names = ("dataset", "model", "scenario", "method", "seed")
        place = {name: str(_readable(stored[name])) for name in names}
    except (OSError, OutputError, RefusedError, KeyError, TypeError):
        return None
    # Not all of the file is made readable: of its thousands of numbers none is looked at.
    stored_hashes = mapping(_readable(stored.get("hashes")))
    hashes = {n: str(stored_hashes.get(n, "")) for n in ("original", "unlearned", "retrained")}
    environment = mapping(_readable(stored.get("environment")))
    hardware, isolation = hardware_text(environment), str(environment.get("isolation") or "")
    return Made(run_key=key, hardware=hardware, isolation=isolation, **place, **hashes)


def _kept(folder: Path) -> dict[str, Made]:
    try:
        text = read_text(folder / WEIGHTS, WEIGHTS_BYTES, links=False)
        lines = list(csv.DictReader(readable(text).splitlines()))
        return {
            line["run_key"]: Made(**{name: from_cell(line.get(name) or "") for name in _MADE})
            for line in lines
        }
    except (OSError, RefusedError, KeyError, csv.Error):
        return {}


def _provenance(
    stored: Mapping[str, Any], records: pd.DataFrame, runs: Sequence[Made], known: Facts
) -> Provenance:
    suite = mapping(stored.get("suite"))
    origin = mapping(stored.get("origin"))
    keys = records["run_key"].astype(str)
    failed = set(keys[records["status"] == "failed"])
    finished = set(keys.unique()) - failed
    plan = set(listed(stored.get("plan")))
    planned = mapping(origin.get("planned"))
    machines = dict.fromkeys(filter(None, (run.hardware for run in runs)))
    hardware = "; ".join(machines) or hardware_text(mapping(stored.get("environment")))
    recipe = _recipe(mapping(suite.get("recipe")))
    original = mapping(origin.get("original"))
    facts = _facts(stored, records, runs, recipe=recipe, hardware=hardware)
    return Provenance(
        name=str(suite.get("name", "")),
        description=str(suite.get("description") or ""),
        command=str(stored.get("command") or ""),
        facts=facts,
        planned=len(plan | finished | failed),
        finished=len(finished),
        failed=len(failed),
        notes=(
            *listed(stored.get("notes")),
            *_isolation_notes(runs, plugins=bool(mapping(origin.get("plugins")))),
            *_chosen_note(known),
        ),
        recipe=recipe,
        original=_given(original),
        hardware=hardware,
        not_run=_not_run(planned, plan - finished - failed),
        # Earlier versions wrote the data's path as it was typed, from wherever that was.
        reproduce=re.sub(
            r"--data-root ('[^']*'|[^'\"\s]+)",
            '--data-root "${DATA_ROOT:?set it to the folder of the data}"',
            str(origin.get("reproduce") or ""),
        ),
    )


def _chosen_note(known: Facts) -> tuple[str, ...]:
    if not known.chosen:
        return ()
    return (
        "The suite itself chose the metrics that decide the verdict, before its first run: "
        f"{', '.join(known.chosen)}. The package's own set is left out of it.",
    )


def _facts(
    stored: Mapping[str, Any],
    records: pd.DataFrame,
    runs: Sequence[Made],
    *,
    recipe: str,
    hardware: str,
) -> tuple[tuple[str, str], ...]:
    """Return pairs of label and text, in reading order; what is not known is left out."""
    suite, origin = mapping(stored.get("suite")), mapping(stored.get("origin"))
    seeds = sorted(set(records["seed"]))
    file, original = mapping(origin.get("suite_file")), mapping(origin.get("original"))
    found = (
        ("Suite", str(suite.get("name", ""))),
        ("Suite file", _named(file)),
        ("Code", commit_text(stored)),
        ("Versions", ", ".join(f"{name} {value}" for name, value in versions_of(stored).items())),
        ("Hardware", hardware),
        ("Isolation", "; ".join(_isolations(runs))),
        ("Began", str(stored.get("started") or "")),
        ("Seeds", f"{len(seeds)} ({in_order([*map(str, seeds)])})" if seeds else ""),
        ("Original", _given(original)),
        ("Retraining" if original else "Training", recipe),
        (
            "Unlearned models",
            "; ".join(
                f"{label}: {_given(mapping(file))}"
                for label, file in mapping(origin.get("unlearned")).items()
            ),
        ),
        ("Data", _hashes(mapping(origin.get("data")).items())),
        *_inputs(mapping(origin.get("inputs"))),
        ("Surrogate images", _surrogates(mapping(origin.get("surrogate_data")))),
        ("Method files", _hashes(mapping(origin.get("method_files")).items())),
        ("Plug-in files", _hashes(mapping(origin.get("plugins")).items())),
        # One original serves every scenario.
        (
            "Original weights",
            _weights(
                (f"{run.dataset} · {run.model} · seed {run.seed}", run.original) for run in runs
            ),
        ),
        (
            "Retrained weights",
            _weights(
                (f"{run.dataset} · {run.model} · {run.scenario} · seed {run.seed}", run.retrained)
                for run in runs
            ),
        ),
        ("Methods not asked for", ", ".join(listed(origin.get("not_asked")))),
    )
    return tuple((label, text) for label, text in found if text)


def _isolations(runs: Iterable[Made]) -> dict[str, list[str]]:
    """Return the methods of each kind of isolation, in order; runs of old do not say theirs."""
    found: dict[str, list[str]] = {}
    for run in runs:
        if run.isolation and run.method not in found.setdefault(run.isolation, []):
            found[run.isolation].append(run.method)
    return found


def _isolation_notes(runs: Iterable[Made], *, plugins: bool) -> Iterator[str]:
    """Say where methods could reach different things, and what plug-ins could reach at all."""
    found = _isolations(runs)
    if len(found) > 1:
        named = "; ".join(f"{kind}: {in_order(methods)}" for kind, methods in found.items())
        yield f"methods were not isolated alike, and could not reach the same things. {named}"
    if plugins and FENCED in found:
        yield (
            "plug-ins were loaded, and methods ran in the harness's process behind an audit hook. "
            "The hook sees Python, not native code: compiled code could have read the retrained "
            "model. --isolate closes this gap; SECURITY.md lists the others"
        )


def _given(file: Mapping[str, Any]) -> str:
    """Name a file of weights that came from outside."""
    return f"given ({_named(file)})" if file else ""


def _named(file: Mapping[str, Any]) -> str:
    return f"{file.get('name')}, SHA-256 {file.get('sha256')}" if file else ""


def _inputs(datasets: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say how pixels became inputs, and which class has which number."""
    for name, stored in datasets.items():
        known = mapping(stored)
        of = f" of {name}" if len(datasets) > 1 else ""
        yield f"Inputs{of}", str(known.get("normalization") or "")
        yield f"Classes{of}, from 0", in_order(listed(known.get("classes")))


def _surrogates(known: Mapping[str, Any]) -> str:
    """Say what methods were handed in place of images that they make themselves."""
    if not known:
        return ""
    count = known.get("images")
    images = f"{count:,} images" if isinstance(count, int) else "images"
    read_by = in_order(listed(known.get("methods")))
    digest = str(known.get("digest"))[:_SHOWN]
    return f"{known.get('name')}, {images}, SHA-256 {digest}; read without labels by {read_by}"


def _recipe(recipe: Mapping[str, Any]) -> str:
    names = ("epochs", "optimizer", "lr", "batch_size")
    if any(name not in recipe for name in names):
        return ""
    epochs, optimizer, lr, batch = (recipe[name] for name in names)
    # Left out where they are as they always were.
    how = [str(recipe[name]) for name in ("precision", "memory_format") if name in recipe]
    how += ["compiled"] if recipe.get("compile") else []
    return ", ".join(
        [
            f"{epochs} epoch{'s' if epochs != 1 else ''} of {optimizer}",
            f"learning rate {f'{lr:g}' if is_number(lr) else lr}",
            f"batches of {batch}",
            *how,
        ]
    )


def _hashes(named: Iterable[tuple[str, Any]], place: str = "suite.json") -> str:
    """List short hashes by name; many are counted instead, and the place named that lists them."""
    known = [(str(name), str(value)) for name, value in named]
    if len(known) > _MANY:
        return f"{len(known)}, the SHA-256 of each in {place}"
    return ", ".join(f"{name} {value[:_SHOWN]}" for name, value in known)


def _weights(known: Iterable[tuple[str, str]]) -> str:
    """List short hashes of weights by the place they belong to, each once."""
    return _hashes(dict.fromkeys(pair for pair in known if pair[1]), WEIGHTS)


def _not_run(planned: Mapping[str, Any], missing: set[str]) -> tuple[str, ...]:
    """Name what is missing: methods that lack the same seeds in one setting together."""
    seeds: dict[tuple[str, ...], list[str]] = {}
    for key, cell in planned.items():
        if key in missing and isinstance(cell, list) and len(cell) == 5:
            dataset, model, scenario, method, seed = map(str, cell)
            seeds.setdefault((dataset, model, scenario, method), []).append(seed)
    alike: dict[tuple[str, ...], list[str]] = {}
    for (*setting, method), found in sorted(seeds.items()):
        # Seeds are numbers; shorter ones are smaller.
        ordered = in_order(sorted(found, key=lambda seed: (len(seed), seed)))
        lacking = f"seed{'s' if len(found) > 1 else ''} {ordered}"
        alike.setdefault((" · ".join(setting), lacking), []).append(method)
    return tuple(
        f"{in_order(methods)} ({setting}, {lacking})"
        for (setting, lacking), methods in alike.items()
    )
