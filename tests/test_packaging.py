"""A wheel built from the checkout is complete and works away from it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench import __version__

ROOT = Path(__file__).parents[1]
SOURCES = ("unlearn_bench", "methods", "benchmarks", "pyproject.toml", "LICENSE", "README.md")

# Runs command lines with the wheel's package: -I and -S keep the checkout, PYTHONPATH and the
# finder of an editable install out; the libraries are then added by hand.
DRIVER = """\
import contextlib, importlib.util, io, json, sys
wheel, libraries, commands = json.loads(sys.argv[1])
sys.path[:0] = [wheel]
sys.path += libraries
import unlearn_bench
from unlearn_bench.cli import main
answers = []
for command in commands:
    sys.argv = ["unlearn-bench", *command]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as end:
            code = end.code
    answers.append([code or 0, out.getvalue()])
print(json.dumps({
    "file": unlearn_bench.__file__,
    "methods": importlib.util.find_spec("methods") is not None,
    "benchmarks": importlib.util.find_spec("benchmarks") is not None,
    "pbu": sys.modules["unlearn_bench_methods.pbu"].__file__,
    "answers": answers,
}))
"""


def can_build() -> bool:
    try:
        version("pip")
        return int(version("setuptools").partition(".")[0]) >= 77
    except PackageNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not can_build(), reason="building a wheel without network takes pip and setuptools >= 77"
)


def call(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its folders beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    call(
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        folder,
        source,
        cwd=folder,
    )
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    target = wheel.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def files(folder: Path, *patterns: str) -> set[str]:
    found = (path for pattern in patterns for path in folder.rglob(pattern))
    return {path.relative_to(folder).as_posix() for path in found}


@pytest.mark.thorough
def test_the_wheel_holds_everything(installed: Path) -> None:
    code = files(ROOT / "unlearn_bench", "*.py", "py.typed", "templates/*")
    assert files(installed / "unlearn_bench", "*.py", "py.typed", "templates/*") == code
    assert files(installed / "unlearn_bench_methods", "*.py") == files(ROOT / "methods", "*.py")
    kinds = ("*.yaml", "*.py", "tuned/*.yaml")
    suites = files(ROOT / "benchmarks" / "suites", *kinds)
    assert files(installed / "unlearn_bench_suites", *kinds) == suites
    assert {path.name for path in installed.iterdir()} == {
        "unlearn_bench",
        "unlearn_bench_methods",
        "unlearn_bench_suites",
        f"unlearn_bench-{__version__}.dist-info",
    }


@pytest.mark.thorough
def test_the_wheel_says_what_it_is(installed: Path) -> None:
    info = installed / f"unlearn_bench-{__version__}.dist-info"
    metadata = (info / "METADATA").read_text()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    entries = (info / "entry_points.txt").read_text()
    assert "unlearn-bench = unlearn_bench.cli:main" in entries
    assert "builtin = unlearn_bench_methods" in entries


@pytest.mark.thorough
def test_the_wheel_works_away_from_the_checkout(
    installed: Path, tiny: Path, folder: Any, run: Any, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    libraries = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    commands: list[list[str]] = [
        ["list", "methods"],
        ["list", "suites"],
        ["run", str(tiny), "--methods", "finetune", "--dry-run"],
        ["report", str(folder([run("pbu", forget_accuracy=0.0, retain_accuracy=1.0)]))],
    ]
    arguments = json.dumps([str(installed), libraries, commands])
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", DRIVER, arguments],
        cwd=away,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert Path(answer["file"]) == installed / "unlearn_bench" / "__init__.py"
    assert Path(answer["pbu"]) == installed / "unlearn_bench_methods" / "pbu.py"
    assert not answer["methods"] and not answer["benchmarks"]
    codes, (methods, suites, forecast, _) = zip(*answer["answers"], strict=True)
    assert codes == (0, 0, 0, 0), done.stderr
    assert {"pbu", "retrain", "salun"} <= {line.split()[0] for line in methods.splitlines()}
    assert {"digits", "mnist-pbu"} <= {line.split()[0] for line in suites.splitlines()}
    assert "finetune" in forecast
    assert (tmp_path / "report.html").exists()
