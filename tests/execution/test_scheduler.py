"""A results folder survives failure, interruption and company; a runner of straw does the work."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearn_bench.core import locks
from unlearn_bench.core.errors import ConfigError, DataError, OutputError, UserError
from unlearn_bench.core.files import temporary_beside
from unlearn_bench.core.keys import content_key
from unlearn_bench.execution.backend import Event
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.scheduler import execute
from unlearn_bench.results.brief import read_briefs
from unlearn_bench.results.curves import read_curves
from unlearn_bench.results.records import Record, RunResult, read_records, read_run, read_suite
from unlearn_bench.suite.config import Plan, expand
from unlearn_bench.suite.published import read_published
from unlearn_bench.suite.spec import RunSpec, Suite


class Straw:
    """A runner that only notes what it was asked to do."""

    environment = {"torch": "2"}
    fingerprints = {"digits": "0123"}
    inputs: Mapping[str, Any] = {}
    data_root, download = None, False
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self.ran: list[str] = []
        self.checked: list[str] = []
        self.hook: Callable[[RunSpec], None] = lambda spec: None

    def remember(self, failed: Mapping[str, str]) -> None:
        self.failed.update(failed)

    def check_split(self, spec: RunSpec) -> None:
        self.checked.append(f"split {spec.seed}")

    def check_model(self, spec: RunSpec) -> None:
        self.checked.append("model")

    def check_surrogates(self, spec: RunSpec) -> None:
        pass

    def key(self, spec: RunSpec) -> str:
        return content_key(spec.identity())

    def original_key(self, spec: RunSpec) -> str:
        return f"original of seed {spec.seed}"

    def run(self, spec: RunSpec, step: Callable[[str], None]) -> RunResult:
        step("work")
        self.hook(spec)
        self.ran.append(f"{spec.label} {spec.seed}")
        return self.result(spec, "ok", records=(Record("forget_accuracy", "forget", 0.5),))

    def result(self, spec: RunSpec, status: Any, **rest: Any) -> RunResult:
        return RunResult(
            key=self.key(spec),
            method=spec.label,
            kind="method",
            dataset=spec.dataset,
            model=spec.model.label,
            scenario=spec.forget.name,
            seed=spec.seed,
            params=spec.params,
            status=status,
            **rest,
        )


class Watcher:
    """Collects what an observer is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.traces: list[str] = []

    def run_started(self, position: int, spec: RunSpec) -> None:
        self.told.append(("start", position, spec.label))

    def step(self, position: int, text: str) -> None:
        self.told.append(("step", text))

    def run_finished(self, position: int, result: RunResult, reused: bool) -> None:
        self.told.append(("end", position, result.status, "reused" if reused else "new"))

    def notice(self, text: str) -> None:
        self.told.append(("notice", text))

    def run_failed(self, trace: str) -> None:
        self.traces.append(trace)


def plan(**changes: Any) -> Plan:
    values = {
        "name": "s",
        "datasets": "digits",
        "models": "test_resnet",
        "scenarios": "class:8",
        "methods": "finetune",
        "seeds": 2,
    }
    planned = expand(Suite.model_validate(values | changes), device="cpu")
    # Three runs a seed are enough here; the other controls would only make lists longer.
    return replace(planned, runs=tuple(spec for spec in planned.runs if spec.method in KEPT))


KEPT = ("retrain", "original", "finetune")
ALL = [f"{method} {seed}" for seed in (0, 1) for method in KEPT]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def go(
    runner: Straw, out: Path, given: Plan | None = None, watcher: Watcher | None = None
) -> list[RunResult]:
    return execute(given or plan(), runner, out, watcher or Watcher(), command="unlearn-bench run")  # type: ignore[arg-type]


def recorded(out: Path) -> list[str]:
    return [f"{row.method} {row.seed}" for row in read_records(out).itertuples()]


def failing(*labels: str, error: BaseException) -> Callable[[RunSpec], None]:
    def fail(spec: RunSpec) -> None:
        if f"{spec.label} {spec.seed}" in labels:
            raise error

    return fail


