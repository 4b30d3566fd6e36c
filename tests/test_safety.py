"""Nothing that is read runs code, and no name leads out of the folder it is meant for."""

import ast
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.report import write_report
from unlearn_bench.results.records import Record, RunResult, write_records, write_run
from unlearn_bench.suite.config import load_suite

Write = Callable[[str, str], Path]
SOURCES = sorted((Path(__file__).parents[1] / "unlearn_bench").rglob("*.py"))
SUITE = "datasets: digits\nmodels: test_resnet\nscenarios: class:8\nmethods: finetune\n"


# Who reads files past core/reading.py: nobody else made them, or the user named them as code.
READ_OTHERWISE = {
    "audit/statement.py": "its own schema",
    "core/keys.py": "plug-ins",
    "core/memory.py": "the system's",
    "core/reading.py": "the door",
    "execution/heartbeat.py": "the system's",
    "execution/isolation/__init__.py": "lines of its own process",
    "execution/isolation/call.py": "plug-ins",
    "execution/isolation/server.py": "what the harness wrote for it",
    "execution/origin.py": "plug-ins",
    "execution/ray.py": "plug-ins and weights that were checked before",
    "execution/ray_worker.py": "a copy of its own",
    "execution/surroundings/leftovers.py": "the system's",
    "fisher/timing.py": "the system's",
    "library/runs.py": "the page that was just written",
    "measure/clock.py": "the system's",
    "results/records.py": "what was just written as JSON",
    "store/layout.py": "what was just written as JSON",
}
PACKAGE = Path(__file__).parents[1] / "unlearn_bench"


def test_files_of_strangers_are_read_through_one_door() -> None:
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("json.load", "json.loads") or called.endswith(
                (".read_text", ".read_bytes")
            ):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == set(READ_OTHERWISE)


def test_timm_is_one_that_unpickles_no_checkpoint_unasked() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    (timm,) = (r for r in map(Requirement, project["dependencies"]) if r.name == "timm")
    assert "1.0.25" not in timm.specifier and "1.0.26" in timm.specifier


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_yaml_is_read_by_the_safe_loader_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("yaml."):
            loaders = [ast.unparse(k.value) for k in node.keywords if k.arg == "Loader"]
            name = ast.unparse(node.func)
            reads = name.rpartition(".")[2] in ("load", "load_all", "compose", "unsafe_load")
            assert not reads or loaders == ["yaml.SafeLoader"], f"{path}: {name}"


def test_a_suite_that_would_run_code_is_refused(write: Write, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    suite = write("suite.yaml", SUITE + f"name: !!python/object/apply:os.mkdir ['{touched}']\n")
    with pytest.raises(ConfigError, match="suite.yaml:5"):
        load_suite(str(suite))
    assert not touched.exists()


@pytest.mark.parametrize("key", ["plugin", "plugins", "import", "include"])
def test_a_suite_cannot_name_a_plug_in(key: str, write: Write) -> None:
    with pytest.raises(ConfigError, match=f"{key}: unknown key"):
        load_suite(str(write("suite.yaml", SUITE + f"{key}: evil.py\n")))


def test_a_file_beside_the_suite_runs_only_when_named(
    cli: Any, write: Write, tmp_path: Path, home: Path
) -> None:
    write("suite.yaml", SUITE)
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    for place in ("evil.py", "methods/evil.py", "runs/evil.py", "home/evil.py", "conftest.py"):
        write(place, code)
    flags = ["run", "suite.yaml", "--dry-run", "--out", "out"]
    assert cli(*flags, cwd=tmp_path).code == 0
    assert not (tmp_path / "ran").exists()
    cli(*flags, "--plugin", "evil.py", cwd=tmp_path)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", ".x", "a\\nb", ""])
def test_a_suites_name_is_a_folders_name(name: str, write: Write) -> None:
    with pytest.raises(ConfigError, match="name: "):
        load_suite(str(write("suite.yaml", SUITE + f'name: "{name}"\n')))


def test_no_label_dataset_or_scenario_leads_out_of_the_results_folder(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"
    for number, name in enumerate(("../../../evil", "/evil", "a/../../evil", "evil\0", "..")):
        result = RunResult(
            f"{number:032x}",
            name,
            "reference" if number == 0 else "method",
            f"parquet:{name}",
            name,
            f"class:{name}",
            0,
            {},
            "ok",
            records=tuple(
                Record(f"test_{part}_accuracy", f"test_{part}", 0.5)
                for part in ("forget", "retain")
            ),
        )
        write_run(out, result)
        write_records(out, [result])
        write_report(out)
    outside = [path for path in tmp_path.rglob("*") if out not in (path, *path.parents)]
    assert {path.relative_to(tmp_path).as_posix() for path in outside} == {"a", "a/b"}
    assert not Path("/evil").exists() and not any("evil" in n for n in os.listdir(tmp_path.parent))  # noqa: PTH208
