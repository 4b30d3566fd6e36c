"""Results folders as the harness writes them, with numbers chosen by each test."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.results import curves as stored_curves
from unlearn_bench.results.records import Curve, Record, RunResult, write_records

SPLITS = {
    "forget_accuracy": "forget",
    "retain_accuracy": "retain",
    "test_forget_accuracy": "test_forget",
    "test_retain_accuracy": "test_retain",
}


def make_run(
    method: str,
    seed: int = 0,
    *,
    kind: str = "method",
    scenario: str = "class:8",
    dataset: str = "digits",
    model: str = "resnet18",
    error: str = "",
    records: tuple[Record, ...] = (),
    **metrics: float,
) -> RunResult:
    """Build one run; accuracies and other metrics are keyword arguments."""
    measured = tuple(Record(name, SPLITS.get(name, ""), value) for name, value in metrics.items())
    label = f"{dataset}-{model}-{scenario}-{method}-{seed}"
    # A key names a file, as a label from a user's file may not.
    key = re.sub(r"[^\w:.-]", lambda found: f".{ord(found[0]):x}.", label)
    if len(key) > 200:
        key = hashlib.sha256(key.encode()).hexdigest()
    return RunResult(
        key=key,
        method=method,
        kind=kind,
        dataset=dataset,
        model=model,
        scenario=scenario,
        seed=seed,
        params={},
        status="failed" if error else "ok",
        error=error,
        records=measured + records,
    )


@pytest.fixture
def run() -> Callable[..., RunResult]:
    return make_run


def write_results(place: Path, runs: list[RunResult], **suite: Any) -> Path:
    """Write runs, and a suite around them, as a results folder."""
    write_records(place, runs)
    stored_curves.write_curves(place, runs)
    stored: Mapping[str, Any] = {
        "suite": {"name": "trial", "description": "A trial.", "seeds": 3},
        "plan": [run.key for run in runs],
        "command": "unlearn-bench run --methods all",
        "environment": {
            "unlearn_bench": "0.1.0",
            "torch": "2.15",
            "python": "3.11",
            "device": "cpu",
            "cpu": "A processor",
            "threads": 2,
        },
        "notes": [],
    }
    (place / "suite.json").write_text(json.dumps({**stored, **suite}))
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """``folder(runs, ...)`` writes them into the test's folder."""
    return lambda runs, **suite: write_results(tmp_path, runs, **suite)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which take longer than all else in them."""
    monkeypatch.setattr("unlearn_bench.report.figures.draw", lambda *_: {})


@pytest.fixture(scope="session")
def write_folder() -> Callable[..., Path]:
    return write_results


@pytest.fixture(scope="session")
def invented() -> Callable[..., list[RunResult]]:
    return realistic_runs


@pytest.fixture(scope="session")
def invented_run() -> Callable[..., RunResult]:
    return make_run


@pytest.fixture
def realistic() -> Callable[..., list[RunResult]]:
    return realistic_runs


# Forget, retain, test-forget and test-retain accuracy, loss attack AUC, seconds; then their
# spread over seeds. Typical of class unlearning on a small image set.
PROFILES = {
    "retrain": ("reference", (0.0, 0.999, 0.0, 0.981, 0.503, 8.0), 0.002),
    "original": ("control", (1.0, 1.0, 0.972, 0.984, 0.528, 0.001), 0.002),
    "pbu": ("method", (0.004, 0.981, 0.002, 0.968, 0.489, 0.42), 0.006),
    "finetune": ("method", (0.871, 0.999, 0.812, 0.983, 0.531, 2.6), 0.05),
    "random_label": ("method", (0.012, 0.984, 0.021, 0.971, 0.44, 0.9), 0.007),
    "gradient_ascent": ("method", (0.0, 0.412, 0.0, 0.398, 0.47, 0.11), 0.06),
    "neg_grad_plus": ("method", (0.009, 0.972, 0.014, 0.955, 0.478, 1.7), 0.01),
    "bad_teacher": ("method", (0.034, 0.989, 0.041, 0.974, 0.41, 1.2), 0.01),
}


def _roc(auc: float) -> Curve:
    x = tuple(i / 100 for i in range(101))
    return Curve("roc", "mia_loss", x, tuple(v ** ((1 - auc) / auc) for v in x), n=100)


def _log(method: str) -> tuple[Mapping[str, float], ...]:
    if method == "original":
        return ()
    return tuple({"step": float(i), "loss": 2.0 / (1 + 0.3 * i)} for i in range(30))


def realistic_runs(seeds: int = 3, scenarios: tuple[str, ...] = ("class:8",)) -> list[RunResult]:
    """Invent a suite's runs, the same ones at every call."""
    import random

    rng = random.Random(7)
    runs = []
    for scenario in scenarios:
        for method, (kind, means, spread) in PROFILES.items():
            for seed in range(seeds):
                accuracies = [min(1.0, max(0.0, rng.gauss(mean, spread))) for mean in means[:4]]
                seconds = means[5] * rng.uniform(0.85, 1.2)
                values = dict(zip(SPLITS, accuracies, strict=True)) | {
                    "mia_loss_auc": rng.gauss(means[4], 0.012),
                    "mia_loss_tpr_at_10pct": rng.gauss(0.1, 0.02),
                    "mia_loss_resolvable_fpr": 0.057,
                    "wall_seconds": seconds,
                    "wall_seconds_precompute": 0.0,
                    "cpu_seconds": 1.9 * seconds,
                    "peak_bytes": rng.uniform(6e8, 7e8),
                }
                attack = "forget+test_forget"
                extra = (
                    Record("mia_loss_tpr_at_1pct", attack, None, status="unresolved"),
                    Record("mia_loss_tpr_at_0.1pct", attack, None, status="unresolved"),
                    Record("examples_touched", "forget", 142.0),
                    Record("examples_touched", "retain", 1295.0 if method != "pbu" else 0.0),
                )
                made = make_run(method, seed, kind=kind, scenario=scenario, records=extra, **values)
                runs.append(replace(made, curves=(_roc(means[4]),), log=_log(method)))
    return runs
