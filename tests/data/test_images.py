"""Images in memory, on demand, and brought to one size."""

import threading

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from unlearn_bench.core.errors import AccessError
from unlearn_bench.data import images
from unlearn_bench.data.datasets import load
from unlearn_bench.data.images import StreamedImages, TensorImages


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (7, 7), (33, 100), (28, 28)])
@pytest.mark.parametrize("wanted", [28, 35])
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_equals_shortest_side_then_centre_crop(size, wanted, channels):
    image = picture(channels, *size)
    slow = reference.resize(image, [wanted], antialias=True)
    slow = reference.center_crop(slow, [wanted, wanted])
    assert torch.equal(images.resize(image, (wanted, wanted)), slow)


def test_resize_leaves_an_image_of_the_right_size_alone():
    image = picture(3, 9, 11)
    assert images.resize(image, (9, 11)) is image


def test_resize_of_every_aspect_fills_the_whole_size():
    for height in range(1, 40, 3):
        for width in range(1, 40, 3):
            white = torch.full((1, height, width), 255, dtype=torch.uint8)
            resized = images.resize(white, (13, 13))
            assert resized.shape == (1, 13, 13) and resized.min() == 255


@pytest.mark.parametrize("threads", [1, 3])
def test_streamed_images_come_in_the_order_asked_for(threads):
    data = picture(50, 3, 6, 6)
    streamed = StreamedImages(data.__getitem__, 50, (3, 6, 6), threads=threads)
    indices = torch.tensor([4, 49, 0, 4, 17])
    assert torch.equal(streamed.fetch(indices), data[indices])
    assert torch.equal(streamed.fetch(indices), TensorImages(data).fetch(indices))
    assert torch.equal(streamed.in_memory().data, data)
    assert streamed.fetch(indices[:0]).shape == (0, 3, 6, 6)


def test_streamed_images_are_decoded_by_several_threads(monkeypatch):
    monkeypatch.setattr(images, "MAX_THREADS", 3)
    images._pool.cache_clear()
    together = threading.Barrier(3)  # passes only if three decode at the same time

    def decode(index: int) -> torch.Tensor:
        together.wait(timeout=10)
        return picture(1, 4, 4, seed=index)

    assert len(StreamedImages(decode, 3, (1, 4, 4)).fetch(torch.arange(3))) == 3
    images._pool.cache_clear()


def test_streamed_images_are_resized():
    streamed = StreamedImages(lambda index: picture(3, 20 + index, 30), 4, (3, 8, 8))
    found = streamed.fetch(torch.arange(4))
    for index in range(4):
        assert torch.equal(found[index], images.resize(picture(3, 20 + index, 30), (8, 8)))


def test_half_of_what_is_free_may_hold_images(monkeypatch):
    monkeypatch.setattr(images, "available_memory", lambda: 1000)
    assert images.fits_in_memory(500) and not images.fits_in_memory(501)


@pytest.mark.parametrize("kind", ["copied", "shared", "streamed"])
def test_what_is_handed_out_has_its_indices_and_nothing_else(kind, monkeypatch):
    data, members = picture(20, 1, 4, 4), torch.tensor([3, 17, 8])
    whole = TensorImages(data)
    if kind == "streamed":
        whole = StreamedImages(data.__getitem__, 20, (1, 4, 4))
    if kind == "shared":
        monkeypatch.setattr(images, "SMALL_COPY", 0)
        monkeypatch.setattr(images, "available_memory", lambda: 1)
    some = whole.only(members)
    asked = torch.tensor([8, 3, 8])
    assert len(some) == 20 and some.shape == (1, 4, 4)
    assert torch.equal(some.fetch(asked), data[asked])
    assert torch.equal(some.only(asked[:2]).fetch(asked), data[asked])
    with pytest.raises(AccessError, match="in none of the splits that the method declares"):
        some.fetch(torch.tensor([3, 4]))
    if kind == "copied":
        assert len(some.data) == 3 and some.data.untyped_storage().nbytes() == 3 * 16


def test_of_a_dataset_only_members_have_labels_and_nobody_a_test_part():
    data = load("digits")
    members = torch.tensor([5, 1])
    some = data.only(members)
    assert some.train.labels[members].tolist() == data.train.labels[members].tolist()
    assert int((some.train.labels >= 0).sum()) == 2
    assert len(some.test.labels) == 0 and some.mean == data.mean
    assert torch.equal(some.train.images.fetch(members), data.train.images.fetch(members))
