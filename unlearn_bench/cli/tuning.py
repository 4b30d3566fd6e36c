"""Command ``tune``: give every method of a suite the same chance to be set well."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from unlearn_bench.cli import options
from unlearn_bench.cli.app import Plugins, app, new_console, print_table, say
from unlearn_bench.cli.asked import Asked, ask
from unlearn_bench.core.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from unlearn_bench.suite.tuned import Budget, Tuned
    from unlearn_bench.tuning.study import Tuning


@app.command()
def tune(
    suite: options.Suite = None,
    methods: options.Methods = None,
    trials: options.Trials = 20,
    budget: options.BudgetTimes = 10.0,
    surrogates: options.Surrogates = 2,
    tuning_seeds: options.TuningSeeds = 2,
    sampler: options.Sampler = "tpe",
    show: Annotated[
        bool, typer.Option("--show", help="Only print what was tuned in this folder.")
    ] = False,
    model: options.Model = None,
    dataset: options.Dataset = None,
    data_root: options.DataRoot = None,
    forget: options.Forget = None,
    epochs: options.Epochs = None,
    device: options.Device = "auto",
    out: options.Out = None,
    plugin: Plugins = None,
    set_: options.Settings = None,
    original: options.Original = None,
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
    debug: options.Debug = False,
) -> None:
    """Tune every method of a suite with the same budget, on surrogate forget sets.

    The true forget set, its retraining and the test part are never read. Writes `tuned.yaml`
    for `run SUITE --params`; run it again to continue where it stopped.
    """
    flags = dict(locals()) | {"seeds": 1}
    console = new_console()
    if show:
        _show(suite, console)
        return
    asked_budget = budget_of(trials, budget, surrogates, tuning_seeds, sampler)
    asked = ask(flags, "", console, folder="{}-tuning")
    if dry_run:
        forecast_search(asked, asked_budget, console)
        return
    tuned = search(asked, asked_budget, console, debug=debug)
    _print(tuned, console)
    path = shlex.quote(str(asked.folder / "tuned.yaml"))
    say(f"to use it: unlearn-bench run {suite or asked.plan.suite.name} --params {path}")


def budget_of(
    trials: int, times: float, surrogates: int, tuning_seeds: int, sampler: str
) -> "Budget":
    """Return what every method gets.

    Raises:
        ConfigError: If it is nothing.
    """
    from unlearn_bench.suite.tuned import Budget

    if not 0 < times < float("inf"):
        raise ConfigError(
            f"--budget {times:g}: give the time limit per method in multiples of one retraining, "
            "above 0, such as 10"
        )
    return Budget.model_validate(
        {
            "trials": trials,
            "retrainings": times,
            "surrogates": surrogates,
            "tuning_seeds": tuning_seeds,
            "sampler": sampler,
        }
    )


def search(asked: Asked, budget: "Budget", console: Console, *, debug: bool) -> "Tuned":
    """Tune every method of a suite into the folder, and return what was chosen."""
    from unlearn_bench.cli.progress import LiveProgress
    from unlearn_bench.execution.interrupt import first_in_good_order
    from unlearn_bench.execution.scheduler import execute
    from unlearn_bench.suite.tuned import FILE, write_tuned

    tuning, asked = _tuning(asked, budget)
    command = shlex.join(["unlearn-bench", *sys.argv[1:]])
    with LiveProgress(console, tuning.most_runs, debug=debug) as progress:
        runner = asked.runner(progress.notice, download=asked.setup.download)
        team, place = asked.team(runner, progress.notice)
        console.print(
            f"tuning [bold]{asked.plan.suite.name}[/bold]: {_searches(tuning)}, {budget}, on "
            f"{place}, results in {escape(str(asked.folder))}",
            soft_wrap=True,
        )
        for note in tuning.plan.notes:
            progress.notice(note)
        with first_in_good_order(progress.notice):
            execute(
                tuning.plan,
                runner,
                asked.folder,
                progress,
                command=command,
                workers=team,
                follow_up=tuning.follow_up,
            )
    versions = {name: str(runner.environment[name]) for name in ("unlearn_bench", "torch")}
    tuned = tuning.tuned(
        lambda spec: runner.dataset(spec).fingerprint, command=command, versions=versions
    )
    write_tuned(asked.folder / FILE, tuned)
    tuning.write_journal(asked.folder)
    return tuned


def forecast_search(asked: Asked, budget: "Budget", console: Console) -> None:
    """Say what tuning would do; nothing is written."""
    from unlearn_bench.cli.running import forecast_runs

    tuning, asked = _tuning(asked, budget)
    say(
        f"tuning: {_searches(tuning)}, {budget}; at most {tuning.most_runs:,} runs, of which the "
        "retrainings without the surrogates come first:"
    )
    forecast_runs(asked, console)
    say("later settings depend on earlier results; the published default is always tried")


def _tuning(asked: Asked, budget: "Budget") -> "tuple[Tuning, Asked]":
    from unlearn_bench.tuning import sampler
    from unlearn_bench.tuning.study import Tuning

    sampler.require()
    tuning = Tuning(asked.plan, budget)
    return tuning, replace(asked, plan=tuning.plan)


def _searches(tuning: "Tuning") -> str:
    count = tuning.searched
    return f"{count} search{'es' * (count != 1)}"


def _show(folder: str | None, console: Console) -> None:
    """Print what was tuned in a folder.

    Raises:
        OutputError: If nothing was.
    """
    from unlearn_bench.suite.tuned import FILE, read_tuned

    if folder is None:
        raise ConfigError("--show: name the folder that `unlearn-bench tune` wrote into")
    path = Path(folder)
    file = path if path.is_file() else path / FILE
    if not file.exists():
        raise OutputError(
            f"{folder} has no {FILE}: nothing was tuned there, or tuning has not finished; see "
            "`unlearn-bench status`, or continue with the same command"
        )
    _print(read_tuned(file, "--show"), console)


def _print(tuned: "Tuned", console: Console) -> None:
    from unlearn_bench.report.tuning import tables

    for table in tables(tuned):
        print_table(console, table)
