"""The command ``check``: whether methods behave as every method must."""

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unlearn_bench.cli.app import Plugins, app, new_console
from unlearn_bench.core.errors import ConfigError

if TYPE_CHECKING:
    from unlearn_bench.conformance import Finding
    from unlearn_bench.plugins.method import Method

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
    """Check how a method behaves on a tiny task: what it reads, moves, repeats and gives back."""
    from unlearn_bench.plugins import registry

    own = [name for file in plugin or () for name in registry.load_plugin(file)]
    if every and method not in (None, "all"):
        raise ConfigError(f"check {method} or --all? Give one of them")
    every = every or method == "all"
    if method is None and not own and not every:
        raise ConfigError("check which method? Give a name, --all, or --plugin FILE")
    chosen = [*registry.methods()] if every else [method] if method else own
    entries = [registry.get(name) for name in chosen]
    console = new_console()
    with console.status("loading torch and timm"):
        import unlearn_bench.conformance  # noqa: F401

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("passed", "failed", "seconds"):
        table.add_column(heading, justify="right")
    failed = []
    for entry in entries:
        start = time.monotonic()
        counts = _examined(console, entry, quiet)
        seconds = time.monotonic() - start
        style = "red" if counts["failed"] else ""
        row = (str(counts["passed"]), str(counts["failed"]), f"{seconds:.1f}")
        table.add_row(entry.name, *row, style=style)
        failed += [entry.name] if counts["failed"] else []
    if every:
        console.print(table)
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="red", soft_wrap=True)
        raise typer.Exit(1)


def _examined(console: Console, entry: "Method", quiet: bool) -> Counter[str]:
    """Run every check of a method, print the findings, and return how many ended in which way."""
    from unlearn_bench.conformance import examine

    console.print(Text(entry.name, "bold"))
    counts: Counter[str] = Counter()
    for finding in examine(entry):
        counts[finding.status] += 1
        if finding.status == "failed" or not quiet:
            console.print(_line(finding), soft_wrap=True)
    console.print("  " + ", ".join(f"{counts[status]} {status}" for status in _STATUS))
    return counts


def _line(finding: "Finding") -> Text:
    word, style = _STATUS[finding.status]
    return Text.assemble(
        "  ",
        (f"{word:7}", style),
        (finding.check, "bold"),
        f": {finding.seen}",
        (f" ({finding.why})", "dim"),
    )
