"""The command ``check``: whether methods, and plug-ins of other kinds, behave as they must."""

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unlearn_bench.cli.app import Plugins, app, new_console
from unlearn_bench.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unlearn_bench.conformance import Finding

    Subject = tuple[str, Callable[[], Iterable[Finding]]]

_STATUS = {"passed": ("passed", "green"), "failed": ("FAILED", "red"), "skipped": ("n/a", "dim")}


@app.command()
def check(
    method: Annotated[
        str | None,
        typer.Argument(help="A name, or `all`. Default: those of --plugin.", show_default=False),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Check every registered method; ends with a table.")
    ] = False,
    plugin: Plugins = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show only failures and counts.")
    ] = False,
) -> None:
    """Check a method on a tiny task: what it reads, changes and returns, and whether it repeats.

    With --plugin, the file's models, datasets and metrics are checked as well.
    """
    from unlearn_bench.core.reading import real_path
    from unlearn_bench.plugins import registry

    files = [real_path(file, "--plugin") for file in plugin or ()]
    own = [name for file in plugin or () for name in registry.load_plugin(file)]
    if every and method not in (None, "all"):
        raise ConfigError(f"check {method} or --all? Give one of them")
    every = every or method == "all"
    if method is None and not files and not every:
        raise ConfigError("check which method? Give a name, --all, or --plugin FILE")
    chosen = [*registry.methods()] if every else [method] if method else own
    entries = [registry.get(name) for name in chosen]
    console = new_console()
    with console.status("loading torch and timm"):
        from unlearn_bench.conformance import examine

    subjects: list[Subject] = [(entry.name, partial(examine, entry)) for entry in entries]
    if method is None:
        subjects += _others(files, console)
    _report(subjects, console, quiet=quiet, table_wanted=every)


def _others(files: list[Path], console: Console) -> "list[Subject]":
    """Return the models, datasets and metrics of plug-in files, and say what each file holds."""
    from unlearn_bench.conformance import others
    from unlearn_bench.measure.metrics import ENTRIES
    from unlearn_bench.plugins import registry
    from unlearn_bench.plugins.parts import REGISTERED

    looks = {"model": others.examine_model, "dataset": others.examine_dataset}
    found: list[Subject] = []
    for file in files:
        parts = [part for part in REGISTERED.values() if part.file == file]
        entries = [entry for entry in ENTRIES.values() if entry.file == file]
        methods = [known.name for known in registry.methods().values() if known.file == file]
        kinds = {
            "method": methods,
            **{kind: [p.name for p in parts if p.kind == kind] for kind in looks},
            "metric": [metric.name for entry in entries for metric in entry.metrics],
        }
        held = "; ".join(f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names)
        console.print(f"{file.name}: {held}", markup=False, soft_wrap=True)
        found += [(f"{part.kind} {part.name}", partial(looks[part.kind], part)) for part in parts]
        found += [
            (f"metric {entry.name}", partial(others.examine_metric, entry)) for entry in entries
        ]
    return found


def _report(
    subjects: "list[Subject]", console: Console, *, quiet: bool, table_wanted: bool
) -> None:
    """Check everything, and end with exit code 1 if anything fails."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("passed", "failed", "seconds"):
        table.add_column(heading, justify="right")
    failed = []
    for name, examined in subjects:
        start = time.monotonic()
        counts = _examined(console, name, examined(), quiet)
        seconds = time.monotonic() - start
        style = "red" if counts["failed"] else ""
        row = (str(counts["passed"]), str(counts["failed"]), f"{seconds:.1f}")
        table.add_row(name, *row, style=style)
        failed += [name] if counts["failed"] else []
    if table_wanted:
        console.print(table)
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="red", soft_wrap=True)
        raise typer.Exit(1)


def _examined(
    console: Console, name: str, findings: "Iterable[Finding]", quiet: bool
) -> Counter[str]:
    """Run the checks, print the findings, and return how many ended in which way."""
    from unlearn_bench.conformance import NO_RUN

    console.print(Text(name, "bold"))
    counts: Counter[str] = Counter()
    unanswered = 0
    for finding in findings:
        counts[finding.status] += 1
        if finding.seen == NO_RUN:
            unanswered += 1
        elif finding.status == "failed" or not quiet:
            console.print(_line(finding), soft_wrap=True)
    if unanswered:
        console.print(f"  n/a    {unanswered} other checks need a method that runs", style="dim")
    console.print("  " + ", ".join(f"{counts[status]} {status}" for status in _STATUS))
    return counts


def _line(finding: "Finding") -> Text:
    """Say what was seen, and why it matters if the check failed."""
    word, style = _STATUS[finding.status]
    why = f" ({finding.why})" if finding.status == "failed" else ""
    return Text.assemble(
        "  ", (f"{word:7}", style), (finding.check, "bold"), f": {finding.seen}", (why, "dim")
    )
