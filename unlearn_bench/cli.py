"""The command line: parsing and printing only.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from unlearn_bench import __version__
from unlearn_bench.errors import ConfigError, DataError, UserError

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from unlearn_bench.backend import Backend, Setup
    from unlearn_bench.config import Plan
    from unlearn_bench.report.text import TextTable
    from unlearn_bench.runner import Runner

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
    typer.Option("--plugin", help="Python file with methods of your own; repeatable.",
                 show_default=False),
]  # fmt: skip


cache_app = typer.Typer(help="Look into the store of trained models, and tidy it up.",
                        no_args_is_help=True)  # fmt: skip
app.add_typer(cache_app, name="cache")


def _console() -> Console:
    return Console(highlight=False)


def _version(wanted: bool) -> None:
    if wanted:
        _console().print(f"unlearn-bench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    pass


@app.command()
def run(
    suite: Annotated[
        str | None,
        typer.Argument(help="A suite's name, or a YAML file. Default: digits.", show_default=False),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated names, or `all`.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Any timm architecture, lenet or allcnn.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="A named dataset, parquet:PATH or imagefolder:PATH.", show_default=False),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the datasets. Default: data.", show_default=False)
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option(
            help="class:8, classes:1,2, random:0.1 or indices:FILE; repeatable.", show_default=False
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many seeds.", show_default=False)
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of the original's training.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Results folder. Default: runs/SUITE.", show_default=False),
    ] = None,
    plugin: Plugins = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="METHOD.PARAMETER=VALUE; repeatable.",
            show_default=False,
            metavar="SETTING",
        ),
    ] = None,
    original: Annotated[
        Path | None,
        typer.Option(
            help="Start from these trained weights (.safetensors) instead of training.",
            show_default=False,
        ),
    ] = None,
    stem: Annotated[
        str | None,
        typer.Option(help="auto, small or standard first layers.", show_default=False),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Resize images to this side.", show_default=False)
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Begin with timm's pre-trained weights.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Download missing datasets.")
    ] = False,
    workers: Annotated[
        str,
        typer.Option(
            help="Runs at a time, each in a process of its own: auto (what cores and memory hold, "
            "one per GPU) or a number (several on a GPU as far as its memory holds them)."
        ),
    ] = "auto",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be done, what is there, how long."),
    ] = False,
    timeout: Annotated[
        str | None,
        typer.Option(
            help="Longest time for one run, such as 90s, 10m or 2h, the training of what it needs "
            "first included; a run that takes longer fails, the others go on.",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        Literal["local", "ray"], typer.Option(help="Where runs go on: this machine or a cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster: auto or ray://HOST:PORT.", show_default="auto"),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Run a suite and write its report; running it again continues where it ended."""
    console = _console()
    with console.status("loading torch and timm"):
        from unlearn_bench import backend as backends
        from unlearn_bench import config, registry
        from unlearn_bench.artifacts import default_home
        from unlearn_bench.execute import execute
        from unlearn_bench.interrupt import first_in_good_order
        from unlearn_bench.progress import LiveProgress
        from unlearn_bench.report import write_report
        from unlearn_bench.results import is_made_from, mark_made_from
        from unlearn_bench.runner import Runner
        from unlearn_bench.store import Store

    limit = backends.parse_timeout(timeout) if timeout else None
    if address and backend != "ray":
        raise ConfigError("--address: only --backend ray has one")
    if backend == "ray":
        _ray().connect(address or "auto")
    for file in plugin or ():
        registry.load_plugin(file)
    target = _device(device, on_ray=backend == "ray")
    resolved = config.resolve_suite(suite, config.Overrides(
        methods=methods, model=model, stem=stem, pretrained=pretrained, dataset=dataset,
        image_size=image_size, forget=tuple(forget or ()), seeds=seeds, epochs=epochs,
        settings=tuple(set_ or ()),
    ))  # fmt: skip
    plan = config.expand(
        resolved, device=target.type, original=original,
        source=config.suite_file(suite or config.DEFAULT_SUITE),
    )  # fmt: skip
    folder = out or Path("runs") / resolved.name
    setup = backends.Setup(default_home(), str(target), data_root, download,
                           tuple(plugin or ()))  # fmt: skip

    def find_team(notify: Callable[[str], None]) -> "tuple[Backend | None, str]":
        if backend == "ray":
            return _on_ray(workers, setup, limit, plan, notify)
        return _on_this_machine(workers, setup, limit, plan)

    if dry_run:
        # Nothing is written: not even what --download would get.
        runner = Runner(Store(default_home()), _visible(target), data_root=data_root)
        team, _ = find_team(print)
        count = team.at_a_time if team else 1
        try:
            _print_forecast(console, resolved.name, plan, runner, folder, count)
        except DataError as error:
            hint = "; --dry-run downloads nothing" if download else ""
            raise DataError(f"{error}{hint}") from error
        return
    with LiveProgress(console, len(plan.runs), debug=debug) as progress:
        team, place = find_team(progress.notice)
        console.print(
            f"suite [bold]{resolved.name}[/bold]: {len(plan.runs)} runs on {place}, "
            f"results in {escape(str(folder))}"
        )
        runner = Runner(
            Store(default_home(), progress.notice), _visible(target), data_root=data_root,
            download=download,
        )  # fmt: skip
        command = shlex.join(["unlearn-bench", *sys.argv[1:]])
        with first_in_good_order(progress.notice):
            results = execute(plan, runner, folder, progress, command=command, workers=team)
    page = folder / "report.html"
    if not is_made_from(page, folder / "records.csv"):
        write_report(folder)
        mark_made_from(page, folder / "records.csv")
    _print_summary(console, folder)
    console.print(f"report: {page}", markup=False, soft_wrap=True)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        console.print(
            f"{len(failed)} of {len(results)} runs failed; the same command tries them again",
            style="red",
        )
        raise typer.Exit(1)


