"""Files are replaced whole or not at all."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.files import readable_os_errors, write_atomically, write_if_changed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_text_and_bytes_are_written_and_the_folder_is_made(folder: Path) -> None:
    write_atomically(folder / "a" / "b" / "text", "grün\n")
    write_atomically(folder / "bytes", b"\x00\xff")
    assert (folder / "a" / "b" / "text").read_bytes() == "grün\n".encode()
    assert (folder / "bytes").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_is_replaced_and_readable_by_whom_the_umask_lets(
    umask: int, mode: int, folder: Path
) -> None:
    path = folder / "file"
    path.write_text("a longer old content")
    before = os.umask(umask)
    try:
        write_atomically(path, "new")
    finally:
        os.umask(before)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == mode
    assert names(folder) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_content_and_no_temporary_file(
    call: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "file"
    path.write_text("old")

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    with pytest.raises(OutputError) as caught:
        write_atomically(path, "new")
    assert "No space left on device" in str(caught.value) and str(path) in str(caught.value)
    assert "free space" in str(caught.value)
    assert path.read_text() == "old"
    assert names(folder) == ["file"]


def test_what_is_not_there_is_no_matter_of_space(folder: Path) -> None:
    path = folder / "none"
    with pytest.raises(OutputError, match="No such file or directory; check the path") as caught:
        with readable_os_errors("read", path):
            path.read_bytes()
    assert "free space" not in str(caught.value)


def test_an_interrupted_write_leaves_the_old_content_and_no_temporary_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "file"
    path.write_text("old")

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(folder) == ["file"]


def test_a_file_in_the_way_of_the_folder_is_a_users_error(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write .*file/below"):
        write_atomically(folder / "file" / "below", "new")


def test_only_os_errors_are_translated() -> None:
    with pytest.raises(ZeroDivisionError), readable_os_errors("do", Path("x")):
        _ = 1 / 0
    with pytest.raises(OutputError, match="do x: strange"), readable_os_errors("do", Path("x")):
        raise OSError("strange")


def test_what_is_no_file_is_replaced_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "theirs").write_text("same")
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    for name in ("pipe", "link"):
        write_if_changed(tmp_path / name, "same")
        assert not (tmp_path / name).is_symlink() and (tmp_path / name).read_text() == "same"
