"""Real small and read-only file systems: one line, nothing lost, and the same command goes on."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from unlearn_bench.execution.status import read_status

pytestmark = pytest.mark.heavy

COSTS = "seconds|bytes|time_ratio|break_even"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_costs(out: Path) -> pd.DataFrame:
    records = pd.read_csv(out / "records.csv", keep_default_na=False)
    kept = records[~records["metric"].str.contains(COSTS)]
    return kept[kept["method"] != "scale_weights"].reset_index(drop=True)


def test_a_full_disk_ends_a_suite_in_one_line_and_with_space_it_goes_on(
    cli: Any, finished: Any, trained: Path, disk: Path
) -> None:
    argv = ["run", finished.suite, "--set", "finetune.epochs=1", "--workers", 1]
    for _ in range(2):
        ended = cli(*argv, "--out", disk / "out")
        assert ended.code == 2 and "No space left on device" in ended.error
    kept = content(disk / "out" / "runs")
    assert not list(disk.rglob("*.tmp"))
    remount(disk, "size=16m")
    ended = cli(*argv, "--out", disk / "out")
    assert ended.code == 0 and ended.out.count("was there already") == len(kept)
    assert content(disk / "out" / "runs").items() >= kept.items()
    assert read_status(disk / "out").state == "finished"
    assert without_costs(disk / "out").equals(without_costs(finished.out))


def test_a_full_disk_under_the_store_damages_nothing(
    cli: Any, finished: Any, disk: Path, tmp_path: Path
) -> None:
    home, argv = disk / "home", ["run", finished.suite, "--set", "finetune.epochs=1"]
    environment = {"UNLEARN_BENCH_HOME": str(home)}
    ended = cli(*argv, "--out", tmp_path / "out", env=environment)
    assert ended.code == 2 and "No space left on device" in ended.error
    remount(disk, "size=64m")
    ended = cli(*argv, "--out", tmp_path / "out", env=environment)
    assert ended.code == 0 and "damaged" not in ended.out
    assert without_costs(tmp_path / "out").equals(without_costs(finished.out))


def test_a_results_folder_that_cannot_be_written_is_left_as_it_is(
    cli: Any, finished: Any, trained: Path, disk: Path
) -> None:
    remount(disk, "size=16m")
    shutil.copytree(finished.out, disk / "out")
    (disk / "out" / "runs").joinpath(next((disk / "out" / "runs").iterdir()).name).unlink()
    before = content(disk)
    remount(disk, "ro")
    ended = cli("run", finished.suite, "--set", "finetune.epochs=1", "--out", disk / "out")
    assert ended.code == 2 and "Read-only file system" in ended.error
    assert content(disk) == before
    remount(disk, "rw")
