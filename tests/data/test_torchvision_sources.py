"""Every dataset of torchvision, on small made-up files in its real layout."""

import errno
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets as reference
from scipy.io import savemat

from unlearn_bench.core import locks
from unlearn_bench.core.errors import DataError, UserError
from unlearn_bench.data import datasets, torchvision_sources
from unlearn_bench.suite.datasets import DATASETS

IDX = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
COUNTS = {"train": 20, "test": 12}


def digest(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_idx(root: Path, rng: np.random.Generator, name: str) -> dict[str, np.ndarray]:
    folder = root / IDX[name] / "raw"
    folder.mkdir(parents=True)
    images = {}
    for prefix, part in (("train", "train"), ("t10k", "test")):
        count = COUNTS[part]
        images[part] = rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", images[part][:, 0]), ("labels-idx1", labels)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            header = bytes([0, 0, 8, array.ndim]) + sizes
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return images


def write_cifar(root, rng, name, monkeypatch) -> dict[str, np.ndarray]:
    cls = reference.CIFAR10 if name == "cifar10" else reference.CIFAR100
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    key, count = ("labels", 10) if name == "cifar10" else ("fine_labels", 100)
    images = {}
    for part, attribute in (("train", "train_list"), ("test", "test_list")):
        entries, pieces = getattr(cls, attribute), []
        each = COUNTS[part] // len(entries)
        for file, _ in entries:
            pieces.append(rng.integers(0, 256, (each, 3, 32, 32), dtype=np.uint8))
            labels = [(len(pieces) * each + i) % count for i in range(each)]
            content = {"data": pieces[-1].reshape(each, -1), key: labels}
            (folder / file).write_bytes(pickle.dumps(content))
        images[part] = np.concatenate(pieces)
        digests = [[file, digest(folder / file)] for file, _ in entries]
        monkeypatch.setattr(cls, attribute, digests)
    meta = folder / cls.meta["filename"]
    meta.write_bytes(pickle.dumps({cls.meta["key"]: [f"class {i}" for i in range(count)]}))
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": digest(meta)})
    return images


def write_svhn(root, rng, monkeypatch) -> dict[str, np.ndarray]:
    root.mkdir(exist_ok=True, parents=True)
    images, table = {}, {}
    for part in ("train", "test"):
        images[part] = rng.integers(0, 256, (COUNTS[part], 3, 32, 32), dtype=np.uint8)
        path = root / f"{part}_32x32.mat"
        labels = np.arange(COUNTS[part])[:, None] % 10
        labels[labels == 0] = 10  # as on disk: the digit 0 has label 10
        savemat(path, {"X": images[part].transpose(2, 3, 1, 0), "y": labels.astype(np.uint8)})
        table[part] = ["url", path.name, digest(path)]
    monkeypatch.setattr(reference.SVHN, "split_list", table)
    return images


def write_stl10(root, rng, monkeypatch) -> dict[str, np.ndarray]:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    images = {}
    for part, attribute in (("train", "train_list"), ("test", "test_list")):
        images[part] = rng.integers(0, 256, (COUNTS[part], 3, 96, 96), dtype=np.uint8)
        columns_first = images[part].transpose(0, 1, 3, 2)
        (folder / f"{part}_X.bin").write_bytes(columns_first.tobytes())
        labels = np.arange(COUNTS[part], dtype=np.uint8) % 10 + 1
        (folder / f"{part}_y.bin").write_bytes(labels.tobytes())
        entries = [[f"{part}_{x}.bin", digest(folder / f"{part}_{x}.bin")] for x in "Xy"]
        # The images without labels are listed, as torchvision does, and absent.
        unlabelled = getattr(reference.STL10, attribute)[2:]
        monkeypatch.setattr(reference.STL10, attribute, entries + unlabelled)
    (folder / "class_names.txt").write_text("\n".join(f"animal {i}" for i in range(10)))
    return images


@pytest.fixture
def write(rng, monkeypatch):
    """Write the dataset of a name below a root and return its images, [N, C, H, W] by part."""

    def write(name: str, root: Path) -> dict[str, np.ndarray]:
        if name in IDX:
            return write_idx(root, rng, name)
        if name.startswith("cifar"):
            return write_cifar(root, rng, name, monkeypatch)
        return {"svhn": write_svhn, "stl10": write_stl10}[name](root, rng, monkeypatch)

    return write


ARRAYS = [*IDX, "cifar10", "cifar100", "svhn", "stl10"]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("inside", [False, True])
def test_files_give_their_images_and_labels(tmp_path, write, name, inside):
    root = tmp_path / name if inside else tmp_path
    images = write(name, root)
    found = datasets.load(name, root=tmp_path)
    for part in ("train", "test"):
        data = getattr(found, part)
        assert torch.equal(data.images.data, torch.from_numpy(images[part]))
        assert data.labels.dtype == torch.int64
        start = len(data.labels) // len(getattr(reference.CIFAR10, f"{part}_list"))
        first = start if name.startswith("cifar") else 0  # as write_cifar numbers them
        if name == "cifar100":
            first = len(data.labels)
        count = found.num_classes
        assert data.labels.tolist() == [(first + i) % count for i in range(len(data.labels))]
    assert found.num_classes == (100 if name == "cifar100" else 10)
    assert (found.mean, found.std) == DATASETS[name].constants
    assert found.channels == images["train"].shape[1]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("mnist", "0"),
        ("fashion_mnist", "T-shirt/top"),
        ("kmnist", "o"),
        ("cifar10", "class 0"),
        ("svhn", "0"),
        ("stl10", "animal 0"),
    ],
)
def test_classes_have_names(tmp_path, write, name, first):
    write(name, tmp_path)
    assert datasets.load(name, root=tmp_path).classes[0] == first


