"""How many images of which class are forgotten, in words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearn_bench.execution.forgotten import forgotten
from unlearn_bench.execution.run import Runner
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Overrides, Plan, expand, resolve_suite


def planned(tiny: Path, *forget: str) -> Plan:
    return expand(resolve_suite(str(tiny), Overrides(forget=forget)), device="cpu")


def lines(plan: Plan, tmp_path: Path) -> list[str]:
    return list(forgotten(plan.runs, Runner(Store(tmp_path / "home"), torch.device("cpu"))))


@pytest.mark.parametrize(
    ("forget", "line"),
    [
        ("class:8", "digits, class:8: forgets 125 of 1,295 training images (8: 125)"),
        ("indices:0,10,1", "forgets 3 of 1,296 training images (0: 2, 1: 1)"),
        ("stream:class:1;indices:0", "request 2 of 2: forgets 1 of 1,295 training images (0: 1)"),
        ("memorised:high:0.05", "training images, chosen by how far models memorise them"),
        ("confused:3,5:0.1", "forgets 26 of 1,295 training images (3: 13, 5: 13)"),
    ],
)
def test_images_are_counted_by_class(tiny: Path, tmp_path: Path, forget: str, line: str) -> None:
    found = lines(planned(tiny, forget), tmp_path)
    assert any(line in text for text in found), found


def test_each_scenario_is_said_once(tiny: Path, tmp_path: Path) -> None:
    assert len(lines(planned(tiny, "class:8", "random:0.1"), tmp_path)) == 2


def test_what_indices_count_is_said_where_it_may_surprise(tiny: Path, tmp_path: Path) -> None:
    runner = Runner(Store(tmp_path / "home"), torch.device("cpu"))
    plan = planned(tiny, "indices:3")

    class Surprising:
        check_split = runner.check_split

        def dataset(self, spec: Any) -> Any:
            return replace(runner.dataset(spec), counted="the rows of its files")

    [line] = forgotten(plan.runs, Surprising())  # type: ignore[arg-type]
    assert line.endswith("; indices count the rows of its files")


def test_run_and_dry_run_say_it(cli: Any, tiny: Path, tmp_path: Path, finished: Any) -> None:
    ended = cli("run", tiny, "--dry-run", cwd=tmp_path)
    for said in (ended.out, finished.ended.out):
        assert "digits, class:8: forgets 125 of 1,295 training images (8: 125)" in said
