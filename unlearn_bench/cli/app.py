"""The application that commands register with, and what they print with."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from unlearn_bench import __version__
from unlearn_bench.core.errors import UserError

if TYPE_CHECKING:
    from unlearn_bench.report.text import TextTable


app = typer.Typer(
    name="unlearn-bench",
    help="Compare machine-unlearning methods for image classifiers, honestly.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
# Typer carries a copy of click since 0.26 and used click itself before: this finds the base of
# the errors for wrong flags in either.
_ClickException: type[typer.BadParameter] = typer.BadParameter.__mro__[2]

Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", help="Python file with methods of your own; repeatable.", show_default=False
    ),
]


def new_console() -> Console:
    """Return what commands print with."""
    return Console(highlight=False)


def _version(wanted: bool) -> None:
    if wanted:
        new_console().print(f"unlearn-bench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    pass


def print_table(console: Console, given: "TextTable") -> None:
    """Print a table of a report, fitted to the terminal."""
    if given.title:
        console.print(f"\n[bold]{escape(given.title)}[/bold]")
    if given.finding:
        console.print(Text(given.finding))
    # A name broken in two cannot be copied: the numbers give way first, unless it takes half.
    whole = not given.words and all(len(row[0]) <= console.width / 2 for row in given.rows)
    # Rules and wide gaps would cost a narrow terminal names.
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, heading in enumerate(given.columns):
        right = index > 0 and not given.words
        table.add_column(
            heading,
            justify="right" if right else "left",
            no_wrap=whole and index == 0,
            overflow="fold",
        )
    for number, row in enumerate(given.rows):
        cells = (
            Text(cell, "bold" if (number, column) in given.marked else "")
            for column, cell in enumerate(row)
        )
        table.add_row(*cells)
    if given.rows:
        console.print(table)
    for note in given.notes:
        console.print(Text(note, "dim"), soft_wrap=True)


def main() -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    debug = "--debug" in sys.argv[1:]
    stderr = Console(stderr=True, highlight=False)
    try:
        code = app(standalone_mode=False)
    except _ClickException as error:
        if message := error.format_message():  # empty where the help was asked for by silence
            stderr.print(f"error: {message}", markup=False, soft_wrap=True)
        code = error.exit_code
    except typer.Abort:
        code = 130
    except KeyboardInterrupt:
        stderr.print("interrupted: finished runs are kept, the same command goes on from here")
        code = 130
    except UserError as error:
        if debug:
            raise
        line = " ".join(str(error).split())
        stderr.print(f"error: {line}", markup=False, soft_wrap=True)
        code = 2
    sys.exit(code)
