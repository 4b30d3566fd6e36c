"""Artifacts are there in full or not at all, built once, and never believed when damaged."""

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unlearn_bench.core import locks
from unlearn_bench.core.errors import OutputError
from unlearn_bench.store import cache, layout
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Built, Store

IDENTITY = {"seed": 1, "what": "weights"}
# Forked: the functions that build stand in this file, which cannot be imported by name.
FORK = multiprocessing.get_context("fork")


def built() -> Built:
    return {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}, {"seconds": 1.5}


def never() -> Built:
    raise AssertionError("built again")


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, notices: list[str]) -> Store:
    return Store(tmp_path / "store", notices.append)


def only(folder: Path) -> Path:
    [found] = folder.iterdir()
    return found


def artifact_folder(store: Store) -> Path:
    return only(store.home / "artifacts" / "kind")


def equal(a: dict[str, Tensor], b: Any) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_what_was_built_is_read_back_and_not_built_again(store: Store) -> None:
    first = store.get_or_build("kind", IDENTITY, built)
    again = store.get_or_build("kind", IDENTITY, never)
    assert (first.reused, again.reused) == (False, True)
    assert equal(first.tensors, built()[0]) and equal(again.tensors, built()[0])
    assert again.tensors["n"].dtype == torch.int64
    assert again.notes == first.notes == {"seconds": 1.5}
    assert (again.key, again.sha256) == (first.key, first.sha256)


def test_notes_come_back_in_the_order_they_were_given_in(store: Store) -> None:
    def logged() -> Built:
        return built()[0], {"log": [{"loss": 2.0, "distance": 1.0}]}

    store.get_or_build("kind", IDENTITY, logged)
    assert list(store.get_or_build("kind", IDENTITY, never).notes["log"][0]) == ["loss", "distance"]


def test_another_identity_or_kind_is_another_artifact(store: Store) -> None:
    keys = {
        store.get_or_build(kind, identity, built).key
        for kind in ("kind", "other")
        for identity in (IDENTITY, IDENTITY | {"seed": 2})
    }
    assert len(keys) == 4


def test_the_specification_lies_beside_the_artifact(store: Store) -> None:
    store.get_or_build("kind", IDENTITY, built)
    stored = json.loads((artifact_folder(store) / "spec.json").read_text())
    assert stored["identity"].items() >= {"seed": 1, "what": "weights", "kind": "kind"}.items()


def test_weights_that_share_storage_are_kept(store: Store) -> None:
    shared = torch.arange(4.0)
    tied = {"a": shared, "b": shared, "c": shared.view(2, 2).T, "d": shared[1:3]}
    store.get_or_build("kind", IDENTITY, lambda: (tied, {}))
    assert equal(store.get_or_build("kind", IDENTITY, never).tensors, tied)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def change_a_note(path: Path) -> None:
    path.write_text(path.read_text().replace("1.5", "2.5"))


DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("tensors.safetensors", flip_a_bit),
    ("tensors.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-8])),
    ("tensors.safetensors", lambda path: path.write_bytes(b"")),
    ("tensors.safetensors", lambda path: path.unlink()),
    ("spec.json", flip_a_bit),
    ("spec.json", change_a_note),
    ("spec.json", lambda path: path.write_text("[]")),
    ("spec.json", lambda path: path.write_text("{}")),
    ("spec.json", lambda path: path.write_bytes(b"\xff\xff")),
    ("spec.json", lambda path: path.unlink()),
]


@pytest.mark.parametrize(("file", "damage"), DAMAGE)
def test_a_damaged_artifact_is_put_aside_and_built_again(
    file: str, damage: Callable[[Path], object], store: Store, notices: list[str]
) -> None:
    key = store.get_or_build("kind", IDENTITY, built).key
    damage(artifact_folder(store) / file)
    mended = store.get_or_build("kind", IDENTITY, built)
    assert not mended.reused and equal(mended.tensors, built()[0])
    assert len(notices) == 1 and f"damaged artifact {key}" in notices[0]
    aside = only(store.home / "damaged")
    assert str(aside) in notices[0] and aside.name.startswith(f"kind-{key}-")
    assert store.get_or_build("kind", IDENTITY, never).reused


