"""A lock keeps others out while its holder lives, and not a moment longer."""

import errno
import os
from pathlib import Path

import pytest

from unlearn_bench.core import locks


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = locks.take(path)
    assert held is not None and held.sure
    assert locks.take(path) is None and locks.is_held(path) is True
    held.release()
    held.release()
    assert locks.is_held(path) is False
    with locks.take(path) as again:  # type: ignore[union-attr]
        assert again.sure


def test_looking_at_a_lock_that_is_not_there_makes_none(tmp_path: Path) -> None:
    assert locks.is_held(tmp_path / "lock") is False
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_was_removed_under_its_holder_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    flock, removed = locks.fcntl.flock, []

    def remove_first(handle: int, how: int) -> None:
        flock(handle, how)
        if not removed:
            removed.append(path.unlink())

    monkeypatch.setattr(locks.fcntl, "flock", remove_first)
    held = locks.take(path)
    assert held is not None and path.exists() and locks.take(path) is None


def test_a_file_system_without_locks_grants_them_to_all_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", none)
    first, second = locks.take(tmp_path / "lock"), locks.take(tmp_path / "lock")
    assert first is not None and second is not None and not first.sure and not second.sure
    assert locks.is_held(tmp_path / "lock") is None


def test_a_lock_is_not_made_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        locks.take(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_no_regular_file_is_held_by_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for a writer
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with locks.take(tmp_path / "elsewhere"):  # type: ignore[union-attr]
        for name in ("pipe", "folder", "link"):
            assert locks.is_held(tmp_path / name) is False
