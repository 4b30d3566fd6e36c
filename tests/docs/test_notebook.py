"""The example notebook runs from its first cell to its last, and leaves its picture."""

import runpy
from pathlib import Path

import matplotlib
import pytest
from snippets import DOCS

import unlearn_bench

pytestmark = pytest.mark.skipif(
    not hasattr(unlearn_bench, "evaluate"), reason="the Python library is not part of this version"
)


@pytest.mark.thorough
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    left = runpy.run_path(str(DOCS / "examples" / "own_network.py"))
    assert (tmp_path / "own_network.png").stat().st_size > 10_000
    accuracy = left["accuracy_by_class"]
    # Retraining cannot name a class that it never saw; the original can, and finetune still does.
    assert accuracy(left["retrained"])[8] == 0 and accuracy(left["original"])[8] > 80
    assert set(left["scores"]) == set(left["unlearned"])
