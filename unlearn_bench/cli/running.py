"""Commands ``run`` and ``status``: do a suite, or say how far one has come."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unlearn_bench.cli.app import Plugins, app, folder_or_file, new_console, print_table, say
from unlearn_bench.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from unlearn_bench.execution.backend import Backend, Setup
    from unlearn_bench.execution.run import Runner
    from unlearn_bench.suite.config import Plan


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
        typer.Option(
            help="Results folder. Default: runs/SUITE.",
            show_default=False,
            parser=folder_or_file,
            metavar="PATH",
        ),
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
            help="Start from these weights (.safetensors, .pth) instead of training.",
            show_default=False,
        ),
    ] = None,
    unlearned: Annotated[
        list[Path] | None,
        typer.Option(
            help="Judge this model (.safetensors, .pth), unlearned elsewhere; with --original, "
            "from which it came; repeatable. Without --methods no method is run.",
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
    mean: Annotated[
        str | None,
        typer.Option(
            help="Normalise inputs by this mean, one value or one per channel; with --std.",
            show_default=False,
            metavar="NUMBERS",
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(help="And by this standard deviation.", show_default=False, metavar="NUMBERS"),
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
    console = new_console()
    with console.status("loading torch and timm"):
        from unlearn_bench.cli.progress import LiveProgress
        from unlearn_bench.core.quantities import parse_timeout
        from unlearn_bench.execution import backend as backends
        from unlearn_bench.execution.interrupt import first_in_good_order
        from unlearn_bench.execution.run import Runner
        from unlearn_bench.execution.scheduler import execute
        from unlearn_bench.plugins import registry
        from unlearn_bench.report import summary, write_report
        from unlearn_bench.report.content import read_content
        from unlearn_bench.report.freshness import is_fresh
        from unlearn_bench.store.layout import default_home
        from unlearn_bench.store.store import Store
        from unlearn_bench.suite import config

    limit = parse_timeout(timeout) if timeout else None
    if address and backend != "ray":
        raise ConfigError("--address: only --backend ray has one")
    if backend == "ray":
        _ray().connect(address or "auto")
    for file in plugin or ():
        registry.load_plugin(file)
    target = _device(device, on_ray=backend == "ray")
    resolved = config.resolve_suite(
        suite,
        config.Overrides(
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
        ),
    )
    plan = config.expand(
        resolved,
        device=target.type,
        original=original,
        unlearned=tuple(unlearned or ()),
        source=config.suite_file(suite or config.DEFAULT_SUITE),
    )
    folder = out or Path("runs") / resolved.name
    setup = backends.Setup(default_home(), str(target), data_root, download, tuple(plugin or ()))

    def find_team(runner: Runner, notify: Callable[[str], None]) -> "tuple[Backend | None, str]":
        if backend == "ray":
            return _on_ray(workers, setup, limit, plan, notify)
        return _on_this_machine(workers, setup, limit, plan, runner)

    if dry_run:
        # Nothing is written: not even what --download would get.
        runner = Runner(Store(default_home(), say), _visible(target), data_root=data_root)
        try:
            team, _ = find_team(runner, say)
            count = team.at_a_time if team else 1
            _print_forecast(console, resolved.name, plan, runner, folder, count)
        except DataError as error:
            hint = "; --dry-run downloads nothing" if download else ""
            raise DataError(f"{error}{hint}") from error
        return
    with LiveProgress(console, len(plan.runs), debug=debug) as progress:
        runner = Runner(
            Store(default_home(), progress.notice),
            _visible(target),
            data_root=data_root,
            download=download,
        )
        team, place = find_team(runner, progress.notice)
        console.print(
            f"suite [bold]{resolved.name}[/bold]: {len(plan.runs)} runs on {place}, "
            f"results in {escape(str(folder))}"
        )
        command = shlex.join(["unlearn-bench", *sys.argv[1:]])
        with first_in_good_order(progress.notice):
            results = execute(plan, runner, folder, progress, command=command, workers=team)
    page = folder / "report.html"
    content = read_content(folder)
    if not is_fresh(folder):
        write_report(folder, content)
    for table in summary(folder, content):
        print_table(console, table)
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
