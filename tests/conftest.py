"""A command line that starts at once, a tiny suite, and an artifact store of each test's own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core import locks

if "PYTEST_XDIST_WORKER" in os.environ:
    # Set before anything imports torch: processes that share the cores do not help each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Invented runs, for the report and for the analysis that it rests on.
pytest_plugins = ["invented"]

SERVER = Path(__file__).with_name("warm_cli.py")
CHECKOUT = Path(__file__).parents[1]

# Long files begin first: one left for the end would keep one core at work and the others idle.
LONG_FILES = (
    "test_ray.py",
    "test_real_data.py",
    "test_local.py",
    "test_kill_and_resume.py",
    "test_cli.py",
    "test_browser.py",
    "test_snippets.py",
    "test_conformance.py",
)

# One epoch of the smallest residual network on scikit-learn's digits.
TINY = """\
datasets: digits
models: resnet4
scenarios: class:8
methods: {name: finetune, params: {epochs: 1}}
# Without `threads` a run has the process's, and no other process is started.
recipe: {epochs: 1, batch_size: 32, lr: 2.0e-2}
# Relearning would take most of a run's time, and tests of it have a network of their own.
relearn_steps: 4
"""

# The smallest thing that counts as a method and can be told apart from the original.
PLUGIN = '''\
"""Scale the weights: a stand-in for a method of one's own."""

import torch

from unlearn_bench.api import Access, Context, method


@method("scale_weights", access=Access.FORGET)
def scale_weights(model, ctx: Context, *, factor: float = 0.5):
    """Multiply every weight.

    Args:
        factor: What every weight is multiplied by.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    # Not in the order of the alphabet, which is nobody's reason to log something first.
    ctx.log(scaled=factor, kept=1 - factor)
    return model
'''


@dataclass(frozen=True)
class Ended:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a user's mistake ends with; fails on anything else."""
        assert "Traceback" not in self.err + self.out, self.err
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), self.err
        return lines[0].removeprefix("error: ")


@dataclass
class Running:
    """A command line under way, in a process group of its own."""

    pid: int
    _read: Callable[[], dict[str, Any]]
    _out: Path
    _err: Path

    def kill(self) -> None:
        """Kill the whole process group, without any chance to tidy up."""
        os.killpg(self.pid, signal.SIGKILL)

    def ended(self) -> bool:
        """Whether it ended by itself; its code is still to be waited for."""
        return not Path(f"/proc/{self.pid}").exists()

    def kill_and_wait(self) -> Ended:
        """Kill it unless it ended by itself; the code tells which."""
        with suppress(ProcessLookupError):
            self.kill()
        return self.wait()

    def output(self) -> str:
        return self._out.read_text() if self._out.exists() else ""

    def errors(self) -> str:
        return self._err.read_text() if self._err.exists() else ""

    def wait(self) -> Ended:
        code = self._read()["code"]
        return Ended(code, self._out.read_text(), self._err.read_text())


class WarmCli:
    """Runs ``unlearn-bench ARGS`` in forks of a process that has loaded the libraries."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        # One thread: where the parent of a fork used several, the child can wait for ever.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(
        self,
        *argv: object,
        cwd: Path | None = None,
        file_limit: int = 0,
        env: dict[str, str] | None = None,
        figures: bool = False,
        packages: Path | None = None,
        warm_workers: bool = True,
    ) -> Running:
        """Start a command line.

        Args:
            file_limit: Bytes of the largest file that can be written.
            figures: Whether reports have figures, which take longer than all else in them.
            packages: A folder of packages that are installed in addition.
            warm_workers: Whether workers' fork server, too, has the libraries loaded already.
        """
        self._count += 1
        out, err = (self._folder / f"{self._count}.{name}" for name in ("out", "err"))
        request = {
            "argv": [str(arg) for arg in argv],
            "cwd": str(cwd or self._folder),
            "env": dict(os.environ) | (env or {}),
            "out": str(out),
            "err": str(err),
            "file_limit": file_limit,
            "figures": figures,
            "packages": packages and str(packages),
            "warm_workers": warm_workers and "--workers" in argv,
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Running(self._read()["pid"], self._read, out, err)

    def __call__(self, *argv: object, **options: Any) -> Ended:
        return self.start(*argv, **options).wait()

    def until_a_result(self, *argv: object, out: Path) -> Ended:
        """Run a suite until ``out`` holds a result, then interrupt it: it ends with code 130."""
        running = self.start(*argv, "--out", out)
        while not list((out / "runs").glob("*.json")) and not running.ended():
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGINT)
        return running.wait()

    def _read(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; pytest-xdist hands them out in this order, as pyproject.toml asks."""
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCli]:
    server = WarmCli(tmp_path_factory.mktemp("cli"))
    yield server
    server.close()


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every test keeps its artifacts to itself."""
    folder = tmp_path / "home"
    monkeypatch.setenv("UNLEARN_BENCH_HOME", str(folder))
    return folder


@pytest.fixture
def cli(_server: WarmCli, home: Path) -> WarmCli:
    """``cli("run", ...)`` runs that command line and gives its code, stdout and stderr."""
    return _server


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a text into a file of the test's folder and return its path."""

    def write_text(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write_text


@pytest.fixture
def plugin(write: Callable[[str, str], Path]) -> Path:
    """The file of a method of one's own, ``scale_weights``."""
    return write("scale_weights.py", PLUGIN)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    from unlearn_bench.measure import metrics
    from unlearn_bench.plugins import metric, parts, registry

    registry.methods()  # loads those of installed packages
    metrics.load_built_in()
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    monkeypatch.setattr(metric, "REGISTERED", dict(metric.REGISTERED))
    monkeypatch.setattr(metrics, "ENTRIES", dict(metrics.ENTRIES))
    monkeypatch.setattr(parts, "REGISTERED", dict(parts.REGISTERED))


@pytest.fixture
def tiny(write: Callable[[str, str], Path]) -> Path:
    """The tiny suite's file."""
    return write("tiny.yaml", TINY)


@dataclass(frozen=True)
class Finished:
    """A suite that ran through, for tests that only look."""

    suite: Path
    plugin: Path
    out: Path
    home: Path
    ended: Ended


@pytest.fixture(scope="session")
def finished(_server: WarmCli, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny suite and a plug-in of one's own, run through once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "finished"
    suite, plugin, said = folder / "tiny.yaml", folder / "scale_weights.py", folder / "said.json"
    home = folder / "home"
    lock = locks.take(shared / "finished.lock", wait=True)
    assert lock is not None
    with lock:
        if not said.exists():
            shutil.rmtree(folder, ignore_errors=True)  # another process failed on the way
            folder.mkdir()
            suite.write_text(TINY)
            plugin.write_text(PLUGIN)
            flags = ["--methods", "finetune,scale_weights", "--set", "finetune.epochs=1"]
            flags += ["--plugin", str(plugin), "--out", str(folder / "out")]
            ended = _server(
                "run", suite, *flags, env={"UNLEARN_BENCH_HOME": str(home)}, figures=True
            )
            assert ended.code == 0, ended.err
            said.write_text(json.dumps(asdict(ended)))
    return Finished(suite, plugin, folder / "out", home, Ended(**json.loads(said.read_text())))


@pytest.fixture
def trained(finished: Finished, home: Path) -> Path:
    """The test's store, with the tiny suite's models in it, for tests of what comes after."""
    shutil.copytree(finished.home, home, dirs_exist_ok=True)
    return home
