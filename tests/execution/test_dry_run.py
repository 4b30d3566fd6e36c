"""Before a suite runs: what it would do, what is there already, how long it takes, what space."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unlearn_bench.core.keys import content_key
from unlearn_bench.execution import dry_run
from unlearn_bench.execution.dry_run import Forecast, forecast
from unlearn_bench.execution.run import Runner
from unlearn_bench.plugins import registry
from unlearn_bench.store import layout
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import expand, load_suite
from unlearn_bench.suite.seeds import Seeds
from unlearn_bench.suite.spec import MethodSpec

ALWAYS = sum(entry.kind != "method" for entry in registry.methods().values())


def files(*folders: Path) -> dict[str, tuple[int, int]]:
    """Everything below, with what any write would change."""
    found = [path for folder in folders for path in (folder, *folder.rglob("*")) if path.exists()]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}


def look(suite: Path, home: Path, out: Path, **changes: Any) -> Forecast:
    asked = load_suite(str(suite)).model_copy(update=changes)
    runner = Runner(Store(home), torch.device("cpu"))
    return forecast(expand(asked, device="cpu"), runner, home, out)


def test_nothing_is_written_where_nothing_was(
    cli: Any, tiny: Path, home: Path, tmp_path: Path
) -> None:
    before = files(tmp_path)
    ended = cli("run", tiny, "--dry-run", "--seeds", 2, cwd=tmp_path)
    assert ended.code == 0 and ended.err == "", ended.err
    assert f"{2 * (ALWAYS + 1)} runs, 0 done" in ended.out
    assert "0 of 2 originals in the store" in ended.out and "finetune" in ended.out
    assert "estimated time: unknown (no earlier runs" in ended.out
    assert "disk: at most" in ended.out and "NOT ENOUGH" not in ended.out
    assert files(tmp_path) == before and not home.exists()


def test_of_a_finished_suite_nothing_is_left_and_nothing_is_touched(
    cli: Any, finished: Any
) -> None:
    before = files(finished.out, finished.home)
    ended = cli(
        "run",
        finished.suite,
        "--methods",
        "finetune,scale_weights",
        "--set",
        "finetune.epochs=1",
        "--plugin",
        finished.plugin,
        "--out",
        finished.out,
        "--dry-run",
        env={"UNLEARN_BENCH_HOME": str(finished.home)},
    )
    assert ended.code == 0 and f"{ALWAYS + 2} runs, {ALWAYS + 2} done, 0 left" in ended.out
    assert "estimated time: none, everything is done" in ended.out and "at most 0 B" in ended.out
    assert files(finished.out, finished.home) == before


def test_times_come_from_what_the_store_has_seen(finished: Any, tmp_path: Path) -> None:
    found = look(finished.suite, finished.home, tmp_path / "new", seeds=Seeds(originals=2))
    [group] = found.groups
    assert group.originals == {0: True, 1: False}
    assert group.planned["finetune"] == 2 and group.done["finetune"] == 0
    assert group.stored["finetune"] == 1 and found.unknown == {}
    assert 0 < found.seconds < 600 and "models in the store" in found.basis


def test_models_of_a_later_version_in_the_store_are_left_out(finished: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished.home, home)
    original = next(folder for folder in layout.folders(home) if folder.parent.name == "original")
    stored = layout.read_spec(original)
    stored["identity"]["model"]["invented_later"] = {"shards": 3}
    later = original.with_name(content_key(stored["identity"]))
    shutil.copytree(original, later)
    (later / layout.SPEC).write_text(json.dumps(stored | {"check": content_key(stored)}))
    assert layout.read_spec(later)["identity"] == stored["identity"]
    known = look(finished.suite, finished.home, tmp_path / "new", seeds=Seeds(originals=2))
    found = look(finished.suite, home, tmp_path / "new", seeds=Seeds(originals=2))
    assert found.seconds == known.seconds and found.unknown == known.unknown


def test_more_epochs_of_training_are_known_to_take_longer(finished: Any, tmp_path: Path) -> None:
    suite = load_suite(str(finished.suite))

    def asked(epochs: int) -> Forecast:
        recipe = suite.recipe.model_copy(update={"epochs": epochs})
        return look(finished.suite, finished.home, tmp_path / "new", recipe=recipe)

    few, many = asked(10), asked(1000)
    assert many.seconds > 20 * few.seconds > 0
    assert "retraining assumed to take as long as the original's training" in many.basis
    assert "some estimated from another training recipe" in many.basis


def test_what_is_not_known_is_named_and_not_guessed(finished: Any, tmp_path: Path) -> None:
    pbu = (MethodSpec(name="pbu"),)
    found = look(finished.suite, finished.home, tmp_path / "new", methods=pbu)
    assert found.unknown == {"pbu": 1}
    other = look(finished.suite, finished.home, tmp_path / "new", validation=0.2)
    assert other.unknown == {}  # another split, but the same model and data
    elsewhere = look(finished.suite, tmp_path / "no", tmp_path / "new")
    assert elsewhere.seconds == 0 and elsewhere.unknown[dry_run.ORIGINAL] == 1
    assert elsewhere.unknown["finetune"] == 1


def test_the_disk_that_is_named_is_enough_and_not_much_more(finished: Any, tmp_path: Path) -> None:
    asked = look(finished.suite, tmp_path / "empty", tmp_path / "new").disk
    kinds = {"models": ("original", "unlearned"), "logits and features": ("logits", "probes")}
    for what, parts in kinds.items():
        folders = [finished.home / "artifacts" / kind for kind in parts]
        tensors = [p.stat().st_size for f in folders for p in f.rglob("*.safetensors")]
        # The finished suite has one plug-in more than this one.
        assert 0.5 * sum(tensors) < asked[what] < 3 * sum(tensors)
    runs = sum(path.stat().st_size for path in finished.out.rglob("runs/*.json"))
    assert runs < asked["results"]


def test_too_small_a_disk_is_told(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(dry_run, "shutil", small)
    home = tmp_path / "empty"
    assert look(finished.suite, home, tmp_path / "new").short == (str(home), str(tmp_path / "new"))


def test_a_failed_or_damaged_run_is_left_to_do(finished: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    for path in (finished.out / "runs").glob("*.json"):
        text = path.read_text()
        (out / "runs" / path.name).write_text("{" if '"method": "original"' in text else text)
    found = look(finished.suite, finished.home, out)
    assert found.groups[0].done["original"] == 0 and found.groups[0].done["retrain"] == 1
    assert "finished runs in the results folder" in found.basis


def test_what_finished_runs_needed_is_made_again_where_the_store_lost_it(
    finished: Any, tmp_path: Path
) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    shutil.copytree(finished.out / "runs", out / "runs")
    runs = {path: json.loads(path.read_text()) for path in (out / "runs").iterdir()}
    [left] = [path for path, run in runs.items() if run["method"] == "finetune"]
    [retrain] = [run for run in runs.values() if run["method"] == "retrain"]
    spent = {record["metric"]: record["value"] for record in retrain["records"]}
    all_done = look(finished.suite, empty, out)
    assert all_done.seconds == sum(all_done.disk.values()) == 0
    left.unlink()
    found, stored = (look(finished.suite, home, out) for home in (empty, finished.home))
    assert found.unknown == {"finetune": 1} and stored.unknown == {}
    assert found.seconds > spent["wall_seconds"] + 0.5 * spent["wall_seconds_original"]
    assert stored.seconds < found.seconds
    new = look(finished.suite, empty, tmp_path / "new")
    assert found.disk["models"] == new.disk["models"] / (ALWAYS + 2) * 3, "O, G and U"


def test_the_log_of_a_training_counts_once(finished: Any, tmp_path: Path) -> None:
    amnesiac = tuple(
        MethodSpec(name="amnesiac", label=label, params={"lr": lr})
        for label, lr in (("a", 0.1), ("b", 0.2))
    )
    none, one, two = (
        look(finished.suite, tmp_path / "empty", tmp_path / "new", methods=amnesiac[:count]).disk
        for count in range(3)
    )
    assert one["models"] - none["models"] == 3 * (two["models"] - one["models"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--methods finetun", "did you mean 'finetune'"),
        ("--forget class:77", "77"),
        ("--dataset mnist --download", "--dry-run downloads nothing"),
        ("--original none.safetensors", "--original: no file"),
    ],
)
def test_what_would_stop_the_suite_stops_the_look_ahead(
    flags: str, message: str, cli: Any, tiny: Path, tmp_path: Path
) -> None:
    before = files(tmp_path)
    ended = cli("run", tiny, "--dry-run", *flags.split(), cwd=tmp_path)
    assert ended.code == 2 and message in ended.error
    assert files(tmp_path) == before


def test_the_folder_of_another_suite_is_refused(cli: Any, finished: Any) -> None:
    ended = cli("run", finished.suite, "--dry-run", "--seeds", 5, "--out", finished.out)
    assert ended.code == 2 and "holds the results of another suite" in ended.error