def test_a_builder_that_fails_leaves_nothing_and_does_not_block_the_next(store: Store) -> None:
    def fail() -> Built:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.get_or_build("kind", IDENTITY, fail)
    assert not (store.home / "artifacts").exists()
    assert not store.get_or_build("kind", IDENTITY, built).reused


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_full_disk_leaves_nothing_and_is_a_users_error(
    number: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=os.strerror(number)):
            store.get_or_build("kind", IDENTITY, built)
    assert list((store.home / "artifacts" / "kind").iterdir()) == []
    assert not store.get_or_build("kind", IDENTITY, built).reused


def test_a_file_in_the_place_of_the_store_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=str(tmp_path / "file")):
        Store(tmp_path / "file").get_or_build("kind", IDENTITY, built)


def test_nothing_that_json_cannot_say_is_kept(store: Store) -> None:
    with pytest.raises(ValueError):
        store.get_or_build("kind", IDENTITY, lambda: ({}, {"loss": float("nan")}))
    assert list((store.home / "artifacts" / "kind").iterdir()) == []


def build_in_a_process(home: Path, log: Path, start: float) -> None:
    def slow() -> Built:
        with log.open("a") as stream:
            stream.write("built\n")
        time.sleep(0.3)
        return built()

    time.sleep(max(0.0, start - time.time()))
    artifact = Store(home).get_or_build("kind", IDENTITY, slow)
    assert equal(artifact.tensors, built()[0])


