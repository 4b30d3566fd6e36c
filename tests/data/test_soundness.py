"""Datasets from which nothing can be learnt."""

from dataclasses import replace

import pytest
import torch

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import datasets
from unlearn_bench.data.images import Part, TensorImages
from unlearn_bench.data.soundness import check_usable


def digits(images: torch.Tensor, labels: torch.Tensor) -> datasets.Dataset:
    whole = datasets.load("digits")
    return replace(whole, train=Part(TensorImages(images), labels))


def test_a_single_class_is_refused() -> None:
    images = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8)
    with pytest.raises(DataError, match="digits has a single class, '3', .* add images of another"):
        check_usable(digits(images, torch.full((6,), 3)))


@pytest.mark.parametrize("value", [0, 255])
def test_equal_pixels_are_refused(value: int) -> None:
    images = torch.full((6, 1, 8, 8), value, dtype=torch.uint8)
    with pytest.raises(DataError, match=f"have the value {value}; they show nothing"):
        check_usable(digits(images, torch.arange(6)))
    images[5, 0, 7, 7] ^= 1
    check_usable(digits(images, torch.arange(6)))


def test_images_of_one_colour_each_are_usable() -> None:
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    check_usable(digits(images, torch.arange(6)))
