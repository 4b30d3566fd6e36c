"""Fast batches against slow, obvious ones."""

import threading

import pytest
import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, ParameterError
from unlearn_bench.data import batches
from unlearn_bench.data.images import Part, StreamedImages, TensorImages

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def make_part(count: int = 23, size: tuple[int, int] = (12, 10), channels: int = 3) -> Part:
    generator = torch.Generator().manual_seed(1)
    data = torch.randint(1, 256, (count, channels, *size), generator=generator, dtype=torch.uint8)
    return Part(TensorImages(data), torch.arange(count))


def one_pass(part: Part, seed: int | None = None, **options) -> tuple[Tensor, Tensor]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    options = {"batch_size": 5, "device": CPU, "mean": MEAN, "std": STD} | options
    indices = options.pop("indices", torch.arange(len(part.labels)))
    found = list(batches.iterate(part, indices, generator=generator, **options))
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (MEAN, STD))
    return ((pixels.double() / 255 - mean) / std).float()


def test_without_generator_images_come_in_order_and_normalised():
    part = make_part()
    indices = torch.tensor([7, 3, 3, 22, 0, 1])
    x, y = one_pass(part, indices=indices)
    assert y.tolist() == indices.tolist()
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    torch.testing.assert_close(x, normalised(part.images.data[indices]), atol=1e-5, rtol=1e-5)


def test_last_short_batch_is_kept():
    part = make_part(23)
    sizes = [
        len(y)
        for _, y in batches.iterate(
            part, torch.arange(23), batch_size=10, device=CPU, mean=MEAN, std=STD
        )
    ]
    assert sizes == [10, 10, 3]


