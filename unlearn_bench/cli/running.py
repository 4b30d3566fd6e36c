"""Commands ``run`` and ``status``: do a suite, or say how far one has come."""

import json
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unlearn_bench.cli import options
from unlearn_bench.cli.app import Plugins, app, new_console, print_table, say
from unlearn_bench.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from unlearn_bench.execution.backend import Backend, Setup
    from unlearn_bench.execution.run import Runner
    from unlearn_bench.suite.config import Overrides, Plan


@app.command()
def run(
    suite: options.Suite = None,
    methods: options.Methods = None,
    model: options.Model = None,
    dataset: options.Dataset = None,
    data_root: options.DataRoot = None,
    forget: options.Forget = None,
    seeds: options.Seeds = None,
    epochs: options.Epochs = None,
    device: options.Device = "auto",
    out: options.Out = None,
    plugin: Plugins = None,
    set_: options.Settings = None,
    original: options.Original = None,
    unlearned: options.Unlearned = None,
    stem: options.Stem = None,
    image_size: options.ImageSize = None,
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
    """Run a suite and write its report; running it again continues where it ended."""
    console = new_console()
    with console.status("loading torch and timm"):
        import_module("unlearn_bench.execution.scheduler")
        from unlearn_bench.execution.backend import Setup
        from unlearn_bench.store.layout import default_home
        from unlearn_bench.suite import config

    limit = _prepare(timeout, address, backend, plugin or ())
    target = _device(device, on_ray=backend == "ray")
    overrides = config.Overrides(
        methods=methods,
        model=model,
        stem=stem,
        pretrained=pretrained,
        dataset=dataset,
        image_size=image_size,
        forget=tuple(forget or ()),
        seeds=seeds,
        epochs=epochs,
        settings=tuple(set_ or ()),
        mean=mean,
        std=std,
        unlearned=bool(unlearned),
    )
    plan = _plan(suite, overrides, target.type, original, unlearned or ())
    # Absolute: a plug-in may change the working folder.
    home, root = default_home().absolute(), data_root and data_root.absolute()
    files = tuple(file.absolute() for file in plugin or ())
    setup = Setup(home, str(target), root, download, files)
    folder = out or Path("runs") / plan.suite.name
    asked = _Asked(plan, folder, setup, target, workers, limit, backend == "ray")
    if dry_run:
        _forecast(asked, console)
    else:
        _execute(asked, console, debug=debug)


def _prepare(
    timeout: str | None, address: str | None, backend: str, plugins: Iterable[Path]
) -> float | None:
    """Join the cluster, load the plug-ins, and return the seconds that a run may take."""
    from unlearn_bench.core.quantities import parse_timeout
    from unlearn_bench.plugins import registry

    limit = parse_timeout(timeout) if timeout else None
    if address and backend != "ray":
        raise ConfigError("--address: only --backend ray has one")
    if backend == "ray":
        _ray().connect(address or "auto")
    for file in plugins:
        registry.load_plugin(file)
    return limit


def _plan(
    suite: str | None,
    overrides: "Overrides",
    device: str,
    original: Path | None,
    unlearned: Iterable[Path],
) -> "Plan":
    """Return the runs of a suite as the flags change it."""
    from unlearn_bench.suite import config

    return config.expand(
        config.resolve_suite(suite, overrides),
        device=device,
        original=original,
        unlearned=tuple(unlearned),
        source=config.suite_file(suite or config.DEFAULT_SUITE),
    )


@dataclass(frozen=True)
class _Asked:
    """A suite that is to be run, where its results go, and what executes it.

    Attributes:
        setup: What workers build their runners from.
        device: Of this process's runner.
        workers: As ``--workers`` says it.
        limit: Seconds for one run.
    """

    plan: "Plan"
    folder: Path
    setup: "Setup"
    device: "torch.device"
    workers: str
    limit: float | None
    on_ray: bool

    def runner(self, notify: Callable[[str], None], *, download: bool) -> "Runner":
        """Return the runner of this process."""
        from unlearn_bench.execution.run import Runner
        from unlearn_bench.store.store import Store

        store, device = Store(self.setup.home, notify), _visible(self.device)
        return Runner(store, device, data_root=self.setup.data_root, download=download)

    def team(self, runner: "Runner", notify: Callable[[str], None]) -> "tuple[Backend | None, str]":
        """Return what executes the runs, None for this process, and how to call it."""
        if self.on_ray:
            return _on_ray(self.workers, self.setup, self.limit, self.plan, notify)
        return _on_this_machine(self.workers, self.setup, self.limit, self.plan, runner)


def _forecast(asked: _Asked, console: Console) -> None:
    """Say what would be done; nothing is written, not even what --download would get."""
    try:
        runner = asked.runner(say, download=False)
        team, _ = asked.team(runner, say)
        count = team.at_a_time if team else 1
        _print_forecast(console, asked.plan.suite.name, asked.plan, runner, asked.folder, count)
    except DataError as error:
        hint = "; --dry-run downloads nothing" if asked.setup.download else ""
        raise DataError(f"{error}{hint}") from error


def _execute(asked: _Asked, console: Console, *, debug: bool) -> None:
    """Run the suite, write its report if it is not up to date, and print the tables."""
    from unlearn_bench.cli.progress import LiveProgress
    from unlearn_bench.execution.interrupt import first_in_good_order
    from unlearn_bench.execution.scheduler import execute
    from unlearn_bench.report import summary, write_report
    from unlearn_bench.report.content import read_content
    from unlearn_bench.report.freshness import is_fresh

    plan, folder = asked.plan, asked.folder.absolute()
    with LiveProgress(console, len(plan.runs), debug=debug) as progress:
        runner = asked.runner(progress.notice, download=asked.setup.download)
        team, place = asked.team(runner, progress.notice)
        console.print(
            f"suite [bold]{plan.suite.name}[/bold]: {len(plan.runs)} runs on {place}, "
            f"results in {escape(str(asked.folder))}"
        )
        command = shlex.join(["unlearn-bench", *sys.argv[1:]])
        with first_in_good_order(progress.notice):
            results = execute(plan, runner, folder, progress, command=command, workers=team)
    content = read_content(folder)
    if not is_fresh(folder):
        write_report(folder, content)
    for table in summary(folder, content):
        print_table(console, table)
    console.print(f"report: {asked.folder / 'report.html'}", markup=False, soft_wrap=True)
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
    from unlearn_bench.core.quantities import size_text, time_text
    from unlearn_bench.execution.dry_run import forecast
    from unlearn_bench.store.layout import default_home

    found = forecast(plan, runner, default_home(), folder, count)
    say(
        f"suite {name}: {found.runs} runs, {found.done} done, {found.runs - found.done} left; "
        f"results in {folder}"
    )
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
            say(f"not in it, as nothing is known: {missing}")
    parts = ", ".join(f"{what} {size_text(size)}" for what, size in found.disk.items())
    say(f"disk: at most {size_text(sum(found.disk.values()))} ({parts})")
    for place, free in found.free.items():
        short = ": NOT ENOUGH" if place in found.short else ""
        say(f"free: {size_text(free)} for {place}{short}")


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
    workers: str, setup: "Setup", timeout: float | None, plan: "Plan", runner: "Runner"
) -> tuple["Backend | None", str]:
    """Return the processes that execute the runs, None for this one, and where that is."""
    import torch

    from unlearn_bench.execution.capacity import WORKER_BYTES, cpu_runs
    from unlearn_bench.execution.local import Workers

    device = torch.device(setup.device)
    gpus = [setup.device]
    if device.type == "cuda" and device.index is None:
        gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    # By default a GPU is not shared: times are to be compared.
    count = _count(workers) or (len(gpus) if device.type == "cuda" else None)
    if count is None:
        count = cpu_runs(plan.suite.threads)
        if count > 1:  # each process holds the data; what they are is only seen by reading them
            run_bytes = WORKER_BYTES + runner.data_bytes(plan.runs)
            count = cpu_runs(plan.suite.threads, run_bytes)
    count = min(count, len(plan.runs))
    place = _describe(device) + (f", {count} at a time" if count > 1 else "")
    if count == 1 and timeout is None:
        return None, place
    # A run can be ended in the midst of things only in a process of its own.
    return Workers(count, setup, devices=gpus, timeout=timeout), place


def _ray() -> "ModuleType":
    try:
        from unlearn_bench.execution import ray
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ConfigError(
            "--backend ray: Ray is not installed; pip install 'unlearn-bench[ray]', here and on "
            "every node"
        ) from error
    return ray


def _on_ray(
    workers: str,
    setup: "Setup",
    timeout: float | None,
    plan: "Plan",
    notify: Callable[[str], None],
) -> tuple["Backend", str]:
    """Return the tasks that execute the runs, and where that is."""
    import torch

    from unlearn_bench.execution.origin import unlearned_files

    ray = _ray()
    first = plan.runs[0]
    # Results depend in their last digits on the threads: as many as a serial run here would have.
    threads = plan.suite.threads or (torch.get_num_threads() if first.device == "cpu" else 1)
    ray.check_fits(threads)
    team = ray.RayWorkers(
        replace(setup, device=first.device, threads=threads),
        most=_count(workers),
        timeout=timeout,
        original=first.original,
        notify=notify,
        unlearned=tuple(unlearned_files(plan).values()),
    )
    return team, ray.describe_cluster()


def _describe(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU ({torch.get_num_threads()} threads)"


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Results folder of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say how far a run has come, from another terminal or later.

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