def test_every_planned_run_is_run_in_order_and_recorded(out: Path) -> None:
    runner, watcher = Straw(), Watcher()
    results = go(runner, out, watcher=watcher)
    assert runner.ran == ALL == recorded(out)
    assert [f"{result.method} {result.seed}" for result in results] == ALL
    assert watcher.told[:3] == [("start", 0, "retrain"), ("step", "work"), ("end", 0, "ok", "new")]
    stored = json.loads((out / "suite.json").read_text())
    assert stored["suite"]["name"] == "s" and stored["command"] == "unlearn-bench run"
    assert stored["plan"] == [result.key for result in results]


def test_everything_is_checked_once_before_anything_runs(out: Path) -> None:
    runner = Straw()
    runner.hook = lambda spec: runner.checked.append("run")
    go(runner, out)
    assert runner.checked == ["split 0", "model", "split 1"] + ["run"] * 6


def test_impossible_data_leave_no_folder(out: Path) -> None:
    runner = Straw()
    runner.check_split = failing("retrain 1", error=DataError("no data"))  # type: ignore[method-assign]
    with pytest.raises(DataError):
        go(runner, out)
    assert runner.ran == [] and not out.exists()


def test_a_second_time_nothing_is_run(out: Path) -> None:
    first = go(Straw(), out)
    runner, watcher = Straw(), Watcher()
    assert go(runner, out, watcher=watcher) == first
    assert runner.ran == [] and recorded(out) == ALL
    assert watcher.told[1] == ("end", 0, "ok", "reused")


def test_a_failed_run_is_recorded_and_the_others_finish(out: Path) -> None:
    runner, watcher = Straw(), Watcher()
    failure = RunFailedError("boom: why")
    failure.__cause__ = ZeroDivisionError()
    runner.hook = failing("finetune 0", error=failure)
    results = go(runner, out, watcher=watcher)
    assert [result.status for result in results] == ["ok", "ok", "failed", "ok", "ok", "ok"]
    assert len(watcher.traces) == 1 and "ZeroDivisionError" in watcher.traces[0]
    rows = read_records(out)
    failed = rows[rows["status"] == "failed"]
    assert failed[["method", "seed", "error"]].values.tolist() == [["finetune", 0, "boom: why"]]


def test_only_a_failed_run_is_tried_again(out: Path) -> None:
    runner = Straw()
    runner.hook = failing("finetune 0", error=RunFailedError("boom"))
    go(runner, out)
    again = Straw()
    assert {result.status for result in go(again, out)} == {"ok"}
    assert again.ran == ["finetune 0"]
    assert set(read_records(out)["status"]) == {"ok"} and recorded(out) == ALL


def test_runs_that_are_tried_again_are_of_the_code_that_does_it(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = iter(["one", "two", "three"])
    monkeypatch.setattr(
        "unlearn_bench.execution.folder.origin", lambda *args: {"commit": next(code)}
    )
    runner = Straw()
    runner.hook = failing("finetune 0", error=RunFailedError("boom"))
    commits = []
    for each in (runner, Straw(), Straw()):
        go(each, out)
        commits.append(read_suite(out)["origin"]["commit"])
    assert commits == ["one", "two", "two"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OutputError("disk full"), ValueError("bug")]
)
def test_whatever_ends_a_suite_early_keeps_what_was_finished(
    error: BaseException, out: Path
) -> None:
    runner = Straw()
    runner.hook = failing("finetune 0", error=error)
    with pytest.raises(type(error)):
        go(runner, out)
    assert recorded(out) == ALL[:2]
    again = Straw()
    go(again, out)
    assert again.ran == ALL[2:] and recorded(out) == ALL


@pytest.mark.parametrize(
    ("number", "at"), [(errno.EIO, at) for at in (1, 4, 9, 14, 19)] + [(errno.ENOSPC, 7)]
)
def test_a_disk_that_fails_at_any_write_loses_nothing_that_was_finished(
    number: int, at: int, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, 0

    def fail(handle: int) -> None:
        nonlocal calls
        calls += 1
        # It stays full or broken: what is written at the end fails as well.
        if calls >= at and threading.current_thread() is threading.main_thread():
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=os.strerror(number)) as caught:
        go(Straw(), out)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    finished = {path.stem for path in (out / "runs").glob("*.json")}
    assert not list(out.rglob("*.tmp"))
    runner = Straw()
    results = go(runner, out)
    assert recorded(out) == ALL
    left = [f"{r.method} {r.seed}" for r in results if r.key not in finished]
    assert runner.ran == left and all(read_run(out, key) for key in finished)


