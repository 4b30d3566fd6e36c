"""Made-up images: their statistics, and that the seed is all that determines them."""

import pytest
import torch

from unlearn_bench.toolkit.surrogate_images import surrogate_images


def made(kind, seed=0, shape=(3, 16, 12)):
    return surrogate_images(kind, 200, shape, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["texture", "gaussian"])
def test_the_seed_determines_them(kind):
    assert made(kind).shape == (200, 3, 16, 12)
    assert torch.equal(made(kind), made(kind)) and not torch.equal(made(kind), made(kind, seed=1))


def test_every_texture_has_mean_0_and_variance_1():
    flat = made("texture").flatten(1)
    assert flat.mean(1).abs().max() < 1e-4
    torch.testing.assert_close(flat.std(1), torch.ones(200))


def test_neighbouring_pixels_agree_in_textures_and_not_in_noise():
    def agreement(images):
        return float((images[..., 1:] * images[..., :-1]).mean() / images.square().mean())

    assert agreement(made("texture")) > 0.5
    assert abs(agreement(made("gaussian"))) < 0.05


def test_odd_sizes_and_one_channel_are_made_as_well():
    assert made("texture", shape=(1, 7, 5)).shape == (200, 1, 7, 5)
