"""Images in folders, one folder per class: ``PATH/train/CLASS/*.jpg`` and ``PATH/test/...``.

The usual names of both parts are known, in any case. Where there is no test part, a fixed fifth
of every class is held out; where there is no training part either, the class folders may lie in
``PATH`` itself. Tiny ImageNet's list of validation labels is read as well. Folders inside a class
folder are its fine classes, and ``PATH/groups.csv`` may say of every image to which groups it
belongs: a column ``file`` with its path below ``PATH``, and one column for each kind of group.

Only regular files are read, and no link to a folder is followed: it may lead in a circle, to all
of the disk, or to the same images once more.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from unlearn_bench.core.errors import DataError, visible
from unlearn_bench.core.reading import MIB, is_regular, read_text
from unlearn_bench.data.attributes import Attributes, Values
from unlearn_bench.data.decoding import readable_suffixes
from unlearn_bench.data.encoded import EncodedFiles
from unlearn_bench.data.sources import Raw, RawPart, held_out

TRAIN_NAMES = ("train", "training", "trn")
TEST_NAMES = ("test", "testing", "tst", "val", "valid", "validation", "eval")
TINY_LABELS = "val_annotations.txt"  # Tiny ImageNet: file name, class, and a box
GROUPS, SUBCLASS = "groups.csv", "subclass"
LABELS_BYTES = 64 * MIB
MAX_FILES = 20_000_000
SHOWN = 8

Labelled = list[tuple[Path, int]]  # each file with its label


@dataclass
class _Seen:
    """What was passed over: links and special files by kind, other files by suffix."""

    passed_over: Counter[str] = field(default_factory=Counter)

    def notes(self, base: Path) -> tuple[str, ...]:
        """Say so in one line, if there was anything."""
        if not self.passed_over:
            return ()
        shown = [f"{count} {what}" for what, count in self.passed_over.most_common(SHOWN)]
        more = ", ..." if len(self.passed_over) > SHOWN else ""
        return (f"{base}: not read as images: {', '.join(shown)}{more}",)


def load_folder(path: Path) -> Raw:
    """List the images below ``path``; none is read yet.

    Raises:
        DataError: If there is no such folder, a class has no images, or the test part has a
            class that the training part lacks.
    """
    if not path.is_dir():
        raise DataError(
            f"no folder {path}; expected one with train/CLASS/*.jpg and test/CLASS/*.jpg in it"
        )
    train_folder, tests = _parts(path)
    classes = _folders(train_folder)
    if not classes:
        raise DataError(f"no class folders in {train_folder}; expected CLASS/*.jpg in it")
    if train_folder == path:
        _check_classes(path, classes)
    seen, notes = _Seen(), []
    train = _labelled_files(train_folder, classes, seen)
    numbers = None
    test_folder = next((place for place in tests if _is_labelled(place)), None)
    if test_folder is not None:
        notes = [
            f"{place} has no class folders: the test part is {test_folder}"
            for place in tests[: tests.index(test_folder)]
        ]
        if (test_folder / TINY_LABELS).is_file():
            test = _listed_files(test_folder, classes)
        else:
            test = _labelled_files(test_folder, classes, seen)
    elif tests:
        raise DataError(
            f"no class folders in {tests[0]}; expected CLASS/*.jpg in it, or remove the folder "
            "to have a fifth of the training images held out"
        )
    else:
        out = held_out(torch.tensor([label for _, label in train]))
        numbers = (~out).nonzero().squeeze(1)
        test = [train[i] for i in out.nonzero().squeeze(1).tolist()]
        train = [train[i] for i in numbers.tolist()]
        if not test:
            raise DataError(f"every class in {train_folder} has one image; expected at least two")
        notes.append(
            f"{path} has no test part: a fifth of each class is held out as one; indices count "
            "all images, before that"
        )
    return Raw(
        _part(path, train, numbers),
        _part(path, test),
        tuple(classes),
        (*notes, *seen.notes(path)),
        _attributes(path, train, test),
    )


def _attributes(path: Path, train: Labelled, test: Labelled) -> Attributes:
    """Return the fine classes, if any class folder has folders, and the groups of the list."""
    groups = path / GROUPS
    text = read_text(groups, LABELS_BYTES) if is_regular(groups) else ""
    columns = _header(groups, text) if text else []
    # Parts lie in train/ or in the folder itself: a class folder with folders in it is deeper.
    nested = [len(_below_class(path, file)) > 1 for file, _ in train]
    finer = SUBCLASS if any(nested) else ""

    def values(part: Labelled) -> dict[str, Values]:
        files = [file for file, _ in part]
        found: dict[str, Values] = {
            column: partial(_grouped, path, files, text, column) for column in columns
        }
        if finer:
            found[finer] = lambda: [_below_class(path, file)[0] for file in files]
        return found

    return Attributes(values(train), values(test), finer, text.encode())


def _below_class(path: Path, file: Path) -> tuple[str, ...]:
    """Return the folders and the name of an image, from below its class folder."""
    parts = file.relative_to(path).parts
    return parts[2:] if parts[0].lower() in (*TRAIN_NAMES, *TEST_NAMES) else parts[1:]


def _header(groups: Path, text: str) -> list[str]:
    names = next(csv.reader(io.StringIO(text)), [])
    if names.count("file") != 1 or len(names) < 2 or len({*names}) < len(names):
        raise DataError(
            f"{groups} begins with {','.join(names)[:60]!r}; expected a column "
            "file and one or more columns of groups with distinct names"
        )
    return [name for name in names if name not in ("file", SUBCLASS)]


def _grouped(path: Path, files: list[Path], text: str, column: str) -> list[str]:
    """Return the value of every image in a column of the list of groups."""
    known = {row["file"]: row[column] for row in csv.DictReader(io.StringIO(text))}
    names = [file.relative_to(path).as_posix() for file in files]
    absent = next((name for name in names if known.get(name) is None), None)
    if absent is not None:
        raise DataError(
            f"{path / GROUPS} has no line for {visible(absent)}; add one for every image"
        )
    return [known[name] for name in names]


def _parts(path: Path) -> tuple[Path, list[Path]]:
    """Return the folder of the training part, and those that may be the test part, best first."""
    folders = {name.lower(): path / name for name in reversed(_folders(path))}
    train = next((folders[name] for name in TRAIN_NAMES if name in folders), path)
    tests = [folders[name] for name in TEST_NAMES if name in folders]
    if train == path and tests:
        raise DataError(f"{path} has a folder {visible(tests[0].name)} but no folder train; add it")
    return train, tests


def _check_classes(path: Path, classes: list[str]) -> None:
    """Refuse folders that are parts of a dataset under unknown names, taken for its classes."""
    inside = [frozenset(_folders(path / name)) for name in classes]
    if len(classes) > 1 and len(inside[0]) > 1 and len({*inside}) == 1:
        shown = ", ".join(visible(name) for name in classes[:SHOWN])
        inner = ", ".join(visible(name) for name in sorted(inside[0])[:SHOWN])
        raise DataError(
            f"the folders {shown} in {path} would be its classes, but each holds the same folders "
            f"{inner}: name the parts train and test, or give the folder of one part"
        )


def _is_labelled(folder: Path) -> bool:
    return bool(_classes_with_images(folder)) or (folder / TINY_LABELS).is_file()


def _classes_with_images(folder: Path) -> list[str]:
    """Return the folders in a part; one called images holds what a list of labels is about."""
    return [name for name in _folders(folder) if name != "images"]


def _labelled_files(folder: Path, classes: list[str], seen: _Seen) -> Labelled:
    """List the images of every class folder, class by class, as torchvision's ImageFolder does."""
    found: Labelled = []
    for name in _folders(folder):
        if name not in classes:
            raise DataError(
                f"class folder {folder / name} has no matching training class; remove it or add "
                "training images of that class"
            )
        files = list(_images(folder / name, seen))
        if not files:
            raise DataError(
                f"no images in class folder {folder / name}; "
                "remove it or add images (.jpg, .png, ...)"
            )
        found.extend((file, classes.index(name)) for file in files)
        if len(found) > MAX_FILES:
            raise DataError(f"more than {MAX_FILES:,} images in {folder}; take fewer")
    if not found:
        raise DataError(f"no class folders in {folder}; expected CLASS/*.jpg in it")
    return found


