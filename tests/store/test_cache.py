"""The store can be looked into, kept small and checked, while processes are at work in it."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearn_bench.core import locks
from unlearn_bench.core.errors import OutputError
from unlearn_bench.store import cache, layout
from unlearn_bench.store.layout import SCHEMA
from unlearn_bench.store.store import Built, Store

FORK = multiprocessing.get_context("fork")
MODEL = {"model": {"name": "lenet", "stem": "auto", "pretrained": False, "args": {}}}
DAY = 86400.0


def built() -> Built:
    return {"w": torch.zeros(250)}, {}


@pytest.fixture
def store(home: Path) -> Store:
    """Three originals, last used three, two and one days ago."""
    store = Store(home)
    for seed in range(3):
        # Other weights each: what was seen of a model is known by its weights.
        weights = torch.full((250,), float(seed))
        store.get_or_build("original", identity(seed), lambda weights=weights: ({"w": weights}, {}))
    for seed in range(3):
        used(store, seed, days_ago=3 - seed)
    return store


def identity(seed: int) -> dict[str, Any]:
    return {"dataset": "digits", "seed": seed, **MODEL}


def folder(store: Store, seed: int) -> Path:
    _, key = layout.key_of("original", identity(seed))
    return layout.folder_of(store.home, "original", key)


def used(store: Store, seed: int, days_ago: float) -> None:
    moment = time.time() - days_ago * DAY
    os.utime(folder(store, seed) / "spec.json", (moment, moment))


def seeds(store: Store) -> list[int]:
    return [seed for seed in range(9) if folder(store, seed).exists()]


def files(home: Path) -> dict[str, tuple[int, bytes]]:
    found = [path for path in home.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def size(store: Store) -> int:
    return cache.entries(store.home)[0].size


def test_artifacts_are_listed_with_what_they_are_of(store: Store, cli: Any) -> None:
    of = [entry.what for entry in cache.entries(store.home)]
    assert of == [f"digits · lenet · seed {seed}" for seed in range(3)]
    out = cli("cache", "ls").out
    assert "digits · lenet · seed 1" in out and "3 d ago" in out and "3 artifacts" in out
    listed = json.loads(cli("cache", "ls", "--json").out)
    assert [entry["kind"] for entry in listed["artifacts"]] == ["original"] * 3
    assert listed["bytes"] == sum(e.size for e in cache.entries(store.home))
    assert listed["rubbish_bytes"] == 0


def test_what_was_seen_of_a_model_is_listed_as_of_that_model(store: Store) -> None:
    [weights] = {layout.read_spec(folder(store, 0))["sha256"]}
    store.get_or_build("logits", {"data": "x", "weights": weights, **MODEL}, built)
    store.get_or_build("logits", {"data": "x", "weights": "0" * 64, **MODEL}, built)
    of = {entry.what for entry in cache.entries(store.home) if entry.kind == "logits"}
    assert of == {"digits · lenet · seed 0", "weights 00000000, removed"}


def test_looking_changes_nothing(store: Store, cli: Any) -> None:
    before = files(store.home)
    for argv in (["ls"], ["ls", "--json"], ["gc", "--dry-run", "--max-size", "0"], ["verify"]):
        assert cli("cache", *argv).code == 0
    assert files(store.home) == before


def test_an_empty_store_is_no_error(home: Path, cli: Any) -> None:
    for command in ("ls", "gc", "verify"):
        ended = cli("cache", command)
        assert ended.code == 0 and ended.err == "", ended.err
    assert not home.exists()


def test_the_least_recently_used_goes_first(store: Store) -> None:
    cache.collect(store.home, max_size=2 * size(store) + 100)
    assert seeds(store) == [1, 2]
    store.get_or_build("original", identity(1), built)  # used just now
    cache.collect(store.home, max_size=size(store) + 100)
    assert seeds(store) == [1]
    assert store.get_or_build("original", identity(1), built).reused


def test_what_nobody_used_for_long_goes(store: Store, cli: Any) -> None:
    ended = cli("cache", "gc", "--older-than", "36h")
    assert ended.code == 0 and "removed 2" in ended.out and seeds(store) == [2]
    assert len(list((store.home / "locks").iterdir())) == 1


def test_without_limits_whole_artifacts_stay(store: Store) -> None:
    removed, kept = cache.collect(store.home)
    assert removed == [] and len(kept) == 3 and seeds(store) == [0, 1, 2]


def test_a_time_in_the_future_counts_as_now(store: Store) -> None:
    used(store, 0, days_ago=-4000)  # the clock was wrong, and was set back
    used(store, 1, days_ago=-1)
    listed = {entry.folder: entry for entry in cache.entries(store.home)}
    assert listed[folder(store, 0)].used == listed[folder(store, 1)].used <= time.time()
    cache.collect(store.home, older_than=0.5 * DAY)
    assert seeds(store) == [0, 1]


def test_what_a_living_process_has_locked_stays(store: Store) -> None:
    _, key = layout.key_of("original", identity(0))
    with layout.lock(store.home, key, wait=False):  # type: ignore[union-attr]
        for dry_run in (True, False):
            removed, kept = cache.collect(store.home, max_size=0, dry_run=dry_run)
            assert len(removed) == 2 and [entry.folder for entry in kept] == [folder(store, 0)]
    assert seeds(store) == [0] and (store.home / "locks" / f"{key}.lock").exists()


def die_while_writing(home: Path) -> None:
    layout.describe = lambda *args: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore
    Store(home).get_or_build("original", identity(7), built)


def test_what_a_killed_writer_left_goes_but_not_what_a_living_one_writes(store: Store) -> None:
    writer = FORK.Process(target=die_while_writing, args=(store.home,))
    writer.start()
    writer.join()
    [left] = store.home.glob("artifacts/original/.*")
    key = left.name.split(".")[1]
    with layout.lock(store.home, key, wait=False):  # type: ignore[union-attr]
        assert cache.collect(store.home)[0] == [] and left.exists()
    [removal] = cache.collect(store.home)[0]
    assert removal.why == "left by a killed process" and not left.exists()
    assert seeds(store) == [0, 1, 2]


def test_without_locks_nothing_unfinished_is_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = store.home / "artifacts" / "original" / f".{'a' * 32}.b"
    left.mkdir()
    monkeypatch.setattr(locks, "take", lambda path, wait: locks.Lock(None))
    assert cache.collect(store.home)[0] == [] and left.exists()


def test_an_older_schema_goes_and_a_newer_one_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SCHEMA", 0)
    store.get_or_build("original", identity(3), built)
    monkeypatch.setattr(layout, "SCHEMA", SCHEMA + 1)
    store.get_or_build("original", identity(4), built)
    [removal] = cache.collect(store.home)[0]
    assert removal.why == "of the older schema 0" and len(cache.entries(store.home)) == 4


def test_nothing_is_removed_through_a_link_and_nothing_foreign(
    store: Store, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    originals = store.home / "artifacts" / "original"
    (originals / ("b" * 32)).symlink_to(mine)
    (store.home / "artifacts" / "kind").symlink_to(mine)
    (originals / f".{'c' * 32}.d").symlink_to(mine)
    (store.home / "damaged" / "photos").mkdir(parents=True)
    (store.home / "damaged" / f"original-{'d' * 32}-1").symlink_to(mine)
    (store.home / "locks" / "poetry.lock").touch()
    (originals / "notes").mkdir()
    cache.collect(store.home, max_size=0)
    assert (mine / "thesis.tex").read_text() == "years" and (originals / "notes").exists()
    assert (store.home / "damaged" / "photos").is_dir()
    assert [path.name for path in (store.home / "locks").iterdir()] == ["poetry.lock"]


def test_nothing_is_removed_in_a_folder_that_is_linked_elsewhere(
    home: Path, tmp_path: Path
) -> None:
    theirs = {"damaged": f"original-{'a' * 32}-1", "locks": f"{'a' * 32}.lock"}
    home.mkdir()
    for name, inside in theirs.items():
        (tmp_path / name / inside).mkdir(parents=True)
        (home / name).symlink_to(tmp_path / name)
    assert cache.collect(home, max_size=0) == ([], [])
    assert all((tmp_path / name / inside).is_dir() for name, inside in theirs.items())


@pytest.mark.parametrize("name", ["locks", "damaged"])
def test_nothing_is_written_where_a_link_leads(store: Store, tmp_path: Path, name: str) -> None:
    folder = next((store.home / "artifacts" / "original").iterdir())
    next(folder.glob("*.safetensors")).write_bytes(b"damage")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    shutil.rmtree(store.home / name, ignore_errors=True)
    (store.home / name).symlink_to(theirs)
    found = [damage for _, damage in cache.verify(store.home) if damage]
    assert [damage.folder for damage in found] == [folder] and folder.exists()
    assert list(theirs.iterdir()) == []


def test_two_at_once_do_not_stumble_over_what_the_other_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (store.home / "damaged" / f"original-{'a' * 32}-{number}" / "in").mkdir(parents=True)
    listed = cache.rubbish(store.home)
    monkeypatch.setattr(cache, "rubbish", lambda home: listed)  # each sees what there is now
    assert [len(cache.collect(store.home)[0]) for _ in range(2)] == [3, 3]
    assert list((store.home / "damaged").iterdir()) == []


def test_damage_is_found_put_aside_and_told_with_code_1(store: Store, cli: Any) -> None:
    for seed, name in ((0, "tensors.safetensors"), (1, "spec.json")):
        path = folder(store, seed) / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    ended = cli("cache", "verify")
    lines = ended.out.splitlines()
    assert ended.code == 1 and ended.err == "" and len(lines) == 3
    told = "\n".join(lines)
    assert "tensors.safetensors differs" in told and "spec.json" in told
    assert lines[-1].startswith("1 whole, 2 damaged")
    assert seeds(store) == [2] and len(list((store.home / "damaged").iterdir())) == 2
    assert cli("cache", "verify").code == 0
    removed, _ = cache.collect(store.home)
    assert [removal.why for removal in removed] == ["damaged"] * 2
    assert list((store.home / "damaged").iterdir()) == []


def test_a_reference_made_by_other_code_is_put_aside(store: Store, home: Path) -> None:
    def put(method: str, claimed: str, **notes: str) -> None:
        made = {"w": torch.zeros(2)}, notes
        of = identity(0) | {"method": method, "code": claimed}
        store.get_or_build("unlearned", of, lambda: made)

    put("retrain", "genuine", code="genuine")
    put("original", "genuine")  # of before it was noted what code was called
    put("retrain", "of a plug-in", code="of a plug-in")
    put("logit_mask", "genuine", code="of a plug-in")
    put("mine", "of a plug-in", code="of a plug-in")
    codes = dict.fromkeys(("retrain", "original", "logit_mask"), "genuine")
    found = {damage.reason for _, damage in cache.verify(home, lambda: codes) if damage}
    assert found == {
        "retrain was made by code other than the built-in, from a plug-in or another version",
        "logit_mask was made by code other than its own",
    }
    assert not [damage for _, damage in cache.verify(home, lambda: codes) if damage]
    assert len(list((home / "damaged").iterdir())) == 2


def test_damage_that_is_being_mended_is_left_to_who_mends_it(store: Store) -> None:
    (folder(store, 0) / "tensors.safetensors").write_bytes(b"")
    _, key = layout.key_of("original", identity(0))
    with layout.lock(store.home, key, wait=False):  # type: ignore[union-attr]
        assert all(damage is None for _, damage in cache.verify(store.home))
    assert seeds(store) == [0, 1, 2]


def test_the_store_of_a_later_version_is_left_alone(store: Store, cli: Any) -> None:
    (store.home / "store.json").write_text('{"layout": 9}')
    for command in ("ls", "gc", "verify"):
        ended = cli("cache", command)
        assert ended.code == 2 and "upgrade unlearn-bench" in ended.error
    with pytest.raises(OutputError):
        cache.entries(store.home)


@pytest.mark.parametrize("flags", [["--max-size", "10"], ["--older-than", "3y"]])
def test_a_mistaken_limit_removes_nothing(flags: list[str], store: Store, cli: Any) -> None:
    ended = cli("cache", "gc", *flags)
    assert ended.code == 2 and "write a number and a unit" in ended.error
    assert seeds(store) == [0, 1, 2]


def build_until(ended: Any, home: Path) -> None:
    store = Store(home)
    while not ended.is_set():
        artifact = store.get_or_build("original", identity(0), built)
        assert torch.equal(artifact.tensors["w"], torch.zeros(250))


def test_removing_under_readers_hurts_none_of_them(store: Store) -> None:
    ended = FORK.Event()
    readers = [FORK.Process(target=build_until, args=(ended, store.home)) for _ in range(3)]
    for reader in readers:
        reader.start()
    removed = 0
    # However the machine shares its time out: until enough was removed, or a reader was hurt.
    while removed < 20 and all(reader.is_alive() for reader in readers):
        removed += len(cache.collect(store.home, max_size=0)[0])
    ended.set()
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0, 0, 0]
    assert not (store.home / "damaged").exists()
