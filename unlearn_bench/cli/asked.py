"""What a suite's commands have in common: devices, plug-ins, and what executes the runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_bench.core.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    import torch
    from rich.console import Console

    from unlearn_bench.execution.backend import Backend, Setup
    from unlearn_bench.execution.run import Runner
    from unlearn_bench.suite.config import Overrides, Plan
    from unlearn_bench.suite.spec import RunSpec


def prepare(
    timeout: str | None, address: str | None, backend: str, plugins: Iterable[Path]
) -> float | None:
    """Join the cluster, load the plug-ins, and return the seconds that a run may take."""
    from unlearn_bench.core.quantities import parse_timeout
    from unlearn_bench.execution.plugin_files import load_plugin

    limit = parse_timeout(timeout) if timeout else None
    if address and backend != "ray":
        raise ConfigError("--address: only for --backend ray")
    if backend == "ray":
        _ray().connect(address or "auto")
    for file in plugins:
        load_plugin(file)
    return limit


def ask(
    flags: Mapping[str, Any], params_from: str | None, console: "Console", folder: str = "{}"
) -> "Asked":
    """Return what a command's flags ask for, once plug-ins are loaded and a cluster is joined.

    Args:
        flags: The command's parameters by name.
        params_from: As of `plan_of`.
        console: Says what takes seconds.
        folder: Where results go by default, below ``runs/``; ``{}`` stands for the suite's name.
    """
    from unlearn_bench.suite import config

    with console.status("loading torch and timm"):
        # A mistake in the suite or in most flags is found without them.
        config.resolve_suite(flags["suite"], _overrides(flags, params_from))
        import_module("unlearn_bench.execution.scheduler")
    on_ray = flags["backend"] == "ray"
    limit = prepare(flags["timeout"], flags["address"], flags["backend"], flags["plugin"] or ())
    device = device_of(flags["device"], on_ray=on_ray)
    plan = plan_of(flags, device.type, params_from)
    out = flags["out"] or Path("runs") / folder.format(plan.suite.name)
    setup = setup_of(device, flags["data_root"], flags["download"], flags["plugin"] or ())
    setup = replace(setup, results=out.absolute())
    seed = _one_seed(flags.get("seed"), plan)
    return Asked(plan, out, setup, device, flags["workers"], limit, on_ray, seed)


def _one_seed(seed: int | None, plan: "Plan") -> int | None:
    """Return the seed that ``--seed`` names."""
    count = plan.suite.seeds.originals
    if seed is not None and not 0 <= seed < count:
        raise ConfigError(
            f"--seed {seed}: the suite has {count} seeds, 0 to {count - 1}; give one of them, or "
            "raise --seeds"
        )
    return seed


def plan_of(flags: Mapping[str, Any], device: str, params_from: str | None) -> "Plan":
    """Return the runs of a suite as a command's flags change it.

    Args:
        flags: The command's parameters by name; not every command has all.
        device: Type of the device.
        params_from: As of `Overrides`.
    """
    from unlearn_bench.suite import config

    suite, overrides = flags["suite"], _overrides(flags, params_from)
    source = config.suite_file(suite or config.DEFAULT_SUITE)
    return config.expand(
        config.resolve_suite(suite, overrides),
        device=device,
        original=flags["original"],
        unlearned=tuple(flags.get("unlearned") or ()),
        source=source,
        # Our own suites must run also after a method's file was edited.
        tuned_elsewhere=params_from is None
        and (overrides.elsewhere or source in config.suite_files().values()),
        allow_stale=flags.get("allow_stale", False),
    )


def _overrides(flags: Mapping[str, Any], params_from: str | None) -> "Overrides":
    """Return those flags that change the suite."""
    from unlearn_bench.suite import config

    names = {field.name for field in fields(config.Overrides)} & flags.keys()
    return config.Overrides(
        **{name: flags[name] for name in names}
        | {
            "forget": tuple(flags["forget"] or ()),
            "settings": tuple(flags["set_"] or ()),
            "unlearned": bool(flags.get("unlearned")),
            "params_from": params_from,
        }
    )


def setup_of(
    device: "torch.device", data_root: Path | None, download: bool, plugins: Iterable[Path]
) -> "Setup":
    """Return what workers build their runners from; absolute, for a plug-in may change folders."""
    from unlearn_bench.execution.backend import Setup
    from unlearn_bench.store.layout import default_home

    files = tuple(file.absolute() for file in plugins)
    root = data_root and data_root.absolute()
    return Setup(default_home().absolute(), str(device), root, download, files)


@dataclass(frozen=True)
class Asked:
    """A suite that is to be run, where its results go, and what executes it.

    Attributes:
        setup: What workers build their runners from.
        device: Of this process's runner.
        workers: As ``--workers`` says it.
        limit: Seconds for one run.
        seed: The only one whose runs are done here, beside processes on others; None for all.
    """

    plan: "Plan"
    folder: Path
    setup: "Setup"
    device: "torch.device"
    workers: str
    limit: float | None
    on_ray: bool
    seed: int | None = None

    @property
    def runs(self) -> "Sequence[RunSpec]":
        """The runs that are done here: all, or those of one seed."""
        return [spec for spec in self.plan.runs if self.seed in (None, spec.seed)]

    def runner(self, notify: Callable[[str], None], *, download: bool) -> "Runner":
        """Return the runner of this process."""
        from unlearn_bench.execution.run import Runner
        from unlearn_bench.store.store import Store

        store, device = Store(self.setup.home, notify), _visible(self.device)
        return Runner(
            store,
            device,
            data_root=self.setup.data_root,
            download=download,
            results=self.setup.results,
        )

    def team(self, runner: "Runner", notify: Callable[[str], None]) -> "tuple[Backend | None, str]":
        """Return what executes the runs, None for this process, and how to call it."""
        plan = replace(self.plan, runs=tuple(self.runs))
        if self.on_ray:
            return _on_ray(self.workers, self.setup, self.limit, plan, notify)
        return on_this_machine(self.workers, self.setup, self.limit, plan, runner)


def device_of(name: str, *, on_ray: bool = False) -> "torch.device":
    """Return the device that ``--device`` names.

    Raises:
        ConfigError: If there is none of that name here.
    """
    import torch

    from unlearn_bench.execution.devices import find_device

    if on_ray and (name == "cuda" or name == "auto" and _ray().cluster_has_gpus()):
        return torch.device("cuda")
    return find_device(name, f"--device {name}")


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


def on_this_machine(
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

    from unlearn_bench.execution.capacity import usual_threads
    from unlearn_bench.execution.origin import unlearned_files

    ray = _ray()
    first = plan.runs[0]
    # Results depend in their last digits on the threads: as many as a serial run here would have.
    usual = usual_threads(torch.get_num_threads()) if first.device == "cpu" else 1
    threads = plan.suite.threads or usual
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

    from unlearn_bench.execution.capacity import usual_threads

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = usual_threads(torch.get_num_threads())
    return f"the CPU ({threads} thread{'s' * (threads != 1)})"
