"""What benchmarks/fuzz.py does to files: bytes, structure, kinds of files, names.

Every function takes a ``random.Random`` and nothing else that varies, so that a case is made again
from its seed.
"""

import csv
import io
import json
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

from unlearn_bench.core.keys import content_key

# A larger file is a mutation of before, not one of the small ones that are fuzzed.
MOST_BYTES = 1 << 28


def nasty(rng: Random) -> Any:
    """Return a value that nobody expects."""
    deep: Any = []
    for _ in range(rng.choice((5, 70, 3000))):
        deep = [deep]
    return rng.choice(
        (
            None,
            True,
            0,
            -1,
            5,
            10**25,
            2**63,
            1e308,
            -1e308,
            5e-324,
            float("inf"),
            float("nan"),
            "",
            "x",
            "nan",
            "../../sentinel/key",
            "/etc/passwd",
            "=HYPERLINK(0)",
            "[*",
            "a\0b\x1b[31m\u202e",
            "\udcff",
            "\ud800",
            "{}%$&#_^~\\|`<b>",
            "猫" * 40,
            "n" * 5000,
            "w" * 140_000,
            [],
            {},
            [None, {}],
            {"a": {"b": [1]}},
            deep,
            list(range(3000)),
        )
    )


def _slots(value: Any) -> list[tuple[Any, Any]]:
    """List every place of a structure as (container, key)."""
    found, todo = [], [value]
    while todo:
        at = todo.pop()
        for key in at if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ():
            found.append((at, key))
            todo.append(at[key])
    return found


def structure(rng: Random, value: Any) -> Any:
    """Change a few places of a structure of lists and mappings, and return it."""
    for _ in range(rng.choice((1, 1, 1, 3))):
        slots = _slots(value)
        if not slots or rng.random() < 0.03:
            return nasty(rng)
        # Shallow places are few and matter most.
        at, key = rng.choice(slots[:12] if rng.random() < 0.5 else slots)
        match rng.randrange(5):
            case 0:
                del at[key]
            case 1 if isinstance(at, list):
                at += [at[key]] * rng.choice((1, 1000))
            case 2 if isinstance(at, dict):
                at[str(nasty(rng))[:6000]] = at.pop(key)
            case _:
                at[key] = nasty(rng)
    return value


def raw(rng: Random, data: bytes) -> bytes:
    """Flip, cut, repeat or overwrite bytes."""
    if not data:
        return rng.randbytes(50)
    place = rng.randrange(len(data))
    match rng.randrange(7):
        case 0:
            flipped = bytearray(data)
            for _ in range(rng.choice((1, 10, 200))):
                flipped[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(flipped)
        case 1:
            return data[:place]
        case 2:
            return data[:place] + data[: rng.randrange(1, 4000)] + data[place:]
        case 3:
            return data[:place] + bytes(rng.choice((1, 100_000))) + data[place:]
        case 4:
            return data[:place] + b"\xff\xfe\x80" + data[place:]
        case 5:
            return rng.choice((b"", b"\n", b"{", b"[" * 100_000, b",\n" * 5000, b'"'))
        case _:
            return data[:place] + struct.pack("<Q", rng.choice((2**31, 2**62))) + data[place + 8 :]


def as_json(rng: Random, path: Path) -> None:
    """Change a JSON file's structure; a run's checksum is made right again, mostly."""
    stored = structure(rng, json.loads(path.read_bytes()))
    if isinstance(stored, dict) and "check" in stored and rng.random() < 0.9:
        del stored["check"]
        try:
            stored["check"] = content_key(stored)
        except (ValueError, RecursionError):
            pass
    try:
        path.write_text(json.dumps(stored), encoding="utf-8")
    except RecursionError:
        path.write_bytes(b'{"a":' * 50_000)


def as_csv(rng: Random, path: Path) -> None:
    """Change cells, columns or rows of a table."""
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    for _ in range(rng.choice((1, 3))):
        row = rng.choice(rows[: 2 if rng.random() < 0.2 else None])
        cell = rng.randrange(len(row)) if row else 0
        match rng.randrange(8):
            case 0:
                del row[cell:]
            case 1:
                rows += [row] * rng.choice((1, 500))
            case 2:
                # A whole column: a label that every run of it has.
                old, new = row[cell : cell + 1], str(nasty(rng))
                for other in rows[1:]:
                    if other[cell : cell + 1] == old:
                        other[cell] = new
            case _:
                row[cell : cell + 1] = [str(nasty(rng))]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8", "replace"))


def as_yaml(rng: Random, path: Path) -> None:
    """Change a suite: its structure, or its text."""
    text = path.read_text(encoding="utf-8")
    if rng.random() < 0.3:
        lines = text.splitlines()
        extra = ("a: &a [*a, *a]", "<<: {a: 1}", "seeds: 1e9", "? [x]\n: y", "--- \n--- x", "\t")
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(extra))
        path.write_text("\n".join(lines), encoding="utf-8")
        return
    changed = structure(rng, yaml.safe_load(text))
    try:
        dumped = yaml.safe_dump(changed, allow_unicode=rng.random() < 0.5)
    except (RecursionError, UnicodeEncodeError):
        dumped = "[" * 100_000
    path.write_bytes(dumped.encode("utf-8", "replace"))