@pytest.mark.parametrize("last", [False, True])
def test_a_results_folder_that_is_deleted_meanwhile_ends_the_suite_and_is_not_made_again(
    last: bool, out: Path
) -> None:
    runner = Straw()

    def delete(spec: RunSpec) -> None:
        if f"{spec.label} {spec.seed}" == (ALL[-1] if last else "finetune 0"):
            shutil.rmtree(out)

    runner.hook = delete
    with pytest.raises(OutputError, match="was deleted, moved or emptied while the suite ran; run"):
        go(runner, out)
    assert not (out / "records.csv").exists()
    again = Straw()
    go(again, out)
    assert again.ran == ALL == recorded(out)


def test_interrupting_a_resumed_suite_loses_no_record(out: Path) -> None:
    runner = Straw()
    runner.hook = failing("retrain 0", error=RunFailedError("boom"))
    go(runner, out)
    resumed = Straw()
    resumed.hook = failing("retrain 0", error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        go(resumed, out)
    assert recorded(out) == ALL
    assert list(read_records(out)["status"]).count("failed") == 1


def test_a_damaged_result_is_put_aside_and_made_again(out: Path) -> None:
    first, second, *_ = go(Straw(), out)
    path = out / "runs" / f"{second.key}.json"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    runner, watcher = Straw(), Watcher()
    again = go(runner, out, watcher=watcher)
    assert runner.ran == [f"{second.method} {second.seed}"] and again[:2] == [first, second]
    [notice] = [told[1] for told in watcher.told if told[0] == "notice"]
    aside = out / "damaged" / f"{second.key}-1.json"
    assert f"its checksum differs): moved to {aside} and computed again" in notice
    assert "0.6" in aside.read_text() and recorded(out) == ALL


def test_a_folder_of_a_later_version_is_refused(out: Path) -> None:
    go(Straw(), out)
    stored = json.loads((out / "suite.json").read_text())
    (out / "suite.json").write_text(json.dumps(stored | {"format": 9}))
    with pytest.raises(OutputError, match="is of format 9, this version reads 1: upgrade"):
        go(Straw(), out)


def test_a_folder_without_locks_is_used_all_the_same(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "take", lambda path: locks.Lock(None))
    watcher = Watcher()
    go(Straw(), out, watcher=watcher)
    assert recorded(out) == ALL and "has no locks" in str(watcher.told[0])


@pytest.mark.parametrize(
    "changes",
    [{"seeds": 3}, {"methods": "pbu"}, {"recipe": {"epochs": 1}, "scenarios": "class:1"}],
)
def test_another_suite_is_refused_with_what_differs(changes: dict[str, Any], out: Path) -> None:
    go(Straw(), out)
    before = (out / "suite.json").read_bytes()
    runner = Straw()
    with pytest.raises(OutputError, match="choose another --out, or delete that folder") as caught:
        go(runner, out, plan(**changes))
    named = str(caught.value).partition("differs in: ")[2].partition(")")[0]
    assert set(named.split(", ")) == set(changes)
    assert runner.ran == [] and (out / "suite.json").read_bytes() == before
    assert recorded(out) == ALL


def test_another_device_or_other_weights_are_another_suite(out: Path, tmp_path: Path) -> None:
    given = plan()
    go(Straw(), out, given)
    other = Plan(given.suite, tuple(s.model_copy(update={"device": "cuda"}) for s in given.runs))
    with pytest.raises(OutputError, match=r"it differs in: device\)"):
        go(Straw(), out, other)
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    with pytest.raises(OutputError, match=r"it differs in: original\)"):
        go(Straw(), out, expand(given.suite, device="cpu", original=weights))


def test_a_folder_without_any_run_is_free_for_another_suite(out: Path) -> None:
    runner = Straw()
    runner.hook = failing("retrain 0", error=OutputError("wrong weights"))
    with pytest.raises(OutputError, match="wrong weights"):
        go(runner, out)
    assert {result.seed for result in go(Straw(), out, plan(seeds=1))} == {0}


def test_a_damaged_suite_file_is_named(out: Path) -> None:
    go(Straw(), out)
    (out / "suite.json").write_text("{")
    with pytest.raises(OutputError, match="suite.json is damaged.*choose another --out"):
        go(Straw(), out)


def test_a_folder_in_use_is_refused(out: Path) -> None:
    out.mkdir()
    runner = Straw()
    with locks.take(out / ".lock"), pytest.raises(OutputError) as caught:  # type: ignore[union-attr]
        go(runner, out)
    assert f"another process is running a suite in {out}" in str(caught.value)
    assert runner.ran == [] and not (out / "suite.json").exists()
    go(runner, out)


def test_a_folder_is_free_again_after_a_failure(out: Path) -> None:
    runner = Straw()
    runner.hook = failing("original 0", error=ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        go(runner, out)
    assert locks.is_held(out / ".lock") is False


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot write into"):
            go(Straw(), place)
    assert (tmp_path / "file").read_text() == "in the way"


def test_what_a_killed_process_was_writing_is_cleared_away(out: Path) -> None:
    (out / "runs").mkdir(parents=True)
    names = [temporary_beside(out / "records.csv"), temporary_beside(out / "runs" / "k.json")]
    for path in names:
        path.write_text("half")
    go(Straw(), out)
    assert not any(path.exists() for path in names)
    theirs = [out / ".notes.tmp", out / "runs" / ".draft.json.tmp"]
    for path in theirs:
        path.write_text("mine")
    go(Straw(), out)
    assert all(path.exists() for path in theirs)


def test_two_entries_that_run_the_same_are_refused(out: Path) -> None:
    twins = plan(methods=["finetune", {"name": "finetune", "label": "twin"}])
    with pytest.raises(ConfigError, match="'finetune' and 'twin' are the same method"):
        go(Straw(), out, twins)
    assert not out.exists()


# Several at a time: workers of straw run whatever they are given, the last first.


class StrawWorkers:
    """Two workers that answer in the wrong order, die some times, or take too long."""

    timeout = 90.0
    at_a_time = 2

    def __init__(
        self, runner: Straw, *, dying: str = "", deaths: int = 1, slow: str = "", retries: int = 0
    ) -> None:
        self._runner, self._dying, self._slow = runner, dying, slow
        self._deaths, self.slow_at = deaths, "train original: epoch 1/9"
        self.retries = retries
        self._busy: list[tuple[int, RunSpec]] = []
        self.known: dict[str, dict[str, str]] = {}
        self.most = 0

    def __enter__(self) -> "StrawWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def takes(self, spec: RunSpec) -> bool:
        return len(self._busy) < 2

    @property
    def busy(self) -> bool:
        return bool(self._busy)

    def submit(self, position: int, spec: RunSpec, key: str, failed: Mapping[str, str]) -> None:
        assert key == self._runner.key(spec)
        self._busy.append((position, spec))
        self.known[f"{spec.label} {spec.seed}"] = dict(failed)
        self.most = max(self.most, len(self._busy))

    def wait(self, tell: Callable[[Event], None]) -> None:
        for event in self._events():
            tell(event)

    def _events(self) -> Iterator[Event]:
        position, spec = self._busy.pop()
        name = f"{spec.label} {spec.seed}"
        if name == self._slow:
            yield Event(position, step=self.slow_at)
            yield Event(position, timed_out=True)
            return
        yield Event(position, step="work")
        if name == self._dying and self._deaths:
            self._deaths -= 1
            yield Event(position, died="struck by lightning")
            return
        try:
            yield Event(position, result=self._runner.run(spec, lambda text: None))
        except RunFailedError as failure:
            result = self._runner.result(spec, "failed", error=str(failure))
            yield Event(position, result=result, trace="trace", failed={"original": "melted"})
        except UserError as error:
            yield Event(position, error=error)


def several(
    runner: Straw, out: Path, workers: StrawWorkers, watcher: Watcher | None = None
) -> list[RunResult]:
    return execute(plan(), runner, out, watcher or Watcher(), command="c", workers=workers)  # type: ignore[arg-type]


def test_workers_leave_the_records_of_a_serial_run(out: Path, tmp_path: Path) -> None:
    runner = Straw()
    workers = StrawWorkers(runner)
    assert several(runner, out, workers) == go(Straw(), tmp_path / "serial")
    assert recorded(out) == ALL and sorted(runner.ran) == sorted(ALL) and workers.most == 2
    again, watcher = Straw(), Watcher()
    several(again, out, StrawWorkers(again), watcher)
    assert again.ran == [] and ("end", 0, "ok", "reused") in watcher.told


def test_nothing_starts_before_what_it_needs_is_made(out: Path) -> None:
    runner = Straw()
    workers = StrawWorkers(runner)
    several(runner, out, workers)
    for seed in (0, 1):
        assert runner.ran.index(f"retrain {seed}") < min(
            runner.ran.index(f"{method} {seed}") for method in KEPT[1:]
        )
    # Two originals are trained side by side.
    assert list(workers.known)[:2] == ["retrain 0", "retrain 1"]


def test_an_original_is_trained_by_whoever_wants_its_training_log(out: Path) -> None:
    runner = Straw()
    given = expand(plan(methods=["finetune", "amnesiac"]).suite, device="cpu")
    workers = StrawWorkers(runner)
    execute(given, runner, out, Watcher(), command="c", workers=workers)  # type: ignore[arg-type]
    for seed in (0, 1):
        assert [run for run in runner.ran if run.endswith(str(seed))][0] == f"amnesiac {seed}"


def test_workers_are_told_what_failed_elsewhere(out: Path) -> None:
    runner, watcher = Straw(), Watcher()
    runner.hook = failing("retrain 0", error=RunFailedError("boom"))
    workers = StrawWorkers(runner)
    results = several(runner, out, workers, watcher)
    assert [r.status for r in results].count("failed") == 1 and watcher.traces == ["trace"]
    # The run itself may have failed where it does not matter to others: in its evaluation.
    assert workers.known["finetune 0"] == {"original": "melted"}


def test_a_worker_that_dies_takes_only_its_own_run_with_it(out: Path) -> None:
    runner = Straw()
    results = several(runner, out, StrawWorkers(runner, dying="original 1"))
    failed = [result for result in results if result.status == "failed"]
    assert [f"{r.method} {r.seed}" for r in failed] == ["original 1"]
    assert failed[0].error == "struck by lightning"


def test_a_run_is_given_out_again_as_often_as_the_backend_says(out: Path, tmp_path: Path) -> None:
    runner, watcher = Straw(), Watcher()
    workers = StrawWorkers(runner, dying="retrain 1", deaths=3, retries=3)
    assert {result.status for result in several(runner, out, workers, watcher)} == {"ok"}
    notices = [text for kind, *text in watcher.told if kind == "notice"]
    assert [text[0][-6:] for text in notices] == ["1 of 3", "2 of 3", "3 of 3"]
    assert "struck by lightning" in notices[0][0]

    workers = StrawWorkers(runner, dying="retrain 1", deaths=4, retries=3)
    results = several(runner, tmp_path / "once more", workers)
    assert [r.error for r in results if r.status == "failed"] == ["struck by lightning"]


def test_a_run_that_takes_too_long_fails_and_its_original_is_not_tried_again(out: Path) -> None:
    runner = Straw()
    workers = StrawWorkers(runner, slow="retrain 0")
    [failed] = [r for r in several(runner, out, workers) if r.status == "failed"]
    assert (failed.method, failed.seed) == ("retrain", 0)
    assert failed.error.startswith("stopped after 90 s, the --timeout of a run, at 'train original")
    assert "give more time" in failed.error
    assert workers.known["finetune 0"] == {
        failed.key: failed.error,
        "original of seed 0": failed.error,
    }
    assert workers.known["retrain 1"] == {}


@pytest.mark.parametrize(
    ("step", "lost"),
    [("retrain: epoch 3/9", 1), ("record training log: epoch 1/9", 1), ("evaluate", 0)],
)
def test_a_run_ended_in_its_evaluation_made_what_others_need(
    step: str, lost: int, out: Path
) -> None:
    runner = Straw()
    workers = StrawWorkers(runner, slow="retrain 0")
    workers.slow_at = step
    [failed] = [r for r in several(runner, out, workers) if r.status == "failed"]
    assert workers.known["finetune 0"] == dict([(failed.key, failed.error)][:lost])


def test_what_makes_the_suite_impossible_ends_it_with_the_rest_recorded(out: Path) -> None:
    runner = Straw()
    runner.hook = failing("finetune 1", error=OutputError("disk full"))
    with pytest.raises(OutputError, match="disk full"):
        several(runner, out, StrawWorkers(runner))
    assert 0 < len(recorded(out)) < len(ALL)


def test_curves_and_facts_of_the_methods_are_written_for_the_report(out: Path) -> None:
    go(Straw(), out)
    assert read_curves(out) is not None
    facts = read_suite(out)["methods"]["finetune"]
    assert facts["family"] == "fine-tuning" and facts["access"] == "retain"
    assert set(facts) == {"name", "access", "family", "year", "source", "fake"}


@pytest.mark.parametrize(
    "name",
    [
        "report.tex",
        "figures/mine.pdf",
        "notes.txt",
        ".bashrc",
        ".notes.tmp",
        ".lock-of-mine",
        "progress.md",
        "runs/events.out.tfevents",
        "runs/experiment/model.pt",
        "suite.json",
    ],
)
def test_a_folder_with_files_of_somebody_elses_is_refused_and_left_alone(
    name: str, out: Path
) -> None:
    theirs = out / name
    theirs.parent.mkdir(parents=True)
    text = '{"tests": ["mine"]}'
    theirs.write_text(text)
    with pytest.raises(OutputError, match="unlearn-bench did not write"):
        go(Straw(), out)
    left = [path for path in out.rglob("*") if path.is_file()]
    assert left == [theirs] and theirs.read_text() == text


@pytest.mark.parametrize("name", ["runs", "figures", "plugins"])
def test_nothing_is_written_through_a_link_in_the_folder(
    name: str, out: Path, tmp_path: Path
) -> None:
    go(Straw(), out)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if (out / name).exists():
        (out / name).rename(out / f"{name}-before")
    (out / name).symlink_to(elsewhere)
    with pytest.raises(OutputError, match="symbolic link"):
        go(Straw(), out)
    assert not list(elsewhere.iterdir())


def test_what_a_run_ended_early_left_bars_the_folder_to_nobody(out: Path) -> None:
    (out / "runs").mkdir(parents=True)
    (out / ".lock").touch()
    temporary_beside(out / "suite.json").touch()
    assert len(go(Straw(), out)) == len(ALL)


def test_figures_of_a_paper_come_and_go_without_another_folder(out: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.yaml"
    figures.write_text(
        "one: {source: A paper, dataset: digits, model: test_resnet, scenario: class:8, metrics: "
        "{UA: {definition: forgetting, ours: forget_accuracy}}, values: {finetune: {UA: 1.0}}}\n"
    )
    go(Straw(), out)
    runner = Straw()
    go(runner, out, plan(published=f"{figures}#one"))
    assert runner.ran == [] and recorded(out) == ALL
    stored = json.loads((out / "suite.json").read_text())
    assert stored["published"]["values"] == {"finetune": {"UA": 1.0}}
    assert stored["suite"]["published"] == "published.yaml#one"
    # The suite beside the results names the copy that lies there.
    assert read_published(f"{out / 'published.yaml'}#one").values == {"finetune": {"UA": 1.0}}
    go(Straw(), out)
    assert json.loads((out / "suite.json").read_text())["published"] is None


def test_a_copied_folder_has_its_briefs_after_the_next_command(out: Path, tmp_path: Path) -> None:
    keys = {result.key for result in go(Straw(), out)}
    assert read_briefs(out).keys() == keys
    copy = tmp_path / "copy"
    shutil.copytree(out, copy, copy_function=shutil.copyfile)
    assert read_briefs(copy) == {}
    go(Straw(), copy)
    assert read_briefs(copy).keys() == keys
