"""Commands ``run`` and ``status``: do a suite, or say how far one has come."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unlearn_bench.cli import options
from unlearn_bench.cli.app import Plugins, app, new_console, print_table, say
from unlearn_bench.cli.asked import Asked, ask, plan_of
from unlearn_bench.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from unlearn_bench.execution.run import Runner
    from unlearn_bench.suite.config import Plan


@app.command()
def run(
    suite: options.Suite = None,
    methods: options.Methods = None,
    model: options.Model = None,
    dataset: options.Dataset = None,
    data_root: options.DataRoot = None,
    forget: options.Forget = None,
    seeds: options.Seeds = None,
    seed: options.Seed = None,
    references: options.References = None,
    epochs: options.Epochs = None,
    device: options.Device = "auto",
    out: options.Out = None,
    plugin: Plugins = None,
    set_: options.Settings = None,
    original: options.Original = None,
    unlearned: options.Unlearned = None,
    stem: options.Stem = None,
    image_size: options.ImageSize = None,
    label_column: options.LabelColumn = None,
    group_column: options.GroupColumn = None,
    image_column: options.ImageColumn = None,
    split_column: options.SplitColumn = None,
    skip_corrupt: options.SkipCorrupt = False,
    surrogate_data: options.SurrogateData = None,
    mean: options.Mean = None,
    std: options.Std = None,
    pretrained: options.Pretrained = False,
    download: options.Download = False,
    workers: options.Workers = "auto",
    dry_run: options.DryRun = False,
    timeout: options.Timeout = None,
    backend: options.Backend = "local",
    address: options.Address = None,
    params: options.Params = None,
    tune: options.Tune = False,
    allow_stale: options.AllowStale = False,
    isolate: options.Isolate = False,
    track: options.Track = None,
    debug: options.Debug = False,
) -> None:
    """Run a suite and write its report; run it again to continue where it stopped."""
    flags = dict(locals())
    console = new_console()
    if tune and seed is not None:
        raise ConfigError("--tune and --seed exclude each other; tune first, then give --params")
    if tune and params is not None:
        raise ConfigError("--tune and --params exclude each other; give one")
    given = "" if tune or params == Path("none") else str(params) if params else None
    asked = ask(flags, given, console)
    if tune:
        file = _tune_first(asked, console, debug=debug, dry_run=dry_run)
        if not dry_run:
            asked = replace(asked, plan=plan_of(flags, asked.device.type, str(file)))
    if dry_run:
        forecast_runs(asked, console)
    else:
        _execute(asked, console, track, debug=debug)


def _tune_first(asked: Asked, console: Console, *, debug: bool, dry_run: bool) -> Path:
    """Tune the methods of a suite, into a folder within its own; return the file of settings."""
    from unlearn_bench.cli import tuning
    from unlearn_bench.execution.folder import refuse_foreign
    from unlearn_bench.execution.names import TUNING
    from unlearn_bench.suite.tuned import FILE, Budget

    inner = replace(asked, folder=asked.folder / TUNING)
    if dry_run:
        tuning.forecast_search(inner, Budget(), console)
    else:
        refuse_foreign(asked.folder)
        tuning.search(inner, Budget(), console, debug=debug)
    return inner.folder / FILE


def forecast_runs(asked: Asked, console: Console) -> None:
    """Say what would be done; nothing is written, not even what --download would get."""
    try:
        runner = asked.runner(say, download=False)
        team, _ = asked.team(runner, say)
        count = team.at_a_time if team else 1
        plan = replace(asked.plan, runs=tuple(asked.runs))
        _print_forecast(console, plan.suite.name, plan, runner, asked.folder, count)
    except DataError as error:
        hint = "; --dry-run downloads nothing" if asked.setup.download else ""
        raise DataError(f"{error}{hint}") from error


def _execute(asked: Asked, console: Console, track: str | None, *, debug: bool) -> None:
    """Run the suite, write its report if it is not up to date, and print the tables."""
    from unlearn_bench.cli.progress import LiveProgress
    from unlearn_bench.execution.forgotten import forgotten
    from unlearn_bench.execution.interrupt import first_in_good_order
    from unlearn_bench.execution.ownership import joining
    from unlearn_bench.execution.scheduler import execute
    from unlearn_bench.execution.tracking import tracked
    from unlearn_bench.report import summary, write_report
    from unlearn_bench.report.content import read_content
    from unlearn_bench.report.freshness import is_fresh

    plan, folder = asked.plan, asked.folder.absolute()
    with LiveProgress(console, len(asked.runs), debug=debug) as progress:
        observer = tracked(progress, track, plan.suite.name, folder)
        runner = asked.runner(progress.notice, download=asked.setup.download)
        team, place = asked.team(runner, progress.notice)
        console.print(
            f"suite [bold]{plan.suite.name}[/bold]: {_counted(asked)} on {place}, "
            f"results in {escape(str(asked.folder))}"
        )
        for line in forgotten(asked.runs, runner):
            console.print(line, markup=False, soft_wrap=True)
        command = shlex.join(["unlearn-bench", *sys.argv[1:]])
        with first_in_good_order(progress.notice):
            results = execute(
                plan, runner, folder, observer, command=command, workers=team, seed=asked.seed
            )
    with joining(folder, asked.seed):
        content = read_content(folder)
        if not is_fresh(folder):
            write_report(folder, content)
    for table in summary(folder, content):
        print_table(console, table)
    console.print(f"report: {asked.folder / 'report.html'}", markup=False, soft_wrap=True)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        console.print(
            f"{len(failed)} of {len(results)} runs failed; the same command retries them",
            style="red",
        )
        raise typer.Exit(1)


def _counted(asked: Asked) -> str:
    """Say how many runs are done here."""
    runs = f"{len(asked.runs)} runs"
    return runs if asked.seed is None else f"{runs} of {len(asked.plan.runs)}, seed {asked.seed},"


def _print_forecast(
    console: Console, name: str, plan: "Plan", runner: "Runner", folder: Path, count: int
) -> None:
    from unlearn_bench.core.quantities import size_text, time_text
    from unlearn_bench.execution.dry_run import forecast
    from unlearn_bench.execution.forgotten import forgotten
    from unlearn_bench.store.layout import default_home

    found = forecast(plan, runner, default_home(), folder, count)
    say(
        f"suite {name}: {found.runs} runs, {found.done} done, {found.runs - found.done} left; "
        f"results in {folder}"
    )
    if plan.runs[0].surrogate is None:  # while tuning nobody looks at the true forget set
        for line in forgotten(plan.runs, runner):
            say(line)
    for group in found.groups:
        stored = sum(group.originals.values())
        say(
            f"\n{group.name}: {len(group.originals)} seeds, "
            f"{stored} of {len(group.originals)} originals in the store"
        )
        table = Table(box=None, pad_edge=False)
        for heading in ("method", "runs", "done", "unlearned in store"):
            table.add_column(heading, justify="left" if heading == "method" else "right")
        for label, planned in group.planned.items():
            table.add_row(
                escape(label), str(planned), str(group.done[label]), str(group.stored[label])
            )
        console.print(table)
    for note in plan.notes:
        say(note)
    together = f", {count} at a time" if count > 1 else ""
    if found.done == found.runs:
        say("\nestimated time: none, everything is done")
    elif found.seconds == 0 and found.unknown:
        say(f"\nestimated time: unknown ({found.basis})")
    else:
        say(f"\nestimated time: {time_text(found.seconds)}{together} ({found.basis})")
        if found.unknown:
            missing = ", ".join(f"{what} ({times})" for what, times in found.unknown.items())
            say(f"not included, because nothing is known: {missing}")
    parts = ", ".join(f"{what} {size_text(size)}" for what, size in found.disk.items())
    say(f"disk: at most {size_text(sum(found.disk.values()))} ({parts})")
    for place, free in found.free.items():
        short = ": NOT ENOUGH" if place in found.short else ""
        say(f"free: {size_text(free)} for {place}{short}")


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Results folder of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Show the progress of a run, from another terminal or later.

    Exit codes: 0 finished, 1 finished with failed runs, 3 running, 4 stopped before its end.
    """
    from dataclasses import asdict

    from unlearn_bench.core.quantities import time_text
    from unlearn_bench.execution.status import EXIT_CODES, read_status

    found = read_status(folder)
    if as_json:
        failed = [{"name": name, "error": error} for name, error in found.failed]
        print(json.dumps(asdict(found) | {"failed": failed}, indent=1))
        raise typer.Exit(EXIT_CODES[found.state])
    told = {
        "finished": "finished",
        "failed": "finished, but some runs failed",
        "running": f"running ({found.process})",
        "stopped": "stopped before its end: the same command continues it",
    }
    say(f"{folder}: {told[found.state]}")
    say(
        f"{found.done} of {found.planned} done, {len(found.failed)} failed, "
        f"{len(found.running)} running, {found.left} left"
    )
    for run in found.running:
        say(f"  running: {run.name}, {run.step or 'begins'}, for {time_text(run.seconds)}")
    for name, error in found.failed:
        say(f"  failed: {name}: {error}")
    if found.left or found.running:
        time_left = "unknown" if found.seconds_left is None else time_text(found.seconds_left)
        say(f"time left: {time_left} ({found.basis})")
    raise typer.Exit(EXIT_CODES[found.state])
