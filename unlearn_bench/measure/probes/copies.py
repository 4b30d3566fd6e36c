"""Shifted copies of the images, for an attacker who is given labels alone.

A model is often right about what it was trained on however the image lies, and about what it never
saw only as it happens to lie. The copies are the image and its shifts by a pixel to either side, up
and down; of larger images by a 32nd of the side.

Source: Choquette-Choo et al. 2021, arXiv:2007.14321, translations with d = 1.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from unlearn_bench.data.datasets import Dataset, Part
from unlearn_bench.measure.evaluate import BATCH_SIZE, logits

# (down, right), in steps.
SHIFTS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
STEP = 1 / 32


def shifted(x: Tensor, down: int, right: int) -> Tensor:
    """Shift images, repeating their edge.

    Args:
        x: [N, C, H, W].
        down: Steps of max(1, round(H / 32)) pixels; negative is up.
        right: Steps of max(1, round(W / 32)) pixels; negative is left.
    """
    height, width = x.shape[-2:]
    down, right = (
        steps * max(1, round(STEP * side)) for steps, side in ((down, height), (right, width))
    )
    margins = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    moved = pad(x, margins, mode="replicate")
    top, left = max(-down, 0), max(-right, 0)
    return moved[..., top : top + height, left : left + width]


def logits_on_copies(
    model: nn.Module, dataset: Dataset, part: Part, chosen: Tensor, device: torch.device
) -> Tensor:
    """Return the model's logits on every copy, float64 [len(SHIFTS), N, C] on the CPU.

    Args:
        model: In eval mode; left as it is.
        dataset: For its normalisation.
        part: Training or test part of it.
        chosen: Examples of the part, [N].
        device: Where the model is.
    """
    seen = logits(_Shifted(model), dataset, part, device, chosen, BATCH_SIZE // len(SHIFTS))
    return seen.view(len(seen), len(SHIFTS), -1).transpose(0, 1).contiguous()


class _Shifted(nn.Module):
    """A model that is shown every image under all shifts, and says one row of them, [N, S * C]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self._model(torch.cat([shifted(x, *shift) for shift in SHIFTS]))
        return found.view(len(SHIFTS), len(x), -1).transpose(0, 1).flatten(1)
