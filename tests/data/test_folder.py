"""Folders of images, one folder per class."""

import numpy as np
import pytest
import torch

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import datasets, images
from unlearn_bench.data.sources import held_out


@pytest.fixture
def pictures(rng) -> np.ndarray:
    return rng.integers(0, 256, (10, 8, 6, 3), dtype=np.uint8)


@pytest.fixture
def write(tmp_path, encode, pictures):
    """Write the ten pictures, or one, into a class folder and return it."""

    def write(folder: str, count: int = 10, kind: str = "PNG"):
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (place / f"{index:03}.{kind.lower()}").write_bytes(encode(pictures[index], kind))
        return place

    return write


def load(folder, **options):
    return datasets.load(f"imagefolder:{folder}", **options)


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_class_folders_give_images_labels_and_names(tmp_path, write, pictures, test_name):
    write("train/bee", 3)
    write("train/ant", 2)
    write(f"{test_name}/ant", 4)
    write(f"{test_name}/bee", 1)
    found = load(tmp_path)
    expected = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    assert found.classes == ("ant", "bee")
    assert found.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert torch.equal(found.train.images.data, expected[[0, 1, 0, 1, 2]])
    assert found.test.labels.tolist() == [0, 0, 0, 0, 1]
    assert torch.equal(found.test.images.data, expected[[0, 1, 2, 3, 0]])


@pytest.mark.parametrize("train", ["train/", ""])
def test_without_test_folder_a_fifth_of_each_class_is_held_out(tmp_path, write, train):
    write(f"{train}ant")
    write(f"{train}bee", 5)
    first, second = load(tmp_path), load(tmp_path)
    assert first.test.labels.bincount().tolist() == [2, 1]
    assert first.train.labels.bincount().tolist() == [8, 4]
    assert torch.equal(first.test.images.data, second.test.images.data)
    both = torch.cat([first.train.images.data[:8], first.test.images.data[:2]]).flatten(1)
    assert len(both.unique(dim=0)) == 10, "no image may be in both parts"


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (2, 1), (5, 1), (7, 1), (8, 2), (100, 20)])
def test_held_out_takes_a_fifth_and_leaves_something_to_learn(count, expected):
    chosen = held_out(torch.zeros(count, dtype=torch.int64))
    assert int(chosen.sum()) == expected


def test_held_out_is_stratified_and_spread():
    labels = torch.arange(300) % 3
    chosen = held_out(labels)
    assert labels[chosen].bincount().tolist() == [20, 20, 20]
    places = chosen[labels == 1].nonzero().flatten()
    assert places.diff().unique().tolist() == [5]


def test_streamed_images_equal_images_in_memory(tmp_path, write, monkeypatch):
    write("train/ant")
    write("train/bee", kind="JPEG")
    resident = load(tmp_path, image_size=5)
    monkeypatch.setattr(datasets, "fits_in_memory", lambda nbytes: False)
    streamed = load(tmp_path, image_size=5)
    assert isinstance(streamed.train.images, images.StreamedImages)
    assert isinstance(resident.train.images, images.TensorImages)
    everything = torch.arange(16)
    assert torch.equal(streamed.train.images.fetch(everything), resident.train.images.data)
    assert streamed.image_size == resident.image_size == (5, 5)
    # What a run depends on must not depend on the memory of the machine.
    assert streamed.fingerprint == resident.fingerprint
    assert (streamed.mean, streamed.std) == (resident.mean, resident.std)


def test_hidden_and_other_files_are_passed_over(tmp_path, write):
    place = write("train/ant", 5)
    (place / "notes.txt").write_text("not an image")
    (place / ".hidden.png").write_bytes(b"")
    (place / "inner").mkdir()
    (place / "000.png").rename(place / "inner" / "000.PNG")
    (tmp_path / "train" / ".cache").mkdir()
    assert len(load(tmp_path).train.labels) + len(load(tmp_path).test.labels) == 5


def test_one_pixel_or_a_renamed_class_changes_the_fingerprint(tmp_path, write, encode, pictures):
    place = write("train/ant")
    before = load(tmp_path).fingerprint
    assert load(tmp_path).fingerprint == before
    pictures[3, 0, 0, 0] ^= 1
    (place / "003.png").write_bytes(encode(pictures[3]))
    changed = load(tmp_path).fingerprint
    place.rename(tmp_path / "train" / "wasp")
    assert len({before, changed, load(tmp_path).fingerprint}) == 3


def test_large_sets_are_fingerprinted_by_names_and_sizes(tmp_path, write, monkeypatch):
    place = write("train/ant")
    full = load(tmp_path).fingerprint
    monkeypatch.setattr(datasets, "HASHED_BYTES", 0)
    before = load(tmp_path).fingerprint
    (place / "003.png").write_bytes((place / "003.png").read_bytes() + b"\0")
    assert len({full, before, load(tmp_path).fingerprint}) == 3


def test_relative_path_below_the_root_is_found(tmp_path, write):
    write("insects/train/ant")
    assert datasets.load("imagefolder:insects", root=tmp_path).classes == ("ant",)


def test_different_sizes_need_an_image_size(tmp_path, write, encode):
    place = write("train/ant")
    (place / "wide.png").write_bytes(encode(np.zeros((8, 20, 3), np.uint8)))
    with pytest.raises(DataError, match="different sizes, from 8x6 to 8x20.*give an image size"):
        load(tmp_path)
    assert load(tmp_path, image_size=8).image_size == (8, 8)


def test_empty_class_folder_is_named(tmp_path, write):
    write("train/ant")
    (tmp_path / "train" / "bee").mkdir()
    with pytest.raises(DataError, match="no images in class folder .*bee"):
        load(tmp_path)


def test_class_of_the_test_part_alone_is_refused(tmp_path, write):
    write("train/ant")
    write("test/bee")
    with pytest.raises(DataError, match="class folder .*bee has no matching training class"):
        load(tmp_path)


def test_test_folder_without_train_folder_is_refused(tmp_path, write):
    write("test/ant")
    with pytest.raises(DataError, match="has a folder test but no folder train"):
        load(tmp_path)


def test_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="no folder .*nowhere; expected one with train/CLASS"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no class folders in"):
        load(tmp_path)


def test_single_image_cannot_be_split(tmp_path, write):
    write("train/ant", 1)
    with pytest.raises(DataError, match="expected at least two"):
        load(tmp_path)


def test_truncated_image_is_named_in_one_line(tmp_path, write):
    path = write("train/ant") / "004.png"
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(DataError, match=r"004\.png.*truncated or damaged") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
