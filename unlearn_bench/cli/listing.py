"""Commands ``list``, ``show`` and ``fisher``: what there is, and what the Fisher diagonal costs."""

from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from unlearn_bench.cli.app import Plugins, app, new_console, say


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(help="methods, controls, models, datasets, scenarios, metrics or suites."),
    ],
    pattern: Annotated[
        str, typer.Argument(help="Show only names that match this shell pattern.")
    ] = "*",
    access: Annotated[
        str | None,
        typer.Option(
            help="Only methods that need no more than this: forget, retain, validation, log; "
            "join with +.",
            show_default=False,
        ),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Methods of one family.", show_default=False)
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Print only the names, one per line, for scripts.")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """List the methods, models, datasets and other things that have a name."""
    from fnmatch import fnmatch

    from unlearn_bench.cli import catalogue
    from unlearn_bench.plugins import registry

    for file in plugin or ():
        registry.load_plugin(file)
    listing = catalogue.listing(what, access, family)
    rows = [row for row in listing.rows if fnmatch(row[0], pattern)]
    if names:
        for row in rows:
            say(row[0])
        return
    if not rows:
        say("none")
        return
    table = Table(box=None, pad_edge=False)
    for heading in listing.columns:
        # A name that is broken in two cannot be copied.
        table.add_column(heading, overflow="fold", no_wrap=heading == "name")
    for row in rows:
        table.add_row(*map(escape, row))
    new_console().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A method or a metric.")],
    plugin: Plugins = None,
) -> None:
    """Show a method's source, access and parameters, or a metric's definition."""
    from unlearn_bench.cli import catalogue
    from unlearn_bench.plugins import registry

    for file in plugin or ():
        registry.load_plugin(file)
    console = new_console()
    for heading, text in catalogue.describe(name):
        if isinstance(text, str):
            console.print(f"[bold]{heading}[/bold]  ", end="")
            console.print(text, markup=False)
            continue
        table = Table(title=heading, title_justify="left", title_style="bold", box=None)
        for column in text.columns:
            table.add_column(column, overflow="fold")
        for row in text.rows:
            table.add_row(*map(escape, row))
        console.print(table)


@app.command()
def fisher(
    model: Annotated[
        str, typer.Option(help="Any timm architecture that accepts 32 x 32 images.")
    ] = "resnet18",
    kind: Annotated[
        Literal["true", "empirical", "monte_carlo", "batch"], typer.Option(help="Kind of Fisher.")
    ] = "true",
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of timed pairs; the median is reported.")
    ] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Time the exact Fisher diagonal of a model here, beside a plain forward and backward pass."""
    from unlearn_bench.cli.asked import device_of
    from unlearn_bench.fisher.cli import describe

    said = describe(model, kind, rounds, str(device_of(device)))
    new_console().print(said, markup=False, soft_wrap=True)
