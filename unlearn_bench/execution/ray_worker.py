"""What a suite puts on the nodes of a Ray cluster: the task of a run.

Each worker looks whether it sees the store's folder. If so it works in it, as a local process
does. If not it keeps a store of its own and shares it by way of the office, as
:mod:`unlearn_bench.execution.ray_office` describes.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from unlearn_bench.core.errors import ConfigError, UserError
from unlearn_bench.core.files import write_atomically
from unlearn_bench.execution.backend import Setup, build_runner, perform
from unlearn_bench.execution.plugin_files import load_plugin
from unlearn_bench.execution.ray_office import RemoteStore
from unlearn_bench.execution.run import Runner
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Store
from unlearn_bench.suite.spec import OriginalFile, RunSpec


@dataclass(frozen=True)
class Job:
    """What every task of a suite is told.

    Attributes:
        setup: As for local workers; paths are the driver's.
        token: Name and content of a file in the driver's store, by which a worker knows it.
        plugins: Path and text of the files that register methods.
        original: The user's own weights, if the suite starts from some.
        unlearned: The user's unlearned models by their SHA-256.
        folder: The driver's working folder, for datasets named by relative paths.
        shared: Whether workers see the store's folder; None where each looks for itself.
    """

    setup: Setup
    token: str
    plugins: tuple[tuple[Path, str], ...]
    original: bytes | None
    folder: Path
    shared: bool | None
    unlearned: Mapping[str, bytes] = field(default_factory=dict)

    def sees_the_store(self) -> bool:
        """Whether the store's folder here is the driver's."""
        if self.shared is not None:
            return self.shared
        return (self.setup.home / self.token).is_file()


def execute_run(
    job: Job, office: Any, attempt: str, spec: RunSpec, key: str, failed: Mapping[str, str]
) -> dict[str, Any]:
    """Execute one run on a worker and return what ends it; the body of a task.

    Raises:
        UserError: If the suite cannot be run here; it names the node.
    """

    def tell(**what: Any) -> None:
        office.tell.remote({"attempt": attempt, **what})

    end: dict[str, Any] = {}

    def note(**what: Any) -> None:
        if what.keys() & {"result", "error"}:
            end.update(what)
        else:
            tell(**what)

    try:
        runner = _runner(job, office, lambda text: tell(notice=text))
        spec = _with_weights(job, spec)
        if runner.key(spec) != key:
            raise ConfigError(
                f"data or code of {spec.label} differ from the driver's; install the same "
                "unlearn-bench, plug-in packages and datasets on every node"
            )
        tell(started=True)
        perform(runner, spec, failed, note)
        if "error" in end:
            raise end["error"]
    except UserError as error:
        raise UserError(f"on node {ray.util.get_node_ip_address()}: {error}") from None
    return end


@dataclass
class _Notifier:
    """Passes on to whoever listens now: a store outlives the run that it was opened for."""

    listener: Callable[[str], None]

    def __call__(self, text: str) -> None:
        self.listener(text)


# Of this process, by the suite's token: workers are used again, and a dataset is read once.
_runners: dict[str, tuple[Runner, _Notifier]] = {}


def _runner(job: Job, office: Any, notify: Callable[[str], None]) -> Runner:
    """Return this worker's runner for the suite, made at its first run here."""
    if job.token not in _runners:
        if job.folder.is_dir():
            os.chdir(job.folder)  # datasets may be named by relative paths
        for path, text in job.plugins:
            load_plugin(file_here(path, text.encode()))
        notifier = _Notifier(notify)
        store = (
            Store(job.setup.home, notifier)
            if job.sees_the_store()
            else RemoteStore(default_home(), notifier, office)
        )
        _runners.clear()
        _runners[job.token] = build_runner(job.setup, store), notifier
    runner, notifier = _runners[job.token]
    notifier.listener = notify
    return runner


def _with_weights(job: Job, spec: RunSpec) -> RunSpec:
    """Let the specification name files of this node that hold the user's weights."""
    there = {"original": job.original}
    if spec.unlearned is not None:
        there["unlearned"] = job.unlearned.get(spec.unlearned.sha256)
    found = {}
    for name, content in there.items():
        file: OriginalFile | None = getattr(spec, name)
        if file is not None and content is not None:
            path = file_here(file.path, content)
            found[name] = OriginalFile(path=path, sha256=file.sha256)
    return spec.model_copy(update=found)


def file_here(path: Path, content: bytes) -> Path:
    """Return the file itself where this node sees it as it is, or else a copy of it."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return path
    copy = default_home() / "received" / hashlib.sha256(content).hexdigest()[:16] / path.name
    if not copy.is_file():
        write_atomically(copy, content)
    return copy