def test_processes_that_want_the_same_artifact_build_it_once(tmp_path: Path) -> None:
    home, log = tmp_path / "store", tmp_path / "log"
    arguments = (home, log, time.time() + 0.5)
    workers = [FORK.Process(target=build_in_a_process, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert log.read_text() == "built\n"


def test_processes_that_find_the_same_damage_mend_it_once(tmp_path: Path) -> None:
    home, log = tmp_path / "store", tmp_path / "log"
    store = Store(home)
    store.get_or_build("kind", IDENTITY, built)
    flip_a_bit(artifact_folder(store) / "tensors.safetensors")
    arguments = (home, log, time.time() + 0.5)
    workers = [FORK.Process(target=build_in_a_process, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert log.read_text() == "built\n"
    only(home / "damaged")


def test_who_does_not_hold_the_lock_puts_nothing_aside(store: Store) -> None:
    store.get_or_build("kind", IDENTITY, built)
    folder = artifact_folder(store)
    flip_a_bit(folder / "tensors.safetensors")
    assert store.find("kind", IDENTITY) is None
    assert folder.exists() and not (store.home / "damaged").exists()


def in_a_process(work: Callable[..., None], *args: Any) -> int | None:
    """Run ``work`` in a fork and return its exit code."""
    process = FORK.Process(target=work, args=args)
    process.start()
    process.join()
    return process.exitcode


def check_after_a_crash(store: Store, notices: list[str]) -> None:
    """Whatever a killed writer left, the next one gets the artifact and tidies up."""
    artifact = store.get_or_build("kind", IDENTITY, built)
    assert equal(artifact.tensors, built()[0]) and notices == []
    assert artifact_folder(store).name == artifact.key
    assert not (store.home / "damaged").exists()
    assert not list(store.home.glob("artifacts/kind/*/.*"))
    assert equal(store.get_or_build("kind", IDENTITY, never).tensors, built()[0])


# Every call that could change a file or make it visible.
WRITING = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.chmod"}


def die_at_a_call(home: Path, number: int) -> None:
    left = number

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event in WRITING and str(home) in str(args[0]):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(hook)
    Store(home).get_or_build("kind", IDENTITY, built)


def test_a_crash_before_any_call_leaves_all_or_nothing(
    store: Store, tmp_path: Path, notices: list[str]
) -> None:
    number, code = 0, -signal.SIGKILL
    while code:
        shutil.rmtree(store.home, ignore_errors=True)
        code = in_a_process(die_at_a_call, store.home, number)
        assert code in (0, -signal.SIGKILL)
        check_after_a_crash(store, notices)
        number += 1
    assert number > 12


def die_at_a_byte(home: Path, size: int) -> None:
    # Python ignores this signal; by default it ends who writes past the limit, at that byte.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    Store(home).get_or_build("kind", IDENTITY, built)


def test_a_crash_at_any_byte_leaves_all_or_nothing(store: Store, notices: list[str]) -> None:
    store.get_or_build("kind", IDENTITY, built)
    sizes = [path.stat().st_size for path in artifact_folder(store).iterdir()]
    for size in [0, 1, *range(8, max(sizes) - 30, 37), min(sizes) - 1]:
        shutil.rmtree(store.home)
        assert in_a_process(die_at_a_byte, store.home, size) == -signal.SIGXFSZ
        check_after_a_crash(store, notices)


def hold_the_lock(home: Path, key: str) -> None:
    with layout.lock(home, key, wait=True):  # type: ignore[union-attr]
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_lock_of_a_dead_process_bars_nobody(store: Store, notices: list[str]) -> None:
    _, key = layout.key_of("kind", IDENTITY)
    assert in_a_process(hold_the_lock, store.home, key) == -signal.SIGKILL
    assert (store.home / "locks" / f"{key}.lock").exists()
    store.get_or_build("kind", IDENTITY, built)
    assert notices == []


def build_without_locks(home: Path, barrier: Any, told: Any) -> None:
    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def slow() -> Built:
        barrier.wait()  # all of them build at the same time
        return built()

    locks.fcntl.flock = no_locks
    store = Store(home, told.put)
    for number in range(5):
        artifact = store.get_or_build("kind", {"number": number}, slow)
        assert equal(artifact.tensors, built()[0])


def test_without_locks_work_is_done_twice_but_nothing_damaged(store: Store) -> None:
    barrier, told = FORK.Barrier(4), FORK.Queue()
    workers = [
        FORK.Process(target=build_without_locks, args=(store.home, barrier, told)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    notices = [told.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0] and told.empty()
    assert all("has no locks" in notice for notice in notices)
    assert len(list((store.home / "artifacts" / "kind").iterdir())) == 5
    assert not (store.home / "damaged").exists()
    for number in range(5):
        assert equal(store.get_or_build("kind", {"number": number}, never).tensors, built()[0])


def test_another_artifact_under_this_name_is_damage(store: Store, notices: list[str]) -> None:
    wrong = store.get_or_build("kind", {"seed": 2}, lambda: ({"w": torch.zeros(1)}, {}))
    _, key = layout.key_of("kind", IDENTITY)
    shutil.copytree(store.home / "artifacts/kind" / wrong.key, store.home / "artifacts/kind" / key)
    assert equal(store.get_or_build("kind", IDENTITY, built).tensors, built()[0])
    assert "is of another artifact" in notices[0]


def test_what_killed_processes_were_writing_of_the_layout_is_removed(store: Store) -> None:
    store.home.mkdir(parents=True, exist_ok=True)
    left = store.home / f".store.json.{'0' * 32}.tmp"
    hers = store.home / ".store.json.old"
    for path in (left, hers):
        path.write_text("{")
    store.get_or_build("kind", IDENTITY, built)
    assert not left.exists() and hers.exists()
    assert json.loads((store.home / "store.json").read_text()) == {"layout": layout.LAYOUT}


def test_the_store_of_another_version_is_refused(store: Store) -> None:
    store.get_or_build("kind", IDENTITY, built)
    (store.home / "store.json").write_text('{"layout": 9}')
    with pytest.raises(OutputError, match="has layout 9, this version knows 1: upgrade"):
        Store(store.home).get_or_build("kind", IDENTITY, never)


@pytest.mark.parametrize(
    "text",
    ["{", "[" * 100_000, "[]", '{"layout": "1"}', '{"layout": NaN}', '{"layout": true}', "\0"],
)
def test_a_damaged_number_of_the_layout_is_put_aside_and_written_again(
    text: str, store: Store
) -> None:
    store.get_or_build("kind", IDENTITY, built)
    (store.home / "store.json").write_text(text)
    assert Store(store.home).get_or_build("kind", IDENTITY, never).reused
    Store(store.home).get_or_build("kind", {"another": 1}, built)
    assert json.loads((store.home / "store.json").read_text()) == {"layout": 1}
    assert (store.home / "damaged/store.json-1").read_text() == text
    assert [left.why for left in cache.collect(store.home)[0]] == ["damaged"]
    assert not (store.home / "damaged/store.json-1").exists()


def test_a_number_of_the_layout_is_never_read_through_a_link(store: Store, tmp_path: Path) -> None:
    store.get_or_build("kind", IDENTITY, built)
    (tmp_path / "theirs").write_text('{"layout": 9}')
    (store.home / "store.json").unlink()
    (store.home / "store.json").symlink_to(tmp_path / "theirs")
    Store(store.home).get_or_build("kind", {"another": 1}, built)
    assert (tmp_path / "theirs").read_text() == '{"layout": 9}'
    assert not (store.home / "store.json").is_symlink()


@pytest.mark.parametrize("name", [layout.SPEC, layout.TENSORS])
@pytest.mark.parametrize("how", ["deep", "link", "pipe", "folder", "null"])
def test_a_damaged_artifact_stops_nothing_and_is_built_again(
    name: str, how: str, store: Store
) -> None:
    made = store.get_or_build("kind", IDENTITY, built)
    folder = layout.folder_of(store.home, "kind", made.key)
    file = folder / name
    file.unlink()
    if how == "deep":
        file.write_text("[" * 100_000)
    elif how == "link":
        file.symlink_to("/dev/zero")
    elif how == "pipe":
        os.mkfifo(file)
    elif how == "folder":
        file.mkdir()
    else:
        file.write_text("null")
    assert [entry.folder for entry in cache.entries(store.home)] == [folder]
    again = store.get_or_build("kind", IDENTITY, built)
    assert not again.reused and equal(again.tensors, built()[0])
    assert all(damage is None for _, damage in cache.verify(store.home))
    assert len([*(store.home / "damaged").iterdir()]) == 1


def test_a_store_from_before_layouts_had_numbers_is_read(store: Store) -> None:
    store.get_or_build("kind", IDENTITY, built)
    (store.home / "store.json").unlink()
    assert Store(store.home).get_or_build("kind", IDENTITY, never).reused


def test_a_disk_that_cannot_be_read_is_a_users_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.get_or_build("kind", IDENTITY, built)

    def broken(path: Path, *limit: int, **policy: bool) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(layout, "read_bytes", broken)
    with pytest.raises(OutputError, match="cannot read .*Input/output error"):
        store.get_or_build("kind", IDENTITY, never)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system of one's own needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_leaves_nothing(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    with pytest.raises(OutputError, match="No space left on device; free space"):
        store.get_or_build("kind", IDENTITY, lambda: ({"w": torch.zeros(100_000)}, {}))
    assert not list(small_disk.rglob("artifacts/kind/*"))
    assert not store.get_or_build("kind", IDENTITY, built).reused


def test_a_store_that_is_really_read_only_is_read_but_not_written(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    store.get_or_build("kind", IDENTITY, built)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert store.get_or_build("kind", IDENTITY, never).reused
    with pytest.raises(OutputError, match="Read-only file system"):
        store.get_or_build("kind", {"seed": 2}, built)


@pytest.mark.parametrize("jump", [-10 * 365 * 86400, 10 * 365 * 86400])
def test_a_clock_that_jumps_changes_nothing(
    jump: float, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.get_or_build("kind", IDENTITY, built)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    for path in artifact_folder(store).iterdir():
        os.utime(path, (now + jump, now + jump))
    assert store.get_or_build("kind", IDENTITY, never).reused
    flip_a_bit(artifact_folder(store) / "tensors.safetensors")
    assert not store.get_or_build("kind", IDENTITY, built).reused


def test_one_who_waits_for_another_process_is_told(tmp_path: Path, notices: list[str]) -> None:
    home, log = tmp_path / "store", tmp_path / "log"
    other = FORK.Process(target=build_in_a_process, args=(home, log, 0.0))
    other.start()
    while not log.exists():
        time.sleep(0.01)
    artifact = Store(home, notices.append).get_or_build("kind", IDENTITY, never)
    other.join()
    assert artifact.reused
    assert notices == ["another process is building the same artifact: waiting for it"]


def test_the_home_is_what_the_environment_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_home() == home
    monkeypatch.delenv("UNLEARN_BENCH_HOME")
    assert default_home().name == "unlearn-bench"
    monkeypatch.setenv("UNLEARN_BENCH_HOME", "~/somewhere")
    assert default_home() == Path.home() / "somewhere"
