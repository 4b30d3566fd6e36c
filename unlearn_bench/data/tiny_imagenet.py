"""Tiny ImageNet, from the folder that its archive unpacks to, or from Parquet files.

``tiny-imagenet-200`` holds ``wnids.txt``, ``words.txt``, ``train/WNID/images/*.JPEG``, ``val`` with
a list of labels, and a test part without labels, which is left alone: models are tested on the
validation part, as in the literature. Classes are in the order of their WordNet ids, as in
torchvision's ``ImageFolder``, and are called by their words.
"""

from dataclasses import replace
from pathlib import Path

from unlearn_bench.core.errors import DataError
from unlearn_bench.core.reading import MIB, read_text
from unlearn_bench.data import folder, parquet
from unlearn_bench.data.attributes import NO_ATTRIBUTES
from unlearn_bench.data.parquet_files import find_files
from unlearn_bench.data.sources import Raw

NAME = "tiny_imagenet"
FOLDERS = ("tiny-imagenet-200", NAME, "tiny-imagenet")
IDS, WORDS = "wnids.txt", "words.txt"
LIST_BYTES = 16 * MIB


def load(root: Path) -> Raw:
    """Read it from ``root``, or from a folder in it.

    Raises:
        DataError: If it is not there, or not whole.
    """
    places = [*(root / name for name in FOLDERS), root]
    for place in places:
        if (place / IDS).is_file():
            return _from_folder(place)
    for place in places[:-1]:
        if any(find_files(place)):
            return parquet.load_folder(place)
    raise DataError(
        f"dataset {NAME} is not in {root}: expected {FOLDERS[0]}/{IDS} and the folders train and "
        f"val beside it, or train-*.parquet in {root / NAME}; get tiny-imagenet-200.zip from "
        "cs231n.stanford.edu and unpack it there, or point --data-root at it"
    )


def _from_folder(place: Path) -> Raw:
    ids = sorted({*read_text(place / IDS, LIST_BYTES).split()})
    raw = folder.load_folder(place)
    if list(raw.classes) != ids:
        raise DataError(
            f"the {len(raw.classes)} class folders in {place / 'train'} are not the {len(ids)} of "
            f"{IDS}; unpack the archive again"
        )
    # The folders called images are no finer classes, and lists of boxes no images.
    return replace(raw, classes=_names(place, ids), notes=(), attributes=NO_ATTRIBUTES)


def _names(place: Path, ids: list[str]) -> tuple[str, ...]:
    """Return the words for every id, the id itself where the list has none or gives them twice."""
    if not (place / WORDS).is_file():
        return tuple(ids)
    lines = read_text(place / WORDS, LIST_BYTES).splitlines()
    words = {wnid: text.strip() for wnid, _, text in (line.partition("\t") for line in lines)}
    named = [words.get(wnid) or wnid for wnid in ids]
    return tuple(
        name if named.count(name) == 1 else wnid for name, wnid in zip(named, ids, strict=True)
    )
