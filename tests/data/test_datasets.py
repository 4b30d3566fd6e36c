"""What every dataset has in common, shown on digits and on the real sets."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from sklearn.datasets import load_digits

from unlearn_bench.core.errors import DataError, ParameterError, UnknownNameError
from unlearn_bench.data import datasets, images, sources
from unlearn_bench.data.images import Part, TensorImages
from unlearn_bench.suite.datasets import DATASETS
from unlearn_bench.suite.spec import Normalize


def test_digits_are_those_of_scikit_learn_each_in_one_part():
    found = datasets.load("digits")
    assert found.image_size == (8, 8) and found.channels == 1 and found.num_classes == 10
    pixels = torch.cat([found.train.images.data, found.test.images.data]).flatten(1)
    labels = torch.cat([found.train.labels, found.test.labels])
    slow = torch.tensor([[round(v * 255 / 16) for v in row] for row in load_digits().data.tolist()])
    expected = sorted(zip(slow.tolist(), load_digits().target.tolist(), strict=True))
    assert sorted(zip(pixels.tolist(), labels.tolist(), strict=True)) == expected
    assert pixels.dtype == torch.uint8 and pixels.max() == 255


def test_digits_test_part_is_a_fifth_of_each_class_and_fixed():
    first, second = datasets.load("digits"), datasets.load("digits")
    counts = torch.bincount(torch.from_numpy(load_digits().target))
    assert first.test.labels.bincount().tolist() == (counts / 5).round().int().tolist()
    assert torch.equal(first.test.images.data, second.test.images.data)
    assert first.fingerprint == second.fingerprint


def test_mean_and_std_are_those_of_the_training_pixels():
    found = datasets.load("digits")
    pixels = found.train.images.data.double() / 255
    assert found.mean == pytest.approx([float(pixels.mean())])
    assert found.std == pytest.approx([float(pixels.std(correction=0))])


def test_constants_are_given_usual_or_measured():
    given = datasets.load("digits", normalize=Normalize(mean=(0.5,), std=(0.25,)))
    assert (given.mean, given.std, given.constants) == ((0.5,), (0.25,), "given")
    assert given.normalization == "(x/255 - (0.5)) / (0.25), as given"
    measured = datasets.load("digits")
    assert measured.constants == "measured" and measured.fingerprint == given.fingerprint


def test_one_constant_holds_for_all_channels():
    colour = TensorImages(torch.zeros(3, 3, 4, 4, dtype=torch.uint8))
    one_mean = Normalize(mean=0.5, std=(1, 2, 3))
    assert datasets.constants_for("own", colour, one_mean) == ((0.5,) * 3, (1, 2, 3), "given")
    assert datasets.constants_for("cifar10", colour, None) == (
        *DATASETS["cifar10"].constants,
        "usual",
    )
    with pytest.raises(ParameterError, match=r"normalize.std has 2 values, .* have 3 channels"):
        datasets.constants_for("own", colour, Normalize(mean=0.5, std=(1, 2)))


def test_measuring_many_images_takes_an_even_sample(monkeypatch):
    data = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1)
    monkeypatch.setattr(datasets, "MEASURED_IMAGES", 10)
    mean, _ = datasets.measured(TensorImages(data))
    assert mean == pytest.approx([45 / 255])


def test_channel_of_one_value_can_still_be_normalised():
    mean, std = datasets.measured(TensorImages(torch.full((3, 2, 4, 4), 51, dtype=torch.uint8)))
    assert mean == pytest.approx((0.2, 0.2)) and std == (1.0, 1.0)


def test_image_size_resizes_every_image():
    small, large = datasets.load("digits"), datasets.load("digits", image_size=20)
    assert large.image_size == (20, 20) and len(large.train.labels) == len(small.train.labels)
    for index in (0, 500):
        slow = images.resize(small.train.images.data[index], (20, 20))
        assert torch.equal(large.train.images.data[index], slow)


def test_resized_images_that_do_not_fit_are_streamed(monkeypatch):
    resident = datasets.load("digits", image_size=20)
    monkeypatch.setattr(datasets, "fits_in_memory", lambda nbytes: False)
    streamed = datasets.load("digits", image_size=20)
    assert isinstance(streamed.train.images, images.StreamedImages)
    some = torch.tensor([5, 0, 700])
    assert torch.equal(streamed.train.images.fetch(some), resident.train.images.fetch(some))
    assert streamed.fingerprint == resident.fingerprint


def changed(monkeypatch, change) -> str:
    """Return the fingerprint of digits after ``change`` has been made to the raw images."""

    digits = datasets.SOURCES["digits"]

    def read(root, path, download, columns):
        raw = digits.read(root, path, download, columns)
        return change(raw) or raw

    source = dataclasses.replace(digits, read=read)
    with monkeypatch.context() as patch:
        patch.setitem(datasets.SOURCES, "digits", source)
        return datasets.load("digits").fingerprint


def test_fingerprint_changes_with_one_pixel_one_label_or_the_size(monkeypatch):
    def pixel(raw: sources.Raw) -> None:
        raw.test.images.data[-1, 0, 7, 7] ^= 1

    def label(raw: sources.Raw) -> None:
        raw.train.labels[0] = (raw.train.labels[0] + 1) % 10

    def swapped(raw: sources.Raw) -> sources.Raw:
        return dataclasses.replace(raw, train=raw.test, test=raw.train)

    found = [
        datasets.load("digits").fingerprint,
        datasets.load("digits", image_size=8).fingerprint,
        *(changed(monkeypatch, change) for change in (pixel, label, swapped)),
    ]
    assert changed(monkeypatch, lambda raw: None) == found[0]
    assert len(set(found)) == 5 and all(len(digest) == 64 for digest in found)


def test_labels_and_images_of_different_number_are_refused(monkeypatch):
    def shorter(raw: sources.Raw) -> sources.Raw:
        return dataclasses.replace(
            raw, train=dataclasses.replace(raw.train, labels=raw.train.labels[:-1])
        )

    with pytest.raises(DataError, match="1438 images but 1437 labels"):
        changed(monkeypatch, shorter)


def test_empty_part_is_refused(monkeypatch):
    empty = sources.RawPart(
        TensorImages(torch.empty(0, 1, 8, 8, dtype=torch.uint8)),
        torch.empty(0, dtype=torch.int64),
    )
    with pytest.raises(DataError, match="the test part of digits has no images"):
        changed(monkeypatch, lambda raw: dataclasses.replace(raw, test=empty))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar-10", "did you mean 'cifar10'"),
        ("CIFAR10", "did you mean 'cifar10'"),
        ("imagefolder", "did you mean 'imagefolder:PATH'"),
        ("parket:/tmp", "did you mean 'parquet:PATH'"),
        ("zzz", "`unlearn-bench list datasets` shows all"),
    ],
)
def test_unknown_name_suggests_the_nearest(name, hint):
    with pytest.raises(UnknownNameError, match=f"no dataset named '{name}'") as caught:
        datasets.load(name)
    assert hint in str(caught.value)


def test_source_without_its_path_says_how_to_write_it():
    with pytest.raises(DataError, match="write parquet:PATH"):
        datasets.load("parquet:")


@pytest.mark.parametrize("size", [0, -3, 2.5, "32"])
def test_image_size_must_be_a_positive_whole_number(size):
    with pytest.raises(ParameterError, match="image_size is"):
        datasets.load("digits", image_size=size)


def test_every_name_has_a_description_of_one_line():
    assert "digits" in datasets.names() and "parquet:PATH" in datasets.names()
    for name in datasets.names():
        description = datasets.SOURCES[name].description
        assert description and "\n" not in description and len(description) < 100


def test_importing_loads_no_heavy_library():
    heavy = "torchvision", "sklearn", "pyarrow", "scipy", "PIL"
    code = (
        "import sys, unlearn_bench.data.datasets, unlearn_bench.data.batches\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_images_move_to_the_device_only_where_they_fit(monkeypatch):
    dataset = datasets.load("digits")
    meta = torch.device("meta")  # stands for an accelerator of a chosen size

    def devices(free: int, **options) -> list[str]:
        monkeypatch.setattr(datasets, "free_memory", lambda device: free)
        moved = datasets.on_device(dataset, meta, **options)
        return [part.images.device.type for part in (moved.train, moved.test)]

    train, test = (part.images.nbytes for part in (dataset.train, dataset.test))
    assert devices(2 * (train + test)) == ["meta", "meta"]
    assert devices(2 * (train + test) - 2) == ["meta", "cpu"]
    assert devices(2 * train - 2) == ["cpu", "meta"]
    assert devices(2 * test - 2) == ["cpu", "cpu"]
    assert devices(train + test, reserve=0.0) == ["meta", "meta"]
    with pytest.raises(ParameterError, match="reserve is 1.5"):
        datasets.on_device(dataset, meta, reserve=1.5)


def test_on_device_leaves_streamed_images_and_the_cpu_alone():
    dataset = datasets.load("digits")
    part = Part(images.StreamedImages(lambda i: None, 4, (1, 8, 8)), torch.zeros(4).long())
    streamed = dataclasses.replace(dataset, train=part)
    assert datasets.on_device(streamed, torch.device("cpu")).train.images is part.images
    assert datasets.on_device(dataset, torch.device("cpu")).train.images is dataset.train.images


@pytest.mark.gpu
def test_images_move_to_a_gpu():
    moved = datasets.on_device(datasets.load("digits"), torch.device("cuda"))
    assert moved.train.images.device.type == moved.test.images.device.type == "cuda"
    assert moved.train.labels.device.type == "cpu"


def test_real_mnist_has_its_known_shape_and_statistics(real_data):
    found = datasets.load("mnist", root=real_data)
    assert found.train.images.data.shape == (60000, 1, 28, 28)
    assert found.test.images.data.shape == (10000, 1, 28, 28)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert found.train.labels.bincount().tolist() == counts
    assert found.classes == tuple("0123456789")
    pixels = found.train.images.data.float() / 255
    assert found.mean == pytest.approx([float(pixels.mean())], abs=1e-4)
    assert found.std == pytest.approx([float(pixels.std())], abs=1e-4)


# Decodes 60,000 images; tests/measure/test_positive_control.py reads the first of them.
@pytest.mark.thorough
def test_real_cifar10_from_parquet_has_its_known_shape(real_data):
    found = datasets.load("cifar10", root=real_data)
    assert found.train.images.data.shape == (50000, 3, 32, 32)
    assert found.train.labels.bincount().tolist() == [5000] * 10
    assert found.test.labels.bincount().tolist() == [1000] * 10
    assert found.classes[:3] == ("airplane", "automobile", "bird")
    # The files hold JPEG, so the statistics are near the published ones, not equal to them.
    mean, std = datasets.measured(found.train.images)
    assert mean == pytest.approx(found.mean, abs=0.005) and std == pytest.approx(
        found.std, abs=0.005
    )
