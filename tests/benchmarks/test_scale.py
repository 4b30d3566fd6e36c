"""The tables of `reports/scale.md` follow from the records, checked by hand on the smallest."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs: retraining takes 10 s, a method half of that, judging either 2 s."""
    rows = [
        (kind, method, metric, value, "ok")
        for kind, method, seconds in (("reference", "retrain", 10.0), ("method", "fast", 5.0))
        for metric, value in (
            ("cpu_seconds", seconds),
            ("wall_seconds", 2 * seconds),
            ("wall_seconds_evaluate", 2.0),
        )
    ]
    rows.append(("method", "fast", "cpu_seconds", 99.0, "unresolved"))
    records = pd.DataFrame(rows, columns=["kind", "method", "metric", "value", "status"])
    records.assign(seed=0, run_key=records["method"]).to_parquet(tmp_path / "records.parquet")
    return tmp_path


def test_a_suite_costs_its_trainings_its_methods_and_its_evaluations(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["scale.py", str(folder), "--seeds", "2", "--places", "10"]
    monkeypatch.setattr(sys, "argv", given)
    load("scale").main()
    table = capsys.readouterr().out
    assert f"| {folder.name} | 1 | 0.5 | 0.50 | 0.5 (`fast`) | 0.100 |" in table
    # (3 trainings + 0.5 + 2 runs of 0.1) x 2 x 10 = 74 retrainings of an hour.
    assert f"| {folder.name} | 74 | 60 | 74 | 9 | 1 |" in table


def test_storage_is_told_by_run_and_by_kind_of_artifact(tmp_path: Path) -> None:
    storage = load("storage")
    out, home = tmp_path / "out", tmp_path / "home"
    (out / "runs").mkdir(parents=True)
    (out / "suite.json").write_text('{"plan": ["a", "b"]}')
    for name in ("runs/a.json", "runs/b.json", ".brief-seed-0.jsonl"):
        (out / name).write_bytes(b"x" * 3_000)
    for number in range(4):
        artifact = home / "artifacts" / "original" / f"{number:032x}"
        artifact.mkdir(parents=True)
        (artifact / "tensors.safetensors").write_bytes(b"x" * 5_000)
    table = [*storage.lines(out, home)]
    assert "| `runs` | 6 | 3.0 |" in table and "| `briefs` | 3 | 1.5 |" in table
    assert "| original | 4 | 5 | 10 |" in table


def test_growth_is_told_beside_that_of_the_runs() -> None:
    scale = load("scheduler_scale")
    found = {n: {"status": scale.Cost(n / 100, n / 200, n * 1e4)} for n in (1_000, 3_000)}
    assert [*scale.table(found)][-1] == (
        "| status | 10.0 s (5.0), 10 MB | 30.0 s (15.0), 30 MB | x3.0 for x3.0 |"
    )
