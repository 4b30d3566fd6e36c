"""Audit bundles: whole ones are verified, and whatever is done to one is found."""

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from unlearn_bench.core.errors import OutputError
from unlearn_bench.report.bundle import MANIFEST, verify, write_bundle


@pytest.fixture(scope="module")
def bundle(finished, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("bundle") / "bundle.zip"
    write_bundle(finished.out, target)
    return target


@pytest.fixture
def unpacked(bundle, tmp_path) -> Path:
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    return folder


def sealed(stream: io.BytesIO) -> bytes:
    """Seal a zip as a forger would who knows how."""
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = b"0" * 64
    body = stream.getvalue()[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def relist(folder: Path) -> None:
    """Write the manifest again, as a forger does who covers up a change."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n"
        for p in files
    ]
    (folder / MANIFEST).write_text("".join(lines))


def problems(place: Path) -> str:
    return "\n".join(verify(place).problems)


def test_a_bundle_holds_the_report_the_runs_and_the_sources(bundle, finished):
    names = set(zipfile.ZipFile(bundle).namelist())
    runs = {f"runs/{path.name}" for path in (finished.out / "runs").glob("*.json")}
    assert names > runs and len(runs) > 5
    assert names > {
        MANIFEST,
        "suite.json",
        "suite.yaml",
        "records.csv",
        "records.parquet",
        "verdicts.csv",
        "report.html",
        "report.md",
        "report.tex",
        "plugins/scale_weights.py",
    }
    assert not any(name.endswith((".lock", ".safetensors", ".zip")) for name in names)


def test_a_bundle_is_verified_packed_and_unpacked(bundle, unpacked):
    for place in (bundle, unpacked):
        found = verify(place)
        assert found.problems == ()
        assert found.runs > 5 and found.files > 15 and len(found.manifest) == 64
    assert verify(bundle) == verify(unpacked)


def test_equal_folders_give_equal_bundles(finished, bundle, tmp_path):
    shutil.copytree(finished.out, tmp_path / "copy")
    write_bundle(tmp_path / "copy", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_the_manifest_is_what_sha256sum_reads(unpacked):
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is missing")
    subprocess.run(["sha256sum", "--strict", "--quiet", "-c", MANIFEST], cwd=unpacked, check=True)


def test_a_changed_byte_anywhere_in_the_zip_is_found(bundle, tmp_path):
    whole = bundle.read_bytes()
    rng = random.Random(5)
    positions = {0, 10, 12, len(whole) - 1, len(whole) - 64, len(whole) - 70}
    positions |= {rng.randrange(len(whole)) for _ in range(30)}
    for position in positions:
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.randrange(8)
        (tmp_path / "changed.zip").write_bytes(changed)
        assert verify(tmp_path / "changed.zip").problems, f"byte {position}"


def test_a_changed_byte_in_any_unpacked_file_is_found(unpacked):
    for path in [p for p in unpacked.rglob("*") if p.is_file()]:
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        path.write_bytes(changed)
        assert path.name in problems(unpacked) or path.name == MANIFEST, path
        assert problems(unpacked), path
        path.write_bytes(whole)
    assert not verify(unpacked).problems


@pytest.mark.parametrize("damage", [b"", b"PK", b"\x00" * 500])
def test_what_is_no_zip_is_told(damage, tmp_path):
    (tmp_path / "x.zip").write_bytes(damage)
    assert "not a readable zip file" in problems(tmp_path / "x.zip")


def test_a_truncated_and_a_lengthened_zip_are_found(bundle, tmp_path):
    whole = bundle.read_bytes()
    for data in (whole[:-1], whole[: len(whole) // 2], whole + b"x", b"x" + whole):
        (tmp_path / "x.zip").write_bytes(data)
        assert verify(tmp_path / "x.zip").problems


def test_missing_and_added_files_are_named(unpacked):
    (unpacked / "report.md").unlink()
    (unpacked / "figures" / "more.svg").write_text("<svg/>")
    assert "report.md: listed, but not there" in problems(unpacked)
    assert "figures/more.svg: not listed" in problems(unpacked)


def test_a_folder_without_a_manifest_is_no_bundle(finished):
    assert f"there is no {MANIFEST}" in problems(finished.out)


def test_improved_records_are_found_though_the_manifest_was_written_anew(unpacked):
    path = unpacked / "records.csv"
    lines = path.read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if ",test_retain_accuracy," in line)
    cells = lines[number].split(",")
    cells[7] = "0.999"
    lines[number] = ",".join(cells)
    path.write_text("".join(lines))
    relist(unpacked)
    assert f"records.csv:{number + 1}: value is '0.999', the runs give" in problems(unpacked)


def test_a_run_left_out_is_found_though_the_manifest_was_written_anew(unpacked):
    next((unpacked / "runs").glob("*.json")).unlink()
    relist(unpacked)
    assert "records.csv" in problems(unpacked)


@pytest.mark.parametrize(
    ("name", "column", "said"),
    [
        ("verdicts.csv", "verdict", "verdict is 'FORGED', the runs give 'no verdict'"),
        ("weights.csv", "unlearned", "unlearned is 'FORGED', the runs give"),
    ],
)
def test_a_forged_table_is_found_though_the_manifest_was_written_anew(name, column, said, unpacked):
    table = pd.read_csv(unpacked / name, dtype=str, keep_default_na=False)
    table.loc[1, column] = "FORGED"
    table.to_csv(unpacked / name, index=False)
    relist(unpacked)
    assert f"{name}:3: {said}" in problems(unpacked)


def test_forged_curves_are_found_though_the_manifest_was_written_anew(unpacked):
    points = pd.read_parquet(unpacked / "curves.parquet")
    points.assign(y=0.0).to_parquet(unpacked / "curves.parquet", index=False)
    relist(unpacked)
    assert "curves.parquet: y is not that of the runs" in problems(unpacked)


def test_a_run_that_nobody_planned_is_found(unpacked):
    path = next((unpacked / "runs").glob("*.json"))
    shutil.copy(path, path.with_name("other.json"))
    relist(unpacked)
    assert "runs/other.json: belongs to no planned run" in problems(unpacked)


@pytest.mark.parametrize("key", ["../../outside", "/etc/passwd", "a/b", "", "."])
def test_a_plan_that_leads_out_of_the_bundle_is_refused(key, unpacked):
    stored = json.loads((unpacked / "suite.json").read_text())
    stored["plan"][0] = key
    (unpacked / "suite.json").write_text(json.dumps(stored))
    relist(unpacked)
    assert "is not the key of a run" in problems(unpacked)


def test_a_parquet_file_that_differs_from_the_csv_is_found(unpacked):
    records = pd.read_parquet(unpacked / "records.parquet")
    records.loc[0, "value"] = 0.123
    records.to_parquet(unpacked / "records.parquet", index=False)
    relist(unpacked)
    assert "records.parquet: value is not that of records.csv" in problems(unpacked)


def test_without_a_csv_the_parquet_file_is_compared_with_the_runs(unpacked, finished):
    (unpacked / "records.csv").unlink()
    relist(unpacked)
    found = verify(unpacked)
    assert not found.problems and "records.csv" not in found.tables
    records = pd.read_parquet(unpacked / "records.parquet")
    records.loc[0, "value"] = 0.123
    records.to_parquet(unpacked / "records.parquet", index=False)
    relist(unpacked)
    assert "records.parquet: value is not that of records.csv" in problems(unpacked)


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/etc/outside", "a/../../outside", "C:\\x", "a\\..\\b", "a//b", "d/"]
)
def test_names_that_lead_out_of_the_bundle_are_refused(name, bundle, tmp_path):
    stream = io.BytesIO(bundle.read_bytes())
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(name, "x")
    (tmp_path / "x.zip").write_bytes(sealed(stream))
    assert "is not a plain file below the bundle" in problems(tmp_path / "x.zip")
    assert not (tmp_path.parent / "outside.txt").exists()


def test_links_are_refused(bundle, unpacked, tmp_path):
    stream = io.BytesIO(bundle.read_bytes())
    with zipfile.ZipFile(stream, "a") as archive:
        entry = zipfile.ZipInfo("link")
        entry.create_system, entry.external_attr = 3, 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    (tmp_path / "x.zip").write_bytes(sealed(stream))
    assert "'link' is not a plain file" in problems(tmp_path / "x.zip")
    (unpacked / "report.md").unlink()
    (unpacked / "report.md").symlink_to("/etc/passwd")
    assert "'report.md' is not a plain file" in problems(unpacked)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_is_refused(bundle, tmp_path):
    stream = io.BytesIO(bundle.read_bytes())
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("report.md", "x")
    (tmp_path / "x.zip").write_bytes(sealed(stream))
    assert "'report.md' is there 2 times" in problems(tmp_path / "x.zip")


def test_what_claims_to_be_enormous_is_not_read(bundle, unpacked, monkeypatch):
    monkeypatch.setattr("unlearn_bench.report.archive.MAX_BYTES", bundle.stat().st_size)
    for place in (bundle, unpacked):
        assert "GiB: not read" in problems(place)
    monkeypatch.setattr("unlearn_bench.report.archive.MAX_BYTES", 1000)
    assert "not read" in problems(bundle)


def changed_zip(bundle: Path, place: Path, change) -> Path:
    """Write a bundle again, sealed, with what ``change(new, entry, content)`` puts for a member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            change(new, entry, old.read(entry))
    place.write_bytes(sealed(stream))
    return place


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("lzma", "'suite.yaml' is compressed in a way that is not read"),
        ("long", "is not a plain file below the bundle"),
        ("encrypted", "'suite.yaml' is encrypted"),
        ("enormous", "GiB: not read"),
    ],
)
def test_members_that_are_no_plain_files_are_refused(how, said, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("unlearn_bench.report.archive.MAX_BYTES", 32 << 20)

    def change(new, entry, content):
        if entry.filename != "suite.yaml":
            new.writestr(entry.filename, content)
        elif how == "lzma":
            new.writestr(entry.filename, content, zipfile.ZIP_LZMA)
        elif how == "long":
            new.writestr("n" * 300, content)
        elif how == "enormous":
            with new.open(entry.filename, "w") as stream:
                for _ in range(33):
                    stream.write(bytes(1 << 20))
        else:
            new.writestr(entry.filename, content)

    place = changed_zip(bundle, tmp_path / "x.zip", change)
    if how == "encrypted":
        data = bytearray(place.read_bytes())
        at = data.index(b"suite.yaml", data.index(b"PK\x01\x02")) - 46
        data[at + 8] |= 1
        body = bytes(data[:-64])
        place.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    assert place.stat().st_size < 3 << 20
    assert said in problems(place)


@pytest.mark.parametrize("how", ["many", "zip64", "directory"])
def test_a_list_of_files_without_end_is_not_read(how, bundle, tmp_path, monkeypatch):
    data = bytearray(bundle.read_bytes())
    end = len(data) - 64 - 22
    if how == "many":
        data[end + 10 : end + 12] = b"\xff\xff"
    elif how == "directory":
        data[end + 12 : end + 16] = (1 << 30).to_bytes(4, "little")
    else:
        data[end:end] = b"PK\6\7" + bytes(16)
    body = bytes(data[:-64])
    (tmp_path / "x.zip").write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "holds more than 50,000 files: not read" in problems(tmp_path / "x.zip")


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_file_of_an_unpacked_bundle_is_not_read(kind, unpacked):
    (unpacked / "suite.json").unlink()
    if kind == "fifo":
        os.mkfifo(unpacked / "suite.json")
    elif kind == "device":
        (unpacked / "suite.json").symlink_to("/dev/zero")
    else:
        (unpacked / "suite.json").mkdir()
    assert "suite.json: listed, but not there" in problems(unpacked)


def test_long_cells_and_many_problems_are_told_shortly(unpacked):
    text = (unpacked / "verdicts.csv").read_text()
    (unpacked / "verdicts.csv").write_text(text + "x" * 140_000 + "\n")
    relist(unpacked)
    assert "verdicts.csv: is not valid CSV" in problems(unpacked)
    for number in range(150):
        (unpacked / f"{number}.txt").touch()
    assert "more problems" in problems(unpacked) and len(problems(unpacked)) < 10_000


def test_a_table_that_declares_too_much_is_not_read(unpacked):
    bomb = pd.DataFrame({"method": [0] * 5_000_001}, dtype="int8")
    bomb.to_parquet(unpacked / "records.parquet")
    relist(unpacked)
    assert "records.parquet: cannot be read: records.parquet is not read" in problems(unpacked)


def test_tables_that_do_not_follow_from_the_runs_are_not_bundled(finished, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(finished.out, folder)
    shutil.rmtree(folder / "runs")
    with pytest.raises(
        OutputError, match="cannot be bundled: runs/ is missing: (\\d+) of the \\1 runs"
    ):
        write_bundle(folder, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_nothing_of_a_bundle_is_run(unpacked):
    marker = unpacked.parent / "ran"
    (unpacked / "plugins" / "scale_weights.py").write_text(f"open({str(marker)!r}, 'w')\n")
    relist(unpacked)
    assert not verify(unpacked).problems
    assert not marker.exists()


def test_no_path_of_this_machine_is_in_the_sources_of_a_bundle(finished):
    stored = json.loads((finished.out / "suite.json").read_text())
    del stored["command"]  # as it was typed
    assert str(finished.out.parent) not in json.dumps(stored)


@pytest.mark.thorough
def test_the_command_line_writes_and_verifies(finished, cli, tmp_path):
    target = tmp_path / "b.zip"
    ended = cli("report", finished.out, "--bundle", "--out", target)
    assert ended.code == 0 and f"bundle: {target}" in ended.out
    shown = cli(
        "report",
        finished.out,
        "--show",
        "--bundle",
        "--out",
        tmp_path / "shown.zip",
        env={"DISPLAY": "", "WAYLAND_DISPLAY": ""},
    )
    assert (tmp_path / "shown.zip").read_bytes() == target.read_bytes()
    assert shown.out.splitlines()[-1] == str(finished.out / "report.html")
    ended = cli("verify", target)
    assert ended.code == 0 and ended.out.startswith("verified: ")
    tables = "records.csv, records.parquet, verdicts.csv, weights.csv, curves.parquet, population"
    assert f"{tables}.parquet; " in ended.out
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 4
    target.write_bytes(data)
    ended = cli("verify", target)
    assert ended.code == 1
    assert all(line.startswith("problem: ") for line in ended.out.splitlines())
    missing = cli("verify", tmp_path / "none.zip")
    assert missing.code == 2 and "none.zip does not exist; give a bundle's zip" in missing.error


@pytest.mark.parametrize("name", ["suite.yaml", "plugins/readme.txt", "figures", "runs"])
def test_a_link_is_neither_packed_nor_followed(name, finished, tmp_path):
    """A folder from a stranger may point at a private key."""
    folder, secret = tmp_path / "out", tmp_path / "secret"
    shutil.copytree(finished.out, folder)
    secret.mkdir()
    (secret / "id_rsa").write_text("PRIVATE")
    link = folder / name
    link.parent.mkdir(exist_ok=True)
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(secret if name in ("figures", "runs") else secret / "id_rsa")
    with pytest.raises(OutputError, match="symbolic link"):
        write_bundle(folder, tmp_path / "bundle.zip")
    assert not (tmp_path / "bundle.zip").exists()
    assert [path.name for path in secret.iterdir()] == ["id_rsa"]
