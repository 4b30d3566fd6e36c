"""Tiny ImageNet in the layout of its archive."""

import numpy as np
import pytest

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import datasets

WORDS = {"n01": "goldfish, Carassius auratus", "n02": "crane", "n03": "crane", "n09": "not here"}


@pytest.fixture
def root(tmp_path, encode, rng):
    """Three classes of four training and two validation images, one of them grey."""
    place = tmp_path / "tiny-imagenet-200"
    labels = []
    for wnid in ("n03", "n01", "n02"):
        (place / "train" / wnid / "images").mkdir(parents=True)
        (place / "train" / wnid / f"{wnid}_boxes.txt").touch()
        for i in range(4):
            shape = (64, 64) if (wnid, i) == ("n01", 0) else (64, 64, 3)
            image = encode(rng.integers(0, 256, shape, dtype=np.uint8), "JPEG")
            (place / "train" / wnid / "images" / f"{wnid}_{i}.JPEG").write_bytes(image)
    for part in ("val", "test"):
        (place / part / "images").mkdir(parents=True)
        for i in range(6):
            image = encode(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), "JPEG")
            (place / part / "images" / f"{part}_{i}.JPEG").write_bytes(image)
            labels.append(f"val_{i}.JPEG\tn0{i % 3 + 1}\t0\t0\t62\t62")
    (place / "val" / "val_annotations.txt").write_text("\n".join(labels[:6]))
    (place / "wnids.txt").write_text("n02\nn01\nn03\n")
    (place / "words.txt").write_text("\n".join(f"{k}\t{v}" for k, v in WORDS.items()))
    return tmp_path


def test_its_folder_is_read_by_name(root):
    found = datasets.load("tiny_imagenet", root=root)
    assert found.classes == ("goldfish, Carassius auratus", "n02", "n03")  # no two are called crane
    assert found.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.test.labels.tolist() == [0, 1, 2] * 2
    assert found.train.images.shape == (3, 64, 64) and not found.attributes.finer
    assert found.notes == () and found.attributes.files()[0] == "train/n01/images/n01_0.JPEG"
    inside = datasets.load("tiny_imagenet", root=root / "tiny-imagenet-200")
    assert inside.fingerprint == found.fingerprint


def test_a_folder_that_is_not_whole_is_refused(root):
    (root / "tiny-imagenet-200" / "wnids.txt").write_text("n01\nn02\nn03\nn04\n")
    with pytest.raises(DataError, match="3 class folders in .* are not the 4 of wnids.txt"):
        datasets.load("tiny_imagenet", root=root)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(DataError, match="tiny_imagenet is not in .*tiny-imagenet-200.zip"):
        datasets.load("tiny_imagenet", root=tmp_path)
