"""The application that commands register with, and what they print with."""

import errno
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from unlearn_bench import __version__
from unlearn_bench.core.errors import ConfigError, UserError, visible

if TYPE_CHECKING:
    from unlearn_bench.report.text import TextTable


app = typer.Typer(
    name="unlearn-bench",
    help="Benchmark machine-unlearning methods for image classifiers against retraining.",
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
        "--plugin",
        help="Python file with methods, metrics, models or datasets of your own; repeatable.",
        show_default=False,
    ),
]


def folder_or_file(given: str) -> Path:
    """Return the path of a flag's value, which a shell variable may have left empty.

    Raises:
        ConfigError: If it is empty.
    """
    if not given.strip():
        raise ConfigError("--out: the path is empty; name a place, or . for the working folder")
    return Path(given)


class ReaderGoneError(Exception):
    """Nobody reads the output any more."""


class SafeConsole(Console):
    """A console that shows what names and messages hold instead of obeying it.

    Whatever is printed passes here, with the styles of this program and without any escape
    sequence of anybody else's. ``:cat:`` stays text.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make rich text of a string; what it shows is known before it is laid out."""
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything at all."""
        for segment in super().render(renderable, options):
            plain = segment.control or segment.text.isprintable()
            yield segment if plain else Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Leave it to :func:`main` how a command ends whose reader has gone."""
        raise ReaderGoneError


def new_console() -> Console:
    """Return what commands print with."""
    return SafeConsole()


def say(text: str) -> None:
    """Print plain lines, as wide as they are: for scripts, and for what is copied."""
    try:
        print(visible(text))
    except BrokenPipeError:  # which click would take for a failure
        raise ReaderGoneError from None


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or file that is not UTF-8 gets what it can show.
            stream.reconfigure(errors="backslashreplace")
    stderr = SafeConsole(stderr=True)
    try:
        code = _run(stderr, debug)
        sys.stdout.flush()
    except (ReaderGoneError, BrokenPipeError):
        _forget_output()
        code = _READER_GONE
    except OSError as error:
        # Without a file's name it was the output that could not be written.
        if debug or error.filename is not None or error.errno not in _OUTPUT_GONE:
            raise
        _forget_output()
        stderr.print(f"error: cannot write the output: {error.strerror}", markup=False)
        code = 2
    sys.exit(code)


def _run(stderr: Console, debug: bool) -> int:
    """Run the command that the command line names, and return its exit code."""
    try:
        return int(app(standalone_mode=False) or 0)
    except _ClickException as error:
        if message := error.format_message():  # empty where the help was asked for by silence
            # Typer checks values with pydantic, whose name for a wrong one says nothing here.
            _print_error(stderr, message.replace(": Value error, ", ": ", 1))
        return error.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        stderr.print(
            "interrupted: finished runs are kept, and the same command continues from here"
        )
        return 130
    except UserError as error:
        if debug:
            raise
        _print_error(stderr, " ".join(str(error).split()))
        return 2


def _print_error(stderr: Console, message: str) -> None:
    """Print a message in one line; one that quotes what fills pages loses its middle."""
    from unlearn_bench.core.text import shortened

    stderr.print(f"error: {shortened(message, MOST_OF_ERROR)}", markup=False, soft_wrap=True)


MOST_OF_ERROR = 4_000  # characters, enough for every list of names that a message offers
_OUTPUT_GONE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_READER_GONE = 141  # as shells report a process that ended by SIGPIPE


def _forget_output() -> None:
    """Let the interpreter flush what is left of the output into nothing when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
