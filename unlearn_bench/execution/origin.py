"""Where a suite's results come from, written down before the first run, and how to get them again.

``suite.json`` gets what identifies the code, the files and the data; the results folder gets the
sources that a repetition needs: ``suite.yaml``, the suite with all flags resolved, and the files
of ``--plugin`` under ``plugins/``. The reproduce line runs from that folder, wherever it lies.
"""

import importlib.metadata
import shlex
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from unlearn_bench.core.files import write_atomically
from unlearn_bench.core.keys import file_hash
from unlearn_bench.execution.run import Runner
from unlearn_bench.plugins import parts, registry
from unlearn_bench.plugins.metric import plugin_metric_files
from unlearn_bench.suite.config import Plan, methods_in_force
from unlearn_bench.suite.published import FILE as PUBLISHED_FILE
from unlearn_bench.suite.published import place_of, write_published
from unlearn_bench.suite.spec import OriginalFile
from unlearn_bench.suite.tuned import FILE as TUNED_FILE
from unlearn_bench.suite.tuned import Budget, write_tuned

SUITE_FILE, PLUGINS = "suite.yaml", "plugins"
# Beside those that every run's environment names.
_PACKAGES = ("torchvision", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "safetensors")
# A fresh store: artifacts of an earlier run would otherwise be looked up, not made again.
_FRESH = {"UNLEARN_BENCH_HOME": "reproduced/home"}


def origin(plan: Plan, keys: Sequence[str], runner: Runner) -> dict[str, Any]:
    """Return what a report needs to say where its numbers come from; JSON values.

    Files are named without their folders: where they lay is nobody's business.

    Args:
        plan: What will run.
        keys: Key of each planned run.
        runner: Has loaded the data.
    """
    methods = methods_in_force(plan)
    asked = {spec.method for spec in plan.runs}
    original = plan.runs[0].original
    return {
        "commit": commit(Path(__file__).parent),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "suite_file": plan.source
        and {
            "name": plan.source.name,
            "sha256": file_hash(plan.source),
        },
        "method_files": {name: file_hash(method.file) for name, method in methods.items()},
        "plugins": {name: file_hash(file) for name, file in plugin_files(plan).items()},
        "original": original and _named(original),
        "unlearned": {label: _named(file) for label, file in unlearned_files(plan).items()},
        "data": dict(runner.fingerprints),
        "inputs": dict(runner.inputs),
        "surrogate_data": _surrogates(plan, runner),
        "planned": {
            key: [spec.dataset, spec.model.label, spec.place, spec.label, spec.seed]
            for key, spec in zip(keys, plan.runs, strict=True)
        },
        "not_asked": [
            name
            for name, method in registry.methods().items()
            if method.kind == "method" and name not in asked
        ],
        "reproduce": reproduce(plan, data_root=runner.data_root, download=runner.download),
    }


def keep_sources(plan: Plan, out: Path) -> None:
    """Write the sources that a repetition needs into the results folder ``out``."""
    suite = yaml.safe_dump(plan.suite.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    head = "# The suite as it ran, flags included; the reproduce line of suite.json reads it.\n"
    write_atomically(out / SUITE_FILE, head + suite)
    if plan.tuned is not None:
        write_tuned(out / TUNED_FILE, plan.tuned)
    if plan.published is not None:
        _, entry = place_of(str(plan.suite.published))
        write_published(out / PUBLISHED_FILE, entry, plan.published)
    for name, file in plugin_files(plan).items():
        write_atomically(out / PLUGINS / name, file.read_bytes())


def plugin_files(plan: Plan) -> dict[str, Path]:
    """Return the files of ``--plugin`` that take part in a plan, by their own names.

    Those whose methods run, whose metrics measure, and that models or data come from.
    """
    methods = {m.file for m in methods_in_force(plan).values() if m.is_plugin}
    used = {part.file for part in parts_in_force(plan)}
    files = sorted(methods | used | plugin_metric_files())
    named: dict[str, Path] = {}
    for file in files:
        name = file.name if file.name not in named else f"{file.stem}-{file_hash(file)[:8]}.py"
        named[name] = file
    return named


def parts_in_force(plan: Plan) -> list[parts.Part]:
    """Return the models and datasets of ``--plugin`` that the plan runs with."""
    names: set[tuple[str, str | None]] = {("model", spec.model.name) for spec in plan.runs}
    names |= {("dataset", of) for spec in plan.runs for of in (spec.dataset, spec.surrogate_data)}
    return [p for key, p in parts.REGISTERED.items() if key in names and p.is_plugin]


def unlearned_files(plan: Plan) -> dict[str, OriginalFile]:
    """Return the user's unlearned models that are judged, by label."""
    return {spec.label: spec.unlearned for spec in plan.runs if spec.unlearned is not None}


def _surrogates(plan: Plan, runner: Runner) -> dict[str, Any] | None:
    """Return what the surrogate data of a suite are, and who reads them; None without any."""
    runs = [spec for spec in plan.runs if spec.surrogate_data]
    data = runner.surrogates(runs[0]) if runs else None
    if data is None:
        return None
    labels = list(dict.fromkeys(spec.label for spec in runs))
    return data.facts(len(data.images)) | {"methods": labels}


def _named(file: OriginalFile) -> dict[str, str]:
    return {"name": file.path.name, "sha256": file.sha256}


def reproduce(plan: Plan, *, data_root: Path | None, download: bool) -> str:
    """Return the shell line that makes the results again when run in the results folder.

    What lies elsewhere, data and original weights, is left to shell variables: their paths are
    of this machine. The shell ends an unset one with the words given here.
    """
    words = ["unlearn-bench", "tune" if plan.tuning else "run", SUITE_FILE, *_budget(plan)]
    for name in plugin_files(plan):
        words += ["--plugin", shlex.quote(f"{PLUGINS}/{name}")]
    if data_root is not None:
        words += ["--data-root", '"${DATA_ROOT:?set it to the folder of the data}"']
    if download:
        words += ["--download"]
    first = plan.runs[0]
    if first.original is not None:
        words += ["--original", '"${ORIGINAL:?set it to the file of the original weights}"']
    paths = [file.path for file in unlearned_files(plan).values()]
    names = Counter(path.name for path in paths)
    for path in paths:
        folder = '"${UNLEARNED:?set it to the folder of the unlearned weights}"'
        # As the label is made: the folder tells files of one name apart.
        inner = path.name if names[path.name] == 1 else f"{path.parent.name}/{path.name}"
        words += ["--unlearned", f"{folder}/{shlex.quote(inner)}"]
    words += ["--device", first.device, "--out", "reproduced"]
    return " ".join([*(f"{name}={value}" for name, value in _FRESH.items()), *words])


def _budget(plan: Plan) -> list[str]:
    """Return the flags that give the budget of tuning, if that is what the plan is about."""
    if not plan.tuning:
        return []
    budget = Budget.model_validate(plan.tuning)
    return [
        *("--trials", str(budget.trials), "--budget", f"{budget.retrainings:g}"),
        *("--surrogates", str(budget.surrogates), "--tuning-seeds", str(budget.tuning_seeds)),
        *("--sampler", budget.sampler),
    ]


def commit(folder: Path) -> dict[str, Any] | None:
    """Return the git commit whose checkout holds ``folder``, and whether files differ from it.

    None where the folder is not tracked by git, as in an installed package, or git is missing.
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout.strip()

    try:
        # A virtual environment inside somebody else's checkout is not that checkout.
        git("ls-files", "--error-unmatch", "__init__.py")
        return {
            "id": git("rev-parse", "HEAD"),
            "modified": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
