"""Who may import whom: only packages below, in the order of one list."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "unlearn_bench"

# From the ground up: a package may import those named before it, and its own modules.
ORDER = (
    "core", "plugins", "suite", "results", "data", "fisher", "analysis", "population", "store",
    "report", "measure", "toolkit", "api", "training", "execution", "conformance", "tuning",
    "library", "audit", "cli", "__main__",
)  # fmt: skip
HEAVY = {"torch", "torchvision", "timm", "safetensors"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
METHODS = sorted((ROOT / "methods").glob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path, *, typing_too: bool = True) -> tuple[str, ...]:
    """Return the dotted names of all that a file imports, wherever in it."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            if not typing_too:
                return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr):  # which holds no statement
                yield from visit(child)

    return tuple(visit(tree(path)))


@cache
def calls(name: str) -> tuple[tuple[str, ast.Call], ...]:
    """Return what a module calls, as it is written, with each call."""
    nodes = ast.walk(tree(MODULES[name]))
    return tuple((ast.unparse(node.func), node) for node in nodes if isinstance(node, ast.Call))


def part(name: str) -> str:
    """``unlearn_bench.data.splits`` belongs to ``data``."""
    return name.split(".")[1] if "." in name else ""


def test_imports_go_downward_only() -> None:
    upward = []
    for name in filter(part, MODULES):
        own = part(name)
        assert own in ORDER, f"give {own} a place in ORDER"
        for other in imports(MODULES[name]):
            used = part(other) if other.split(".")[0] == PACKAGE else ""
            if used and used != own and ORDER.index(used) >= ORDER.index(own):
                upward.append(f"{name} imports {other} above it")
    assert not upward


def test_the_order_names_what_exists() -> None:
    assert sorted({part(name) for name in MODULES} - {""}) == sorted(ORDER)


def test_methods_import_the_interface_and_the_fisher_diagonal_only() -> None:
    others = {"methods", "unlearn_bench_methods"}
    allowed = {f"{PACKAGE}.api", f"{PACKAGE}.fisher"}
    assert METHODS
    for path in METHODS:
        found = set(imports(path))
        ours = {name for name in found if name.split(".")[0] == PACKAGE}
        assert ours <= allowed, path
        assert not others & {name.split(".")[0] for name in found}, path


def test_nothing_imports_methods_or_suites_by_name() -> None:
    plugged = {"methods", "benchmarks", "unlearn_bench_methods", "unlearn_bench_suites"}
    for name, path in MODULES.items():
        assert not plugged & {other.split(".")[0] for other in imports(path)}, name


def reached_from(name: str) -> set[str]:
    """Return all modules of the package that importing ``name`` can lead to."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        while current and current not in seen:
            if current in MODULES:
                seen.add(current)
                waiting += [
                    n
                    for n in imports(MODULES[current], typing_too=False)
                    if n.split(".")[0] == PACKAGE
                ]
            current = current.rpartition(".")[0]
    return seen


def test_the_report_never_leads_to_torch() -> None:
    reports = [name for name in MODULES if part(name) == "report"]
    assert len(reports) > 5
    reached = set().union(*(reached_from(name) for name in reports))
    assert f"{PACKAGE}.results" in reached
    for name in reached:
        heavy = {n.split(".")[0] for n in imports(MODULES[name], typing_too=False)} & HEAVY
        assert not heavy, f"{name} imports {heavy}"


def test_the_command_line_loads_nothing_heavy_before_it_must() -> None:
    code = "import sys, unlearn_bench.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = HEAVY | {
        "pandas",
        "numpy",
        "scipy",
        "sklearn",
        "matplotlib",
        "pydantic",
        "yaml",
    }
    assert not loaded & heavy
    ours = {name for name in loaded if name.startswith(PACKAGE)}
    commands = {name for name in MODULES if part(name) == "cli"}
    waiting = {f"{PACKAGE}.cli.{name}" for name in ("catalogue", "progress")}
    assert ours == {PACKAGE, f"{PACKAGE}.core", f"{PACKAGE}.core.errors"} | commands - waiting


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        # `status` reads files, however busy the machine is with the runs themselves.
        ("execution.status", {*HEAVY, "pandas", "scipy", "sklearn", "pyarrow"}),
        # Whoever gives runs out judges none and draws nothing: those libraries cost as much CPU
        # time as torch.
        ("execution.scheduler", {"scipy.stats", "sklearn", "pandas", "pyarrow", "matplotlib"}),
        ("execution.local", {"scipy.stats", "sklearn", "pandas", "pyarrow", "matplotlib"}),
        ("execution.isolation.server", {"scipy.stats", "sklearn", "pandas", "pyarrow"}),
        ("api", {"scipy.stats", "sklearn", "pandas", "pyarrow", "timm", "torchvision"}),
    ],
)
def test_a_process_loads_only_what_it_needs(name: str, absent: set[str]) -> None:
    code = f"import sys, {PACKAGE}.{name}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & absent


def test_workers_are_forked_with_what_judging_needs() -> None:
    code = (
        f"import sys, importlib, {PACKAGE}.execution.local as local\n"
        "for name in local.JUDGING: importlib.import_module(name)\n"
        "before = set(sys.modules)\n"
        f"from {PACKAGE}.core.threads import as_many_as_torch\n"
        f"from {PACKAGE}.measure import metrics\n"
        "metrics.load_built_in()\n"
        "with as_many_as_torch(): pass\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"scipy", "sklearn", "pandas", "pyarrow"}


def test_only_the_command_line_prints_or_ends_the_process() -> None:
    printing = {"print", "Console", "sys.stdout.write", "sys.stderr.write"}
    for name in MODULES:
        if part(name) not in ("cli", "fisher"):
            called = {function for function, _ in calls(name)}
            assert not called & printing, name
            assert not called & {"sys.exit", "exit"}, f"{name} ends the process"


def test_nothing_is_unpickled() -> None:
    loaders = {"pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load", "joblib.load"}
    for name in MODULES:
        # Of PyTorch files only weights are read, in one place.
        weights_only = [
            call
            for function, call in calls(name)
            if function == "torch.load"
            and name == f"{PACKAGE}.training.weights"
            and any(
                k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords
            )
        ]
        assert len(weights_only) <= 1, name
        rest = [(function, call) for function, call in calls(name) if call not in weights_only]
        assert not loaders & {function for function, _ in rest}, name
        assert not any(k.arg == "allow_pickle" for _, call in rest for k in call.keywords), name


def test_no_other_module_knows_ray() -> None:
    for name, path in MODULES.items():
        if ".execution.ray" not in name:
            assert "ray" not in {other.split(".")[0] for other in imports(path)}, name