def _images(folder: Path, seen: _Seen) -> Iterator[Path]:
    """Yield the images below a class folder, folder by folder and by name in each."""
    suffixes = readable_suffixes()
    for place, inner, names in sorted(os.walk(folder, onerror=_fail)):
        seen.passed_over["links to folders"] += sum(Path(place, n).is_symlink() for n in inner)
        for name in sorted(names):
            file = Path(place, name)
            if name.startswith("."):
                continue
            if not is_regular(file):
                seen.passed_over["broken links or special files"] += 1
            elif file.suffix.lower() not in suffixes:
                seen.passed_over[
                    f"with suffix {visible(file.suffix.lower()[:20]) or '(none)'}"
                ] += 1
            else:
                yield file
    seen.passed_over += Counter()  # drops what was counted zero times


def _fail(error: OSError) -> None:
    raise error  # a folder that cannot be read must not be missing unnoticed


def _listed_files(folder: Path, classes: list[str]) -> Labelled:
    """Read a part whose labels stand in a list, as Tiny ImageNet's validation part."""
    found: Labelled = []
    for number, line in enumerate(read_text(folder / TINY_LABELS, LABELS_BYTES).splitlines(), 1):
        name, _, rest = line.partition("\t")
        label = rest.partition("\t")[0]
        file = folder / "images" / name
        if label not in classes or Path(name).name != name or not is_regular(file):
            raise DataError(
                f"{folder / TINY_LABELS}, line {number}: {line[:60]!r} does not give an "
                "image of the folder images and its class"
            )
        found.append((file, classes.index(label)))
    if not found:
        raise DataError(f"{folder / TINY_LABELS} lists no images")
    return sorted(found)


def _folders(path: Path) -> list[str]:
    """Return the names of the folders in a folder.

    Raises:
        DataError: If one of them is a link: leaving it out would change the dataset unnoticed.
    """
    inner = [place for place in path.iterdir() if not place.name.startswith(".")]
    for place in inner:
        if place.is_symlink() and place.is_dir():
            raise DataError(
                f"{place} is a link to a folder, and those are not followed; put the folder itself "
                "there, or give the path that it leads to"
            )
    return sorted(place.name for place in inner if place.is_dir())


def _part(base: Path, items: Labelled, numbers: torch.Tensor | None = None) -> RawPart:
    files = [file for file, _ in items]
    labels = torch.tensor([label for _, label in items])
    return RawPart(EncodedFiles(base, files), labels, numbers)
