"""Shifted copies: what they show, and that the model stays as it was."""

import torch

from unlearn_bench.data.batches import iterate
from unlearn_bench.measure import evaluate, probes
from unlearn_bench.measure.probes.copies import SHIFTS, logits_on_copies, shifted

from .conftest import CPU


def test_an_image_moves_by_a_pixel_and_repeats_its_edge():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    assert shifted(image, 1, 0)[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert shifted(image, -1, 0)[0, 0].tolist() == [[3, 4, 5], [6, 7, 8], [6, 7, 8]]
    assert shifted(image, 0, 1)[0, 0].tolist() == [[0, 0, 1], [3, 3, 4], [6, 6, 7]]
    assert shifted(image, 0, -1)[0, 0].tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]
    assert torch.equal(shifted(image, 0, 0), image)


def test_large_images_move_by_a_32nd_of_their_side():
    image = torch.rand(1, 3, 64, 96)
    assert torch.equal(shifted(image, 1, 0)[..., 2:, :], image[..., :-2, :])
    assert torch.equal(shifted(image, 0, -1)[..., :-3], image[..., 3:])


def test_every_copy_is_judged_as_if_its_pixels_had_been_stored_shifted(lab):
    chosen = lab.indices.test_forget
    with probes.untouched(lab.original):
        found = logits_on_copies(lab.original, lab.data, lab.data.test, chosen, CPU)
    assert found.shape == (len(SHIFTS), len(chosen), 10)
    plain = evaluate.logits(lab.original, lab.data, lab.data.test, CPU, chosen)
    assert torch.equal(found[0], plain)
    pixels, _ = next(
        iterate(lab.data.test, chosen, batch_size=512, device=CPU, mean=(0.0,), std=(1.0,))
    )
    x = (shifted(pixels, *SHIFTS[2]) - lab.data.mean[0]) / lab.data.std[0]
    with torch.no_grad():
        assert torch.allclose(found[2], lab.original(x).double(), atol=1e-4)
