"""Suites from Python: run one, read a results folder, compare two."""

import io
import json
import tempfile
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import torch

from unlearn_bench.analysis.verdict import as_csv as verdicts_csv
from unlearn_bench.execution.devices import find_device
from unlearn_bench.execution.observer import Observer
from unlearn_bench.execution.plugin_files import load_plugin
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import execute
from unlearn_bench.execution.tracking import Tracker, tracked
from unlearn_bench.library.display import table_html
from unlearn_bench.library.task import undisturbed
from unlearn_bench.report import write_report
from unlearn_bench.report.compare import Comparison
from unlearn_bench.report.compare import compare as compare_folders
from unlearn_bench.report.content import Content, read_content, terminal
from unlearn_bench.report.differences import as_csv as differences_csv
from unlearn_bench.report.freshness import is_fresh
from unlearn_bench.report.text import TextTable
from unlearn_bench.results.records import RunResult, read_records
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Store
from unlearn_bench.suite import config
from unlearn_bench.suite.spec import RunSpec

Folder: TypeAlias = "Run | Path | str"


@dataclass(frozen=True)
class Page:
    """A report's page; a notebook shows it."""

    path: Path

    def open(self) -> None:
        """Show it in the browser."""
        webbrowser.open(self.path.absolute().as_uri())

    def _repr_html_(self) -> str:
        # The page is self-contained; its own styles and scripts stay inside the frame.
        page = escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:40em;border:0"></iframe>'


@dataclass(frozen=True, eq=False)
class Run:
    """The content of a results folder.

    Attributes:
        folder: Its path.
        temporary: What deletes the folder together with this object, if anything does.
    """

    folder: Path
    temporary: "tempfile.TemporaryDirectory[str] | None" = field(default=None, repr=False)

    @property
    def records(self) -> pd.DataFrame:
        """Every record, in long form, as in ``records.csv``."""
        return read_records(self.folder)

    @property
    def verdicts(self) -> pd.DataFrame:
        """The verdict on every method and control."""
        return pd.read_csv(io.StringIO(verdicts_csv(self._content.report.sections)))

    @property
    def failed(self) -> pd.DataFrame:
        """Runs that ended without a result, and why."""
        failed = self.records[self.records["status"] == "failed"]
        columns = ["method", "dataset", "model", "scenario", "seed", "error"]
        return failed[columns].reset_index(drop=True)

    def report(self) -> Page:
        """Return the report's page, written again unless it is up to date."""
        if not is_fresh(self.folder):
            write_report(self.folder, self._content)
        return Page(self.folder / "report.html")

    @cached_property
    def _content(self) -> Content:
        return read_content(self.folder)

    def _repr_html_(self) -> str:
        return _tables_html(terminal(self._content))


@dataclass(frozen=True, eq=False)
class Compared:
    """Two results folders side by side.

    Attributes:
        found: All of it, as the command's ``report A B`` prints it.
    """

    found: Comparison

    @property
    def worse(self) -> tuple[str, ...]:
        """Why the second is worse than the first; empty if it is not."""
        return self.found.worse

    def to_frame(self) -> pd.DataFrame:
        """Return every difference, a row each."""
        return pd.read_csv(io.StringIO(differences_csv(self.found.differences)))

    def _repr_html_(self) -> str:
        return _tables_html(self.found.tables)