def _print_forecast(
    console: Console, name: str, plan: "Plan", runner: "Runner", folder: Path, count: int
) -> None:
    from unlearn_bench.artifacts import default_home
    from unlearn_bench.dry_run import forecast
    from unlearn_bench.quantities import size_text, time_text

    found = forecast(plan, runner, default_home(), folder, count)
    print(f"suite {name}: {found.runs} runs, {found.done} done, {found.runs - found.done} left; "
          f"results in {folder}")  # fmt: skip
    for group in found.groups:
        stored = sum(group.originals.values())
        print(f"\n{group.name}: {len(group.originals)} seeds, "
              f"{stored} of {len(group.originals)} originals in the store")  # fmt: skip
        table = Table(box=None, pad_edge=False)
        for heading in ("method", "runs", "done", "unlearned in store"):
            table.add_column(heading, justify="left" if heading == "method" else "right")
        for label, planned in group.planned.items():
            table.add_row(escape(label), str(planned), str(group.done[label]),
                          str(group.stored[label]))  # fmt: skip
        console.print(table)
    for note in plan.notes:
        print(note)
    together = f", {count} at a time" if count > 1 else ""
    if found.done == found.runs:
        print("\nestimated time: none, everything is done")
    elif found.seconds == 0 and found.unknown:
        print(f"\nestimated time: unknown ({found.basis})")
    else:
        print(f"\nestimated time: {time_text(found.seconds)}{together} ({found.basis})")
        if found.unknown:
            missing = ", ".join(f"{what} ({times})" for what, times in found.unknown.items())
            print(f"not in it, as nothing is known: {missing}")
    parts = ", ".join(f"{what} {size_text(size)}" for what, size in found.disk.items())
    print(f"disk: at most {size_text(sum(found.disk.values()))} ({parts})")
    for place, free in found.free.items():
        short = ": NOT ENOUGH" if place in found.short else ""
        print(f"free: {size_text(free)} for {place}{short}")


