"""State and durations of all results are known without reading them; lines may be wrong."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.execution import dry_run, status
from unlearn_bench.execution.durations import Durations
from unlearn_bench.results import brief
from unlearn_bench.results.brief import note_brief, read_briefs
from unlearn_bench.results.records import Curve, Record, RunResult, run_file, write_run

KEYS = ("a", "b", "c")


def result(key: str, **changes: Any) -> RunResult:
    given = RunResult(
        key, "finetune", "method", "digits", "lenet", "class:8", 0, {"epochs": 1}, "ok",
        records=(Record("forget_accuracy", "forget", 0.5), Record("wall_seconds", "", 3.0)),
        curves=(Curve("roc", "mia_loss", (0.0, 1.0), (0.0, 1.0)),),
    )  # fmt: skip
    return replace(given, **changes)


def finish(out: Path, one: RunResult) -> None:
    write_run(out, one)
    note_brief(out, one)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    where = {"dataset": "digits", "model": "lenet", "scenario": "class:8", "seed": 0}
    suite = {"plan": [*KEYS], "runs": [where | {"method": "finetune"}] * len(KEYS)}
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    for key in KEYS:
        finish(tmp_path, result(key))
    return tmp_path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the results that were read as a whole."""
    keys: list[str] = []
    for module in (status, dry_run):
        real = module.read_run
        monkeypatch.setattr(
            module, "read_run", lambda out, key, real=real: (keys.append(key), real(out, key))[1]
        )
    return keys


def test_status_and_dry_run_read_no_result_that_was_noted(out: Path, read: list[str]) -> None:
    found = status.read_status(out)
    briefs = read_briefs(out)
    assert [dry_run._finished(out, key, briefs.get(key)) for key in KEYS] == [*briefs.values()]
    assert (found.state, found.done, read) == ("finished", 3, [])


def test_a_brief_has_the_state_and_the_durations_and_nothing_large(out: Path) -> None:
    finish(out, result("b", status="failed", error="boom", records=()))
    found = read_briefs(out)
    assert found["a"].records == (Record("wall_seconds", "", 3.0),)
    assert not found["a"].curves and not found["a"].params
    assert (found["b"].status, found["b"].error) == ("failed", "boom")


def test_a_result_that_was_changed_since_is_read_as_a_whole(out: Path, read: list[str]) -> None:
    run_file(out, "b").write_text("{")
    (out / "runs" / "c.json").unlink()
    found = status.read_status(out)
    assert (found.done, found.left) == (1, 2) and read == ["b"]


def test_a_rewritten_result_of_the_same_size_is_read_as_a_whole(out: Path) -> None:
    path = run_file(out, "a")
    write_run(out, result("a", scenario="class:9"))
    os.utime(path, ns=(0, 1))
    assert sorted(read_briefs(out)) == ["b", "c"]


def test_a_kill_between_result_and_line_or_within_a_line_costs_one_reading(
    out: Path, read: list[str]
) -> None:
    path = next(out.glob(".brief-*"))
    path.write_bytes(path.read_bytes()[:-9])
    finish(out, result("a"))
    write_run(out, result("b"))
    assert (status.read_status(out).done, read) == (3, ["b", "c"])


@pytest.mark.parametrize(
    "line",
    ["7", "{}", '{"version": 7}', '{"version": [1, 2], "result": {"key": 3}}', "\xff", "[" * 99],
)
def test_lines_that_nobody_wrote_so_are_passed_over(line: str, out: Path) -> None:
    (out / ".brief-seed-7.jsonl").write_text(line)
    assert sorted(read_briefs(out)) == [*KEYS]


def test_nothing_is_read_or_written_through_a_link(out: Path, tmp_path: Path) -> None:
    path = next(out.glob(".brief-*"))
    theirs = path.rename(tmp_path / "theirs")
    path.symlink_to(theirs)
    before = theirs.read_bytes()
    finish(out, result("a"))
    assert read_briefs(out) == {} and theirs.read_bytes() == before


def test_a_line_that_cannot_be_written_ends_nothing(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(out, result("a", error="again"))

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(brief.os, "open", full)
        note_brief(out, result("a"))
    assert sorted(read_briefs(out)) == ["b", "c"]


def test_durations_add_each_result_once_however_often_they_are_asked() -> None:
    added: list[float] = []

    class Seconds(float):
        def __radd__(self, other: float) -> float:
            added.append(other)
            return other + float(self)

    durations = Durations()
    for _ in range(50):
        durations.add_result(result("a", records=(Record("wall_seconds", "", Seconds(2)),)))
    where = ("digits", "lenet")
    assert {durations.unlearning(where, ["finetune"]) for _ in range(50)} == {2.0}
    # Once for its method, once for any.
    assert len(added) == 2 * 50
