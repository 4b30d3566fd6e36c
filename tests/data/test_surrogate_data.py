"""Images of another dataset: what they become, which are refused, and that the seed draws them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unlearn_bench.core.errors import DataError, UnknownNameError
from unlearn_bench.data.batches import iterate
from unlearn_bench.data.datasets import load
from unlearn_bench.data.images import Dataset, Part, StreamedImages, TensorImages
from unlearn_bench.data.surrogate_data import load_surrogates, surrogates_of, with_channels

FOLDER = "imagefolder:others"


def pixels(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)


def dataset(images: torch.Tensor, test: torch.Tensor | None = None) -> Dataset:
    parts = [
        Part(TensorImages(of), torch.zeros(len(of), dtype=torch.int64))
        for of in (images, images[:0] if test is None else test)
    ]
    return Dataset("own", *parts, ("a", "b"), (0.4,), (0.3,), "own")


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Twelve colour pictures of two sizes in data/, whose labels nobody wants."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 1)):
        for label, size in (("a", (10, 20, 3)), ("b", (16, 9, 3))):
            folder = tmp_path / "others" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                image = draw.integers(0, 256, size, dtype=np.uint8)
                Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 7, 12)])
def test_they_get_the_size_and_the_channels_of_the_suites_own(
    shape: tuple[int, int, int], others: Path
) -> None:
    found = load_surrogates(FOLDER, dataset(pixels(5, *shape)), root=others)
    drawn = found.draw(12, seed=0)
    assert drawn.shape == (12, *shape) and drawn.dtype == torch.uint8
    assert found.name == FOLDER and len(found.images) == 12


def test_a_folder_is_prepared_as_it_would_be_for_a_suite_of_its_own(others: Path) -> None:
    suite = load(FOLDER, root=others, image_size=8)
    found = load_surrogates(FOLDER, dataset(pixels(5, 3, 8, 8)), root=others)
    everyone = torch.arange(12)
    assert torch.equal(found.images.fetch(everyone), suite.train.images.fetch(everyone))


def test_grey_is_what_pillow_makes_of_colour() -> None:
    image = pixels(1, 3, 20, 20)[0]
    wanted = np.array(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
    assert torch.equal(with_channels(image, 1)[0], torch.from_numpy(wanted))
    assert torch.equal(with_channels(image[:1], 3), image[:1].expand(3, -1, -1))
    assert with_channels(image, 3) is image


def test_the_seed_determines_who_is_drawn() -> None:
    found = surrogates_of(
        "others", TensorImages(pixels(50, 1, 4, 4)), "d", dataset(pixels(9, 1, 4, 4, seed=1))
    )
    assert torch.equal(found.draw(20, 3), found.draw(20, 3))
    assert not torch.equal(found.draw(20, 3), found.draw(20, 4))
    assert len(found.draw(50, 3).flatten(1).unique(dim=0)) == 50  # nobody twice
    assert found.facts(20) == {"name": "others", "images": 20, "digest": "d"}


def test_fewer_than_asked_for_is_an_error_with_the_number_to_set() -> None:
    found = surrogates_of(
        "others", TensorImages(pixels(5, 1, 4, 4)), "d", dataset(pixels(9, 1, 4, 4))
    )
    with pytest.raises(DataError, match="5 training images, and 6 are asked for; set .* to 5 or"):
        found.draw(6, 0)


@pytest.mark.parametrize("name", ["digits", "digits-parity"])
def test_the_suites_own_images_under_any_name_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="300 of 300 images of .* are images of digits, the suite"):
        load_surrogates(name, load("digits")).draw(300, 0)


def test_images_of_the_test_part_are_refused_too() -> None:
    test = pixels(20, 1, 4, 4, seed=2)
    found = surrogates_of("others", TensorImages(test), "d", dataset(pixels(9, 1, 4, 4), test))
    with pytest.raises(DataError, match="20 of 20 images of others are images of own"):
        found.draw(20, 0)


def test_a_sealed_test_part_stays_unread() -> None:
    own = dataset(pixels(9, 1, 4, 4), pixels(20, 1, 4, 4, seed=2)).sealed()
    found = surrogates_of("others", TensorImages(pixels(20, 1, 4, 4, seed=2)), "d", own)
    assert len(found.draw(20, 0)) == 20


def test_a_few_that_both_datasets_share_are_left_out() -> None:
    own = pixels(9, 1, 4, 4)
    both = torch.cat([own[:2], pixels(198, 1, 4, 4, seed=3)])
    drawn = surrogates_of("others", TensorImages(both), "d", dataset(own)).draw(200, 0)
    assert len(drawn) == 198
    assert not (drawn[:, None] == own[None, :2]).flatten(2).all(2).any()


def test_of_streamed_images_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlearn_bench.data.surrogate_data.COMPARED", 50)
    data = pixels(500, 1, 4, 4)
    streamed = Part(StreamedImages(data.__getitem__, 500, (1, 4, 4)), torch.zeros(500).long())
    plain = dataset(data)
    own = Dataset("own", streamed, plain.test, ("a", "b"), (0.4,), (0.3,), "own")
    found = surrogates_of("others", TensorImages(data), "d", own)
    assert found.share == pytest.approx(0.1)
    with pytest.raises(DataError, match="are images of own"):
        found.draw(100, 0)


def test_content_and_size_make_the_digest_not_the_name(others: Path) -> None:
    def digest(name: str, *shape: int) -> str:
        return load_surrogates(name, dataset(pixels(5, *shape)), root=others).digest

    plain = digest(FOLDER, 1, 8, 8)
    (others / "others").rename(others / "moved")
    moved = "imagefolder:moved"
    assert digest(moved, 1, 8, 8) == plain
    assert plain != digest(moved, 3, 8, 8) != digest(moved, 3, 9, 9)
    (others / "moved" / "train" / "a" / "0.png").unlink()
    assert digest(moved, 1, 8, 8) != plain


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("cifar11", UnknownNameError, "surrogate_data: no dataset named 'cifar11'.*cifar10"),
        ("cifar10", DataError, "surrogate_data: .*cifar10|surrogate_data: .*CIFAR10"),
        ("imagefolder:nowhere", DataError, "surrogate_data: .*nowhere"),
    ],
)
def test_what_is_not_there_is_named(
    name: str, error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        load_surrogates(name, dataset(pixels(5, 1, 8, 8)), root=tmp_path)


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(DataError, match="1 channels, those of own 2; only grey and colour"):
        load_surrogates("digits", dataset(pixels(5, 2, 8, 8)))


def test_as_inputs_they_are_normalised_as_the_suites_own_batches() -> None:
    from unlearn_bench.conformance.world import make_world
    from unlearn_bench.execution.task import Unlearning
    from unlearn_bench.plugins import registry

    world = make_world("class:3", examples=60, logged=False)
    images = pixels(7, 1, 8, 8)
    method = registry.get("scar")
    handed = Unlearning(world.task, method, surrogates=images).context.surrogates
    part, data = Part(TensorImages(images), torch.zeros(7).long()), world.data
    ((own, _),) = iterate(
        part,
        torch.arange(7),
        batch_size=7,
        device=torch.device("cpu"),
        mean=data.mean,
        std=data.std,
    )
    torch.testing.assert_close(handed, own)