def test_shuffling_shows_every_image_once_with_its_label():
    part = make_part()
    x, y = one_pass(part, seed=0)
    assert sorted(y.tolist()) == list(range(23)) and y.tolist() != list(range(23))
    torch.testing.assert_close(x, normalised(part.images.data[y]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("augment", batches.AUGMENTATIONS)
def test_same_seed_gives_the_same_pass_and_another_seed_another(augment):
    part = make_part()
    first, again, other = (one_pass(part, seed=s, augment=augment) for s in (3, 3, 4))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_second_pass_of_one_generator_differs():
    part, generator = make_part(), torch.Generator().manual_seed(0)
    options = {"batch_size": 50, "device": CPU, "mean": MEAN, "std": STD, "generator": generator}
    (_, first), (_, second) = (
        next(batches.iterate(part, torch.arange(23), **options)) for _ in range(2)
    )
    assert first.tolist() != second.tolist()


def test_abandoned_pass_leaves_the_generator_as_a_complete_one():
    part = make_part()
    states = []
    for steps in (1, 5):
        generator = torch.Generator().manual_seed(0)
        run = batches.iterate(
            part,
            torch.arange(23),
            batch_size=5,
            device=CPU,
            mean=MEAN,
            std=STD,
            augment="crop-flip",
            generator=generator,
        )
        for _ in range(steps):
            next(run)
        states.append(generator.get_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("size", [(12, 10), (9, 9)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_and_flip_equals_slicing_image_by_image(size, dtype):
    pad, images = 3, make_part(20, size).images.data.to(dtype)
    top, left = torch.randint(0, 2 * pad + 1, (2, 20))
    mirrored = torch.arange(20) % 2
    found = batches.crop_and_flip(images, pad, top, left, mirrored)
    for i in range(20):
        canvas = torch.zeros(3, size[0] + 2 * pad, size[1] + 2 * pad, dtype=dtype)
        canvas[:, pad:-pad, pad:-pad] = images[i]
        slow = canvas[:, top[i] : top[i] + size[0], left[i] : left[i] + size[1]]
        slow = slow.flip(2) if mirrored[i] else slow
        assert torch.equal(found[i], slow)


def test_crops_reach_every_place_and_flips_half_the_images():
    part = make_part(2000, (8, 8))
    x, y = one_pass(part, seed=0, augment="crop-flip", batch_size=512)
    grey = x * torch.tensor(STD).view(-1, 1, 1) + torch.tensor(MEAN).view(-1, 1, 1)
    pixels = (grey * 255).round().to(torch.uint8)
    places, flips = set(), 0
    for image, label in zip(pixels, y, strict=True):
        # Black only comes from the padding, so it tells how far the crop moved.
        filled = image[0] != 0
        rows, columns = (filled.any(d).nonzero().flatten().tolist() for d in (1, 0))
        window = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if window.shape[1:] != (8, 8):
            places.add((rows[0] - (7 - rows[-1]), columns[0] - (7 - columns[-1])))
        original = part.images.data[label]
        inside = [
            torch.equal(w, window)
            for v in (original, original.flip(2))
            for w in (v.unfold(1, window.shape[1], 1).unfold(2, window.shape[2], 1),)
            for w in w.permute(1, 2, 0, 3, 4).flatten(0, 1)
        ]
        half = len(inside) // 2
        assert any(inside), "a crop must be a window of its own image or of its mirror image"
        flips += any(inside[half:]) and not any(inside[:half])
    assert places == {(r, c) for r in range(-4, 5) for c in range(-4, 5)} - {(0, 0)}
    assert 850 < flips < 1150


def test_crop_without_flip_never_mirrors():
    part = make_part(300, (8, 8))
    x, y = one_pass(part, seed=0, augment="crop", batch_size=300)
    generator = torch.Generator().manual_seed(0)
    torch.randperm(300, generator=generator)
    top, left = torch.randint(9, (2, 300), generator=generator)
    slow = batches.crop_and_flip(
        part.images.data[y], 4, top, left, torch.zeros(300, dtype=torch.int64)
    )
    torch.testing.assert_close(x, normalised(slow), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("size", "pixels"), [((28, 28), 4), ((64, 64), 4), ((224, 224), 28)])
def test_padding_follows_the_image_size(size, pixels):
    assert batches.padding(size) == pixels


@pytest.mark.parametrize("augment", batches.AUGMENTATIONS)
def test_streamed_images_give_the_very_batches_of_images_in_memory(augment):
    part = make_part()
    data = part.images.data
    streamed = Part(StreamedImages(data.__getitem__, len(data), part.images.shape), part.labels)
    for fast, slow in zip(
        one_pass(part, seed=2, augment=augment),
        one_pass(streamed, seed=2, augment=augment),
        strict=True,
    ):
        assert torch.equal(fast, slow)


def test_streamed_images_are_read_while_the_batch_before_is_used():
    data = make_part().images.data
    second_read = threading.Event()

    def decode(index: int) -> Tensor:
        if index == 5:
            second_read.set()
        return data[index]

    part = Part(StreamedImages(decode, len(data), (3, 12, 10)), torch.arange(len(data)))
    run = batches.iterate(part, torch.arange(23), batch_size=5, device=CPU, mean=MEAN, std=STD)
    next(run)
    assert second_read.wait(timeout=10)
    run.close()


def test_abandoned_streamed_pass_stops_reading():
    data, seen = make_part(200).images.data, []

    def decode(index: int) -> Tensor:
        seen.append(index)
        return data[index]

    part = Part(StreamedImages(decode, 200, (3, 12, 10), threads=1), torch.arange(200))
    run = batches.iterate(part, torch.arange(200), batch_size=5, device=CPU, mean=MEAN, std=STD)
    next(run)
    run.close()
    assert len(seen) <= 5 * (batches.AHEAD + 1)


def test_damaged_streamed_image_is_reported_to_the_user_of_the_batch():
    def decode(index: int) -> Tensor:
        raise DataError("image 7.jpg is damaged")

    part = Part(StreamedImages(decode, 4, (3, 8, 8)), torch.arange(4))
    with pytest.raises(DataError, match="7.jpg"):
        one_pass(part)


def test_changing_a_batch_in_place_leaves_the_dataset_alone():
    part = make_part()
    before = part.images.data.clone(), part.labels.clone()
    for x, y in batches.iterate(
        part, torch.arange(23), batch_size=23, device=CPU, mean=MEAN, std=STD
    ):
        x.zero_()
        y.zero_()
    assert torch.equal(part.images.data, before[0]) and torch.equal(part.labels, before[1])


def test_empty_selection_gives_no_batch():
    part = make_part()
    empty = torch.empty(0, dtype=torch.int64)
    options = {"batch_size": 4, "device": CPU, "mean": MEAN, "std": STD}
    assert not list(batches.iterate(part, empty, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"augment": "flip"}, "choose from none, crop, crop-flip"),
        ({"augment": "crop"}, "needs a generator"),
        ({"indices": torch.tensor([0, 23])}, "0..22"),
        ({"indices": torch.tensor([-1])}, "0..22"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(options, message):
    with pytest.raises(ParameterError, match=message):
        one_pass(make_part(), **options)


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [True, False])
def test_gpu_pass_equals_the_cpu_pass(resident):
    part, cuda = make_part(), torch.device("cuda")
    on_gpu = Part(part.images.to(cuda), part.labels) if resident else part
    slow = one_pass(part, seed=5, augment="crop-flip")
    fast = one_pass(on_gpu, seed=5, augment="crop-flip", device=cuda)
    assert fast[0].device.type == "cuda" and torch.equal(fast[1].cpu(), slow[1])
    torch.testing.assert_close(fast[0].cpu(), slow[0])