def run(
    suite: str | Path | None = None,
    *,
    methods: Sequence[str] | str | None = None,
    model: str | None = None,
    dataset: str | None = None,
    surrogate_data: str | None = None,
    forget: Sequence[str] | str = (),
    seeds: int | None = None,
    references: int | None = None,
    epochs: int | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    original: Path | str | None = None,
    plugins: Sequence[Path | str] = (),
    device: str = "auto",
    data_root: Path | str | None = None,
    download: bool = False,
    out: Path | str | None = None,
    track: Tracker | None = None,
    progress: Callable[[str], None] | None = None,
) -> Run:
    """Run a suite in this process, as `unlearn-bench run` does, with the same artifact store.

    Args:
        suite: A suite's name or file; by default ``digits``.
        methods: Names of methods; ``all`` for every one.
        model: An architecture in place of the suite's.
        dataset: A dataset in place of the suite's.
        surrogate_data: Another dataset, whose images methods with surrogate access read.
        forget: What to forget, such as ``class:8`` or ``random:0.1``.
        seeds: How many seeds.
        references: Retrained models per seed.
        epochs: Of the original's training.
        params: Hyper-parameters by method.
        original: Weights to start from instead of training.
        plugins: Files with methods, metrics, models or datasets of your own.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        data_root: Folder of the datasets.
        download: Whether missing datasets may be downloaded.
        out: Results folder; by default a temporary one, deleted with what is returned.
        track: ``tensorboard``, ``mlflow`` or ``wandb``: receives every run as well.
        progress: Called with a line when a run has ended, and with notices.

    Raises:
        UserError: If the suite, data or folder cannot be used; nothing has run then.
    """
    for file in plugins:
        load_plugin(Path(file))
    asked: dict[str, Any] = {"methods": _joined(methods), "model": model, "dataset": dataset}
    asked |= {"seeds": seeds, "references": references, "epochs": epochs}
    asked |= {"forget": _listed(forget), "surrogate_data": surrogate_data}
    flags = config.Overrides(**asked, settings=_settings(params or {}))
    where = find_device(device, f"device={device!r}")
    plan = _plan(None if suite is None else str(suite), flags, where.type, original)
    temporary = tempfile.TemporaryDirectory(prefix="unlearn-bench-") if out is None else None
    folder = Path(temporary.name if temporary else str(out)).absolute()
    observer = tracked(_Observer(progress or (lambda _: None)), track, plan.suite.name, folder)
    root = None if data_root is None else Path(data_root)
    _execute(plan, where, folder, observer, root, download=download)
    return Run(folder, temporary)


def _listed(forget: Sequence[str] | str) -> Sequence[str]:
    return (forget,) if isinstance(forget, str) else forget


def _joined(methods: Sequence[str] | str | None) -> str | None:
    return methods if isinstance(methods, str | None) else ",".join(methods)


def _plan(
    name: str | None, flags: config.Overrides, device: str, original: Path | str | None
) -> config.Plan:
    source = config.suite_file(name or config.DEFAULT_SUITE)
    return config.expand(
        config.resolve_suite(name, flags),
        device=device,
        original=None if original is None else Path(original),
        source=source,
        tuned_elsewhere=flags.elsewhere or source in config.suite_files().values(),
    )


def _execute(
    plan: config.Plan,
    device: torch.device,
    folder: Path,
    observer: Observer,
    data_root: Path | None,
    *,
    download: bool,
) -> None:
    with undisturbed(device), _threads():
        runner = Runner(
            Store(default_home(), observer.notice),
            device,
            data_root=data_root,
            download=download,
            results=folder,
        )
        execute(plan, runner, folder, observer, command=f"unlearn_bench.run({plan.suite.name!r})")


def load(folder: Path | str) -> Run:
    """Read a results folder that `unlearn-bench run`, or :func:`run`, wrote.

    Raises:
        OutputError: If it is not a results folder.
    """
    found = Run(Path(folder))
    _ = found.records
    return found


def compare(first: Folder, second: Folder, *, allow_missing: bool = False) -> Compared:
    """Compare two results folders: what changed, and which differences are beyond noise.

    Args:
        first: The baseline.
        second: The run that is judged.
        allow_missing: Do not call the second worse for what it was not asked for.

    Raises:
        OutputError: If one of them is not a results folder.
    """
    a, b = (given.folder if isinstance(given, Run) else Path(given) for given in (first, second))
    return Compared(compare_folders(a, b, allow_missing=allow_missing))


def _settings(params: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return parameters as the command's ``--set`` takes them."""
    return [
        f"{method}.{name}={json.dumps(value)}"
        for method, values in params.items()
        for name, value in values.items()
    ]


@contextmanager
def _threads() -> Iterator[None]:
    """Put back the number of threads, which suites may fix for their runs."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Observer:
    """Reports in lines what ended."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def run_started(self, position: int, spec: RunSpec) -> None:
        """Say nothing: most runs are short."""

    def step(self, position: int, text: str) -> None:
        """Say nothing."""

    def notice(self, text: str) -> None:
        """Pass a notice on."""
        self._say(text)

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        """Say which run ended, and how."""
        ended = result.error if result.status != "ok" else "was there" if reused else "done"
        self._say(f"{result.scenario}, seed {result.seed}, {result.method}: {ended}")

    def run_failed(self, trace: str) -> None:
        """Leave the traceback to :attr:`Run.failed`, which has the reason."""


def _tables_html(tables: Sequence[TextTable]) -> str:
    return "".join(
        table_html(
            ". ".join(filter(None, (table.title, table.finding))),
            table.columns,
            table.rows,
            table.notes,
        )
        for table in tables
    )