def _device(name: str, *, on_ray: bool = False) -> "torch.device":
    import torch

    if on_ray and (name == "cuda" or name == "auto" and _ray().cluster_has_gpus()):
        return torch.device("cuda")
    gpu = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if gpu else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: not a device; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not gpu:
        raise ConfigError(f"--device {name}: torch sees no CUDA device here; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"--device {name}: this machine has {count} GPU(s), counted from 0")
    return device


def _visible(device: "torch.device") -> "torch.device":
    """Return the device, or the CPU where only the cluster has such a one."""
    import torch

    there = device.type == "cpu" or torch.cuda.is_available()
    return device if there else torch.device("cpu")


def _count(given: str) -> int | None:
    """Return the number that ``--workers`` gives, None for ``auto``."""
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if given != "auto":
        raise ConfigError(f"--workers {given}: give auto or a number of processes, at least 1")
    return None


def _on_this_machine(
    workers: str, setup: "Setup", timeout: float | None, plan: "Plan"
) -> tuple["Backend | None", str]:
    """Return the processes that execute the runs, None for this one, and where that is."""
    import torch

    from unlearn_bench.capacity import cpu_runs
    from unlearn_bench.workers import Workers

    device = torch.device(setup.device)
    gpus = [setup.device]
    if device.type == "cuda" and device.index is None:
        gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    # By default a GPU is not shared: times are to be compared.
    auto = cpu_runs(plan.suite.threads) if device.type == "cpu" else len(gpus)
    count = min(_count(workers) or auto, len(plan.runs))
    place = _describe(device) + (f", {count} at a time" if count > 1 else "")
    if count == 1 and timeout is None:
        return None, place
    # A run can be ended in the midst of things only in a process of its own.
    return Workers(count, setup, devices=gpus, timeout=timeout), place


def _ray() -> "ModuleType":
    try:
        from unlearn_bench import ray_backend
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ConfigError(
            "--backend ray: Ray is not installed; pip install 'unlearn-bench[ray]', here and on "
            "every node"
        ) from error
    return ray_backend


def _on_ray(
    workers: str, setup: "Setup", timeout: float | None, plan: "Plan",
    notify: Callable[[str], None],
) -> tuple["Backend", str]:  # fmt: skip
    """Return the tasks that execute the runs, and where that is."""
    import torch

    ray = _ray()
    first = plan.runs[0]
    # Results depend in their last digits on the threads: as many as a serial run here would have.
    threads = plan.suite.threads or (torch.get_num_threads() if first.device == "cpu" else 1)
    ray.check_fits(threads)
    team = ray.RayWorkers(
        replace(setup, device=first.device, threads=threads), most=_count(workers),
        timeout=timeout, original=first.original, notify=notify,
    )  # fmt: skip
    return team, ray.describe_cluster()


def _describe(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU ({torch.get_num_threads()} threads)"


def _print_summary(console: Console, folder: Path) -> None:
    from unlearn_bench.report import summary

    for table in summary(folder):
        _print_table(console, table)


def _print_table(console: Console, given: "TextTable") -> None:
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
        table.add_column(heading, justify="right" if right else "left",
                         no_wrap=whole and index == 0, overflow="fold")  # fmt: skip
    for number, row in enumerate(given.rows):
        cells = (Text(cell, "bold" if (number, column) in given.marked else "")
                 for column, cell in enumerate(row))  # fmt: skip
        table.add_row(*cells)
    if given.rows:
        console.print(table)
    for note in given.notes:
        console.print(Text(note, "dim"), soft_wrap=True)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Results folder of a run.")],
    other: Annotated[
        Path | None,
        typer.Argument(
            help="A second one: compare it with the first instead of writing a report.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Open the page, or print its path without a display.")
    ] = False,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Write an audit bundle for `unlearn-bench verify`.")
    ] = False,
    fail_if_worse: Annotated[
        bool,
        typer.Option("--fail-if-worse", help="Exit with 1 if the second is worse; says why."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The bundle's file (default: FOLDER/bundle.zip), or a folder for the comparison.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the report of a results folder again, or compare two of them."""
    _check_report_flags(other, show=show, bundle=bundle, fail_if_worse=fail_if_worse, out=out)
    if other is not None:
        _compare(folder, other, fail_if_worse, out)
        return
    from unlearn_bench.report import write_report

    page = write_report(folder)
    console = _console()
    if show:
        _show(page)
        return
    _print_summary(console, folder)
    console.print(f"report: {page}", markup=False, soft_wrap=True)
    if bundle:
        from unlearn_bench.bundle import write_bundle

        target = out or folder / "bundle.zip"
        written = write_bundle(folder, target)
        console.print(
            f"bundle: {target} ({written.files} files, manifest SHA-256 {written.manifest})",
            markup=False, soft_wrap=True,
        )  # fmt: skip


def _check_report_flags(
    other: Path | None, *, show: bool, bundle: bool, fail_if_worse: bool, out: Path | None
) -> None:
    if other is not None and (show or bundle):
        raise ConfigError("--show and --bundle are for one results folder, not for a comparison")
    if other is None and fail_if_worse:
        raise ConfigError("--fail-if-worse compares two results folders: give the second as well")
    if other is None and out is not None and not bundle:
        raise ConfigError("--out names the file of --bundle, or a folder for a comparison of two")


def _show(page: Path) -> None:
    """Open the page where somebody can see it; else, and for scripts, print where it is."""
    import webbrowser

    display = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    print(page.resolve())
    if display:
        webbrowser.open(page.resolve().as_uri())


def _compare(first: Path, second: Path, fail_if_worse: bool, out: Path | None) -> None:
    from unlearn_bench.report.compare import compare, write_comparison

    found = compare(first, second)
    console = _console()
    for table in found.tables:
        _print_table(console, table)
    if out is not None:
        console.print(f"comparison: {write_comparison(found, out)}", markup=False, soft_wrap=True)
    for reason in found.worse:
        console.print(Text(f"worse: {reason}", style="red"), soft_wrap=True)
    if fail_if_worse and found.worse:
        raise typer.Exit(1)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's zip file, or the folder unpacked.")],
) -> None:
    """Check that a bundle is unchanged and that its tables follow from its runs."""
    from unlearn_bench.bundle import verify

    found = verify(bundle)
    console = _console()
    for problem in found.problems:
        console.print(Text(f"problem: {problem}", style="red"), soft_wrap=True)
    if found.problems:
        raise typer.Exit(1)
    console.print(
        f"verified: {found.files} files as listed, records.csv follows from {found.runs} runs; "
        f"manifest SHA-256 {found.manifest}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Results folder of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say how far a run has come, from another terminal or later.

    Exit codes: 0 finished, 1 finished with failed runs, 3 running, 4 stopped before its end.
    """
    from dataclasses import asdict

    from unlearn_bench.quantities import time_text
    from unlearn_bench.status import EXIT_CODES, read_status

    found = read_status(folder)
    if as_json:
        failed = [{"name": name, "error": error} for name, error in found.failed]
        print(json.dumps(asdict(found) | {"failed": failed}, indent=1))
        raise typer.Exit(EXIT_CODES[found.state])
    told = {
        "finished": "finished", "failed": "finished, but some runs failed",
        "running": f"running ({found.process})",
        "stopped": "stopped before its end: the same command continues it",
    }  # fmt: skip
    print(f"{folder}: {told[found.state]}")
    print(f"{found.done} of {found.planned} done, {len(found.failed)} failed, "
          f"{len(found.running)} running, {found.left} left")  # fmt: skip
    for run in found.running:
        print(f"  running: {run.name}, {run.step or 'begins'}, for {time_text(run.seconds)}")
    for name, error in found.failed:
        print(f"  failed: {name}: {error}")
    if found.left or found.running:
        time_left = "unknown" if found.seconds_left is None else time_text(found.seconds_left)
        print(f"time left: {time_left} ({found.basis})")
    raise typer.Exit(EXIT_CODES[found.state])


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="methods, controls, models, datasets, metrics or suites.")
    ],
    pattern: Annotated[str, typer.Argument(help="Shell pattern on the names.")] = "*",
    access: Annotated[
        str | None,
        typer.Option(
            help="Methods for whoever has only this: forget, retain, validation, log; join by +.",
            show_default=False,
        ),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Methods of one family.", show_default=False)
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Bare names, one a line, for scripts.")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """List what there is by name."""
    from fnmatch import fnmatch

    from unlearn_bench import catalogue, registry

    for file in plugin or ():
        registry.load_plugin(file)
    listing = catalogue.listing(what, access, family)
    rows = [row for row in listing.rows if fnmatch(row[0], pattern)]
    if names:
        for row in rows:
            print(row[0])
        return
    table = Table(box=None, pad_edge=False)
    for heading in listing.columns:
        # A name that is broken in two cannot be copied.
        table.add_column(heading, overflow="fold", no_wrap=heading == "name")
    for row in rows:
        table.add_row(*map(escape, row))
    _console().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A method or a metric.")],
    plugin: Plugins = None,
) -> None:
    """Show a method's source, access and parameters, or a metric's definition."""
    from unlearn_bench import catalogue, registry

    for file in plugin or ():
        registry.load_plugin(file)
    console = _console()
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
def check(
    method: Annotated[
        str | None,
        typer.Argument(help="A name, or `all`. Default: those of --plugin.", show_default=False),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Check how a method behaves on a tiny task: what it reads, moves, repeats and gives back."""
    from unlearn_bench import registry

    own = [name for file in plugin or () for name in registry.load_plugin(file)]
    if method is None and not own:
        raise ConfigError("check which method? Give a name, `all`, or --plugin FILE")
    chosen = own if method is None else [*registry.methods()] if method == "all" else [method]
    entries = [registry.get(name) for name in chosen]
    console = _console()
    with console.status("loading torch and timm"):
        from unlearn_bench.conformance import examine

    failed = []
    for entry in entries:
        console.print(f"[bold]{entry.name}[/bold]")
        counts = {"passed": 0, "failed": 0, "skipped": 0}
        for finding in examine(entry):
            counts[finding.status] += 1
            word, style = _STATUS[finding.status]
            console.print(Text.assemble(
                "  ", (f"{word:7}", style), (finding.check, "bold"), f": {finding.seen}",
                (f" ({finding.why})", "dim"),
            ), soft_wrap=True)  # fmt: skip
        console.print("  " + ", ".join(f"{count} {word}" for word, count in counts.items()))
        failed += [entry.name] if counts["failed"] else []
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="red", soft_wrap=True)
        raise typer.Exit(1)


_STATUS = {"passed": ("passed", "green"), "failed": ("FAILED", "red"), "skipped": ("n/a", "dim")}


@cache_app.command("ls")
def cache_ls(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List what the store holds, by kind, the least recently used first."""
    from unlearn_bench import cache
    from unlearn_bench.artifacts import default_home
    from unlearn_bench.quantities import size_text, time_text

    home, now = default_home(), time.time()
    listed = cache.entries(home)
    waste = cache.rubbish(home)
    if as_json:
        print(json.dumps({
            "home": str(home),
            "bytes": sum(entry.size for entry in listed),
            "rubbish_bytes": sum(left.size for left in waste),
            "artifacts": [
                {"kind": entry.kind, "key": entry.folder.name, "what": entry.what,
                 "bytes": entry.size, "made": entry.made, "used": entry.used,
                 "schema": entry.schema, "damage": entry.damage} for entry in listed
            ],
        }, indent=1))  # fmt: skip
        return
    console = _console()
    table = Table(box=None, pad_edge=False)
    for heading in ("kind", "of", "size", "made", "last used"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "size" else "left")
    for entry in listed:
        ages = (f"{time_text(now - moment)} ago" for moment in (entry.made, entry.used))
        what = f"damaged: {entry.damage}" if entry.damage else entry.what
        table.add_row(entry.kind, escape(what), size_text(entry.size), *ages)
    if listed:
        console.print(table)
    totals: dict[str, list[int]] = {}
    for entry in listed:
        totals.setdefault(entry.kind, []).append(entry.size)
    for kind, sizes in totals.items():
        console.print(f"{kind}: {len(sizes)}, {size_text(sum(sizes))}")
    everything = sum(entry.size for entry in listed)
    console.print(f"{len(listed)} artifacts, {size_text(everything)} in {home}",
                  markup=False, soft_wrap=True)  # fmt: skip
    if waste:
        size = size_text(sum(left.size for left in waste))
        console.print(f"{size} left by killed processes or damaged: `unlearn-bench cache gc`")


@cache_app.command("gc")
def cache_gc(
    max_size: Annotated[
        str | None,
        typer.Option(help="Keep at most this, such as 10GB; least recently used goes first.",
                     show_default=False),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(help="Remove what was not used for this long, such as 30d.",
                     show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
) -> None:  # fmt: skip
    """Remove leftovers, damaged and outdated artifacts, and what is over the limits."""
    from unlearn_bench import cache
    from unlearn_bench.artifacts import default_home
    from unlearn_bench.quantities import parse_age, parse_size, size_text

    limit = None if max_size is None else parse_size(max_size, "--max-size")
    age = None if older_than is None else parse_age(older_than, "--older-than")
    home = default_home()
    removed, kept = cache.collect(home, max_size=limit, older_than=age, dry_run=dry_run)
    for gone in removed:
        print(f"{gone.path.relative_to(home)}  {size_text(gone.size)}  {gone.why}"
              f"{f'  {gone.what}' if gone.what else ''}")  # fmt: skip
    freed, stays = sum(gone.size for gone in removed), sum(entry.size for entry in kept)
    verbs = ("would remove", "would keep") if dry_run else ("removed", "kept")
    print(f"{verbs[0]} {len(removed)} ({size_text(freed)}), "
          f"{verbs[1]} {len(kept)} ({size_text(stays)}) in {home}")  # fmt: skip
    if limit is not None and stays > limit:
        print(f"still over {max_size}: a process at work holds what is left")


@cache_app.command("verify")
def cache_verify() -> None:
    """Check every byte of the store; put damaged artifacts aside, to be built again."""
    from unlearn_bench import cache
    from unlearn_bench.artifacts import default_home

    home, whole, damaged = default_home(), 0, 0
    for folder, damage in cache.verify(home):
        if damage is None:
            whole += 1
            continue
        damaged += 1
        kept = f"put aside as {damage.place}" if damage.place else "it could not be moved"
        print(f"damaged: {folder.relative_to(home)}: {damage.reason}; {kept}")
    print(f"{whole} whole, {damaged} damaged in {home}")
    if damaged:
        raise typer.Exit(1)


@app.command()
def fisher(
    model: Annotated[
        str, typer.Option(help="Any timm architecture that takes 32 x 32 images.")
    ] = "resnet18",
    kind: Annotated[
        Literal["true", "empirical", "monte_carlo", "batch"], typer.Option(help="Which Fisher.")
    ] = "true",
    rounds: Annotated[int, typer.Option(min=1, help="Pairs of runs to take the median of.")] = 5,
) -> None:
    """Time the exact Fisher diagonal of a model here, beside a plain forward and backward pass."""
    from unlearn_bench.fisher.cli import describe

    _console().print(describe(model, kind, rounds), markup=False, soft_wrap=True)


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