def as_parquet(rng: Random, path: Path) -> None:
    """Change a column's type or values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if not table.num_columns:
        return
    place = rng.randrange(table.num_columns)
    name, rows = table.column_names[place], table.num_rows
    columns: tuple[Callable[[], Any], ...] = (
        lambda: ["x"] * rows,
        lambda: [b"\xff"] * rows,
        lambda: [-1] * rows,
        lambda: [1e308] * rows,
        lambda: [float("nan")] * rows,
        lambda: [None] * rows,
        lambda: [{"a": {"b": [1]}}] * rows,
        lambda: [[1, 2]] * rows,
        lambda: ["n" * 5000] * rows,
        lambda: ["a\0\x1b[1m"] * rows,
    )
    match rng.randrange(5):
        case 0:
            table = table.remove_column(place)
        case 1:
            table = table.append_column(name, table.column(place))
        case 2:
            table = pa.concat_tables([table] * rng.choice((2, 300)))
        case _:
            table = table.set_column(place, name, pa.array(rng.choice(columns)()))
    metadata = {b"huggingface": json.dumps({"info": nasty(rng)}).encode()}
    if rng.random() < 0.2:
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path, compression=rng.choice(("zstd", "none", "snappy")))


def as_safetensors(rng: Random, path: Path) -> None:
    """Change the header of a file of weights."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(structure(rng, json.loads(data[8 : 8 + length]))).encode()
    size = len(header) if rng.random() < 0.9 else rng.choice((0, 2**40, len(header) + 7))
    path.write_bytes(size.to_bytes(8, "little") + header + data[8 + length :])


def kind(rng: Random, path: Path, sentinel: Path) -> None:
    """Put something else than a file into its place, or one of another size."""
    path.unlink()
    match rng.randrange(9):
        case 0:
            path.symlink_to(sentinel / "key")
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.symlink_to(path.name)
        case 3:
            os.mkfifo(path)
        case 4:
            path.mkdir()
            (path / "x").write_text("x")
        case 5:
            path.write_bytes(b"")
        case 6:
            with path.open("wb") as stream:
                stream.truncate(10 << 30)
        case 7:
            path.symlink_to(sentinel)
        case _:
            pass


def place(rng: Random, root: Path, sentinel: Path) -> None:
    """Change the layout of a folder: links, other names, too many or foreign files."""
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    at = rng.choice(folders)
    match rng.randrange(6):
        case 0:
            (at / "loop").symlink_to(root)
        case 1:
            (at / "link.json").symlink_to(sentinel / "key")
        case 2 if at != root:
            shutil.rmtree(at)
            at.symlink_to(sentinel)
        case 3:
            name = rng.choice((b"\xff\xfe.png", b"a\nb", b"-rf", b"n" * 250, "猫\u202e".encode()))
            with open(os.path.join(os.fsencode(at), name), "wb") as stream:  # noqa: PTH118, PTH123
                stream.write(b"x")
        case 4:
            for number in range(400):
                (at / f"{number}.json").write_text("{}")
        case _ if at != root:
            shutil.rmtree(at)


def archive(rng: Random, path: Path) -> None:
    """Change a zip's members, and seal it as a forger would, mostly."""
    import hashlib

    stream = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        chosen = rng.randrange(len(old.infolist()))
        for number, entry in enumerate(old.infolist()):
            content = old.read(entry)
            if number != chosen:
                new.writestr(entry.filename, content)
                continue
            match rng.randrange(7):
                case 0:
                    new.writestr(f"{rng.choice(('../', '/', 'a' * 300))}{entry.filename}", content)
                case 1:
                    new.writestr(entry.filename, bytes(200 << 20))
                case 2:
                    link = zipfile.ZipInfo(entry.filename)
                    link.external_attr = (stat.S_IFLNK | 0o777) << 16
                    new.writestr(link, "/etc/passwd")
                case 3:
                    new.writestr(entry.filename, content)
                    new.writestr("x" * rng.choice((1, 300)), raw(rng, content))
                case 4:
                    new.writestr(entry.filename, content, zipfile.ZIP_LZMA)
                case 5:
                    pass
                case _:
                    new.writestr(entry.filename, raw(rng, content))
        new.comment = b"0" * 64
    data = stream.getvalue()
    if rng.random() < 0.3:
        # What the directory says of sizes, flags and methods.
        at = data.rindex(b"PK\x01\x02") + rng.choice((8, 10, 20, 24, 42))
        data = data[:at] + rng.randbytes(4) + data[at + 4 :]
    data = raw(rng, data) if rng.random() < 0.2 else data
    sealed = data[:-64] + hashlib.sha256(data[:-64]).hexdigest().encode()
    path.write_bytes(sealed if rng.random() < 0.9 else data)


_BY_SUFFIX: dict[str, Callable[[Random, Path], None]] = {
    ".json": as_json,
    ".csv": as_csv,
    ".yaml": as_yaml,
    ".parquet": as_parquet,
    ".safetensors": as_safetensors,
    ".zip": archive,
}


def one_file(rng: Random, path: Path, sentinel: Path) -> None:
    """Change one file as its kind allows, its bytes, or its kind."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES:
        return  # mutated before, perhaps into a link to /dev/zero: it cannot be read here
    how = rng.random()
    by_kind = _BY_SUFFIX.get(path.suffix)
    if how < 0.1:
        kind(rng, path, sentinel)
    elif how < 0.3 or by_kind is None:
        path.write_bytes(raw(rng, path.read_bytes()))
    else:
        try:
            by_kind(rng, path)
        except Exception:  # it was mutated before, and is not of its kind any more
            path.write_bytes(raw(rng, path.read_bytes()))
