"""Images in folders, one folder per class: ``PATH/train/CLASS/*.jpg`` and ``PATH/test/...``.

The test part may also be called ``val``. Where there is none, a fixed fifth of every class is
held out; where there is no ``train`` either, the class folders may lie in ``PATH`` itself.
"""

import os
from pathlib import Path

import torch

from unlearn_bench.core.errors import DataError
from unlearn_bench.data.encoded import EncodedFiles
from unlearn_bench.data.sources import Raw, RawPart, held_out

TEST_NAMES = ("test", "val", "valid", "validation")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"}

Labelled = list[tuple[Path, int]]  # each file with its label


def load_folder(path: Path) -> Raw:
    """List the images below ``path``; none is read yet.

    Raises:
        DataError: If there is no such folder, a class has no images, or the test part has a
            class that the training part lacks.
    """
    if not path.is_dir():
        raise DataError(
            f"no folder {path}; wanted one with train/CLASS/*.jpg and test/CLASS/*.jpg in it"
        )
    test_folder = next((path / name for name in TEST_NAMES if (path / name).is_dir()), None)
    train_folder = path / "train" if (path / "train").is_dir() else path
    if train_folder == path and test_folder is not None:
        raise DataError(f"{path} has a folder {test_folder.name} but no folder train; add it")
    classes = _folders(train_folder)
    if not classes:
        raise DataError(f"no class folders in {train_folder}; wanted CLASS/*.jpg in it")
    train = _labelled_files(train_folder, classes)
    if test_folder is not None:
        test = _labelled_files(test_folder, classes)
    else:
        out = held_out(torch.tensor([label for _, label in train])).tolist()
        test = [item for item, is_out in zip(train, out, strict=True) if is_out]
        train = [item for item, is_out in zip(train, out, strict=True) if not is_out]
        if not test:
            raise DataError(f"every class in {train_folder} has one image; wanted at least two")
    return Raw(_part(path, train), _part(path, test), tuple(classes))


def _labelled_files(folder: Path, classes: list[str]) -> Labelled:
    """List the images of every class folder, class by class, in the order of their names."""
    found: Labelled = []
    for name in _folders(folder):
        if name not in classes:
            raise DataError(
                f"class folder {folder / name} has no fellow among the training images; "
                "remove it or add training images of that class"
            )
        files = sorted(
            Path(place, file)
            for place, _, inside in os.walk(folder / name, followlinks=True)
            for file in inside
            if Path(file).suffix.lower() in SUFFIXES and not file.startswith(".")
        )
        if not files:
            raise DataError(
                f"no images in class folder {folder / name}; "
                "remove it or add images (.jpg, .png, ...)"
            )
        found.extend((file, classes.index(name)) for file in files)
    if not found:
        raise DataError(f"no class folders in {folder}; wanted CLASS/*.jpg in it")
    return found


def _folders(path: Path) -> list[str]:
    return sorted(
        inner.name for inner in path.iterdir() if inner.is_dir() and not inner.name.startswith(".")
    )


def _part(base: Path, items: Labelled) -> RawPart:
    files = [file for file, _ in items]
    return RawPart(EncodedFiles(base, files), torch.tensor([label for _, label in items]))