FILES = {
    "mnist": "MNIST/raw/t10k-images-idx3-ubyte",
    "fashion_mnist": "FashionMNIST/raw/train-labels-idx1-ubyte",
    "kmnist": "KMNIST/raw/train-images-idx3-ubyte",
    "cifar10": "cifar-10-batches-py/data_batch_3",
    "cifar100": "cifar-100-python/test",
    "svhn": "test_32x32.mat",
    "stl10": "stl10_binary/train_X.bin",
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_truncated_file_is_named_in_one_line(tmp_path, write, name, keep):
    write(name, tmp_path)
    path = tmp_path / FILES[name]
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(DataError, match="truncated or damaged; delete it") as caught:
        datasets.load(name, root=tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_pickle_that_is_not_the_published_one_is_never_opened(tmp_path, write, name, monkeypatch):
    write(name, tmp_path)
    marker = tmp_path / "opened"

    class Trap:
        def __reduce__(self):
            return Path.touch, (marker,)

    (tmp_path / FILES[name]).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="truncated or damaged"):
        datasets.load(name, root=tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ARRAYS)
def test_missing_file_is_named_with_the_folder_and_the_remedy(tmp_path, write, name):
    write(name, tmp_path)
    (tmp_path / FILES[name]).unlink()
    with pytest.raises(DataError) as caught:
        datasets.load(name, root=tmp_path)
    message = str(caught.value)
    assert f"dataset {name} is not in {tmp_path}: expected {FILES[name]} there" in message
    assert "--download" in message and "train-*.parquet" in message and "\n" not in message


def test_images_of_one_download_with_labels_of_another_are_refused(tmp_path, write):
    write("mnist", tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    labels = (raw / "t10k-labels-idx1-ubyte").read_bytes()
    (raw / "train-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(DataError, match="20 images but 12 labels"):
        datasets.load("mnist", root=tmp_path)


def write_named_parquet(write_parquet, encode, rng, folder: Path, size=(28, 28), classes=10):
    for part in ("train", "test"):
        pixels = rng.integers(0, 256, (classes, *size), dtype=np.uint8)
        names = [f"name {i}" for i in range(classes)]
        write_parquet(
            folder / f"{part}-0.parquet", [encode(p) for p in pixels], range(classes), names=names
        )


@pytest.mark.parametrize("place", ["", "mnist", "MNIST", "mnist/data"])
def test_parquet_files_take_the_place_of_torchvisions(tmp_path, write_parquet, encode, rng, place):
    write_named_parquet(write_parquet, encode, rng, tmp_path / place)
    found = datasets.load("mnist", root=tmp_path)
    assert found.image_size == (28, 28) and found.classes[3] == "name 3"
    assert (found.mean, found.std) == DATASETS["mnist"].constants


@pytest.mark.parametrize(("size", "classes"), [((32, 32, 3), 10), ((28, 28), 7)])
def test_parquet_files_of_another_dataset_are_refused(
    tmp_path, write_parquet, encode, rng, size, classes
):
    write_named_parquet(write_parquet, encode, rng, tmp_path, size, classes)
    with pytest.raises(DataError, match="are not mnist: they have .* use --dataset parquet:"):
        datasets.load("mnist", root=tmp_path)


@pytest.mark.parametrize("name", ARRAYS)
def test_download_asks_torchvision_and_reads_what_came(tmp_path, write, name, monkeypatch):
    asked = []

    def download(self) -> None:
        if not asked:
            write(name, Path(self.root))
        asked.append(type(self).__name__)

    known = torchvision_sources.KNOWN[name]
    monkeypatch.setattr(getattr(reference, known.info.torchvision_name), "download", download)
    assert len(datasets.load(name, root=tmp_path / "new", download=True).train.labels) == 20
    assert set(asked) == {known.info.torchvision_name}


def test_download_is_not_asked_for_what_is_there(tmp_path, write, monkeypatch):
    write("mnist", tmp_path)
    monkeypatch.setattr(
        "torchvision.datasets.mnist.download_and_extract_archive",
        lambda *args, **kwargs: pytest.fail("downloaded again"),
    )
    assert len(datasets.load("mnist", root=tmp_path, download=True).train.labels) == 20


def test_failed_download_gives_one_line(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no network\non this machine")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    with pytest.raises(DataError, match=f"cannot download mnist to {tmp_path}: .*no network") as c:
        datasets.load("mnist", root=tmp_path, download=True)
    assert "\n" not in str(c.value)


@pytest.fixture
def food(tmp_path, encode, rng) -> Path:
    base = tmp_path / "food-101"
    names = [f"dish{i:03}" for i in range(101)]
    for part, numbers in (("train", (0, 1)), ("test", (2,))):
        listed = {name: [f"{name}/{number}" for number in numbers] for name in reversed(names)}
        (base / "meta").mkdir(parents=True, exist_ok=True)
        (base / "meta" / f"{part}.json").write_text(json.dumps(listed))
        for index, name in enumerate(names):
            (base / "images" / name).mkdir(parents=True, exist_ok=True)
            for number in numbers:
                pixels = np.full((20 + number, 30, 3), index, dtype=np.uint8)
                (base / "images" / name / f"{number}.jpg").write_bytes(encode(pixels, "JPEG"))
    return tmp_path


@pytest.mark.parametrize("memory", [True, False])
def test_food101_is_read_from_its_folder(food, monkeypatch, memory):
    monkeypatch.setattr(datasets, "fits_in_memory", lambda nbytes: memory)
    found = datasets.load("food101", root=food, image_size=16)
    assert len(found.train.labels) == 202 and len(found.test.labels) == 101
    assert found.classes[5] == "dish005" and found.image_size == (16, 16)
    images = found.train.images.fetch(torch.arange(202)).float()
    # The colour of each made-up dish is the number of its class.
    assert (images.mean(dim=(1, 2, 3)) - found.train.labels).abs().max() <= 1


def test_food101_without_image_size_says_that_it_needs_one(food):
    with pytest.raises(DataError, match="different sizes, from 20x30 to 22x30.*give an image size"):
        datasets.load("food101", root=food)


def test_food101_names_a_missing_image_and_a_damaged_list(food):
    (food / "food-101" / "images" / "dish044" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"dish044.1\.jpg: No such file"):
        datasets.load("food101", root=food, image_size=16)
    (food / "food-101" / "meta" / "test.json").write_text('{"dish')
    with pytest.raises(DataError, match="test.json is truncated or damaged"):
        datasets.load("food101", root=food, image_size=16)


def test_a_pipe_among_the_images_of_food101_is_not_waited_for(food):
    place = food / "food-101" / "images" / "dish044" / "1.jpg"
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(UserError, match=r"1\.jpg is a pipe; only regular files"):
        datasets.load("food101", root=food, image_size=16)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "7",
        '{"dish": "dish/1"}',
        '{"dish": [7]}',
        '{"dish": ["../../elsewhere/1"]}',
        '{"dish": ["/etc/1"]}',
        '{"dish": ["a/b/../../../../1"]}',
    ],
)
def test_a_list_of_food101_that_is_none_or_leads_elsewhere_is_refused(food, text):
    (food / "food-101" / "meta" / "test.json").write_text(text)
    with pytest.raises(DataError, match="test.json is truncated or damaged"):
        datasets.load("food101", root=food, image_size=16)


@pytest.mark.parametrize("kind", ["pipe", "device", "sparse"])
def test_what_is_no_file_or_without_end_is_not_handed_to_torchvision(tmp_path, kind, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in torchvision_sources._idx_files(reference.MNIST):
        (tmp_path / name).touch()
    place = tmp_path / torchvision_sources._idx_files(reference.MNIST)[0][0]
    place.unlink()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    else:
        place.touch()
        os.truncate(place, 1 << 40)
    reason = "larger than 268.4 MB" if kind == "sparse" else "not a regular file"
    with pytest.raises(DataError, match=f"ubyte is {reason}"):
        datasets.load("mnist", root=tmp_path)


def test_food101_downloads_through_torchvision(tmp_path, monkeypatch):
    def arrive(url, download_root, md5):
        raise OSError(f"no route to {url}")

    monkeypatch.setattr("torchvision.datasets.food101.download_and_extract_archive", arrive)
    with pytest.raises(DataError, match="cannot download food101 to .*food-101.tar.gz"):
        datasets.load("food101", root=tmp_path, download=True)


def test_one_process_downloads_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool | None] = []

    def note(name: str, root: Path, download: bool) -> None:
        held.append(locks.is_held(root / ".download.lock"))

    monkeypatch.setattr(torchvision_sources, "load_raw", note)
    torchvision_sources.load("mnist", tmp_path / "data", download=True)
    torchvision_sources.load("mnist", tmp_path / "data", download=False)
    assert held == [True, False]


def test_where_nothing_can_be_written_what_is_there_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_sources, "load_raw", lambda *args: args)

    def readonly(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(locks, "take", readonly)
    assert torchvision_sources.load("mnist", tmp_path, download=True) == ("mnist", tmp_path, True)
