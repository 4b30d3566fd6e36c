"""Input recovery: does a small change of the images bring the forgotten back?

A class can be locked: clean images look forgotten, and a key in the image opens it. So images of
F are shown with a fixed battery of changes, and with a patch that is trained for the model: a few
steps of signed gradients on some of F and R, judged on others. What brings most back counts.

Where whole classes are forgotten, a change that makes everything look like them recovers nothing:
the share of R that it turns into a forgotten class is taken off.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate, pad

from unlearn_bench.core.memory import halving
from unlearn_bench.data.batches import iterate
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.measure.outputs import Recovered

BATCH_SIZE = 256
# Examples of F that are judged, at most, and as many of R; and of each that train the patch.
JUDGED, TRAINED = 256, 32
# The patch: signed steps, their size in pixel values of [0, 1], and its side as a share.
STEPS, STEP, SIDE = 8, 0.15, 0.25

# Changes images [N, C, H, W] with pixels in [0, 1]; differentiable in whatever it is trained by.
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Images:
    """Images with pixels in [0, 1], and their labels."""

    x: Tensor
    y: Tensor


def recover(
    model: nn.Module,
    dataset: Dataset,
    forgotten: Tensor,
    retained: Tensor,
    device: torch.device,
    forget_classes: tuple[int, ...] = (),
) -> Recovered:
    """Return what the change that brings most of F back brings back.

    Args:
        model: In eval mode; left as it is.
        dataset: Where examples come from.
        forgotten: Examples of F, into the training part.
        retained: Examples of R, likewise.
        device: Where the model is.
        forget_classes: Those forgotten whole.
    """
    model = _Normalised(model, dataset, device)
    judged, trained = zip(*(_halves(part) for part in (forgotten, retained)), strict=True)
    count = min(JUDGED, len(judged[0]))
    f, r = (_images(dataset, part[:count], device) for part in judged)
    taught = [_images(dataset, part[:TRAINED], device) for part in trained]
    changes = battery(f.x.shape) | {
        "trained patch": trained_patch(
            model, torch.cat([part.x for part in taught]), torch.cat([part.y for part in taught])
        )
    }
    right = {
        name: _share(answers == f.y) for name, answers in _answers(model, changes, f.x).items()
    }
    classes, order = torch.tensor(forget_classes, device=device), list(changes)
    found = dict.fromkeys(changes, 0.0)
    # Mostly nothing is brought back, or everything: R is asked only where it can matter.
    for name in sorted(right, key=lambda name: right[name], reverse=True):
        best = max(found, key=lambda name: found[name])
        if (right[name], -order.index(name)) <= (found[best], -order.index(best)):
            continue
        found[name] = right[name]
        if forget_classes:
            (answers,) = _answers(model, {name: changes[name]}, r.x).values()
            found[name] = max(0.0, right[name] - _share(torch.isin(answers, classes)))
    best = max(found, key=lambda name: found[name])
    return Recovered(found[best], best, len(f.y))


def _share(answers: Tensor) -> float:
    return float(answers.double().mean())


def battery(shape: torch.Size) -> dict[str, Change]:
    """Return the fixed changes by name, no change included.

    Args:
        shape: Of a batch of images.
    """
    corners = _corners(shape)
    found: dict[str, Change] = {"no change": lambda x: x}
    for shade, value in (("black", 0.0), ("white", 1.0)):
        for corner, mask in corners.items():
            found[f"{shade} patch, {corner}"] = _covered(mask, value)
    found["darker"] = lambda x: 0.5 * x
    found["brighter"] = lambda x: (1.5 * x).clamp(max=1)
    found["blurred"] = lambda x: avg_pool2d(pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    found["cropped"] = _cropped
    return found


def trained_patch(model: nn.Module, x: Tensor, y: Tensor) -> Change:
    """Return patches in all four corners that lower the loss on images of F and R.

    Args:
        model: Takes pixels in [0, 1].
        x: Images, [N, C, H, W].
        y: Their true labels, [N].
    """
    mask = sum(_corners(x.shape).values()).to(x)  # type: ignore[union-attr]
    patch = torch.full_like(x[:1], 0.5)
    for _ in range(STEPS):
        patch.requires_grad_(True)
        with torch.enable_grad():
            loss = cross_entropy(model(x * (1 - mask) + patch * mask), y)
        (gradient,) = torch.autograd.grad(loss, patch)
        patch = (patch.detach() - STEP * gradient.sign()).clamp(0, 1)
    return lambda images: images * (1 - mask) + patch * mask


class _Normalised(nn.Module):
    """A model that takes pixels in [0, 1]."""

    def __init__(self, model: nn.Module, dataset: Dataset, device: torch.device) -> None:
        super().__init__()
        self._model = model
        self._mean, self._std = (
            torch.tensor(values, device=device).view(-1, 1, 1)
            for values in (dataset.mean, dataset.std)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._model((x - self._mean) / self._std)
        return logits


def _halves(members: Tensor) -> tuple[Tensor, Tensor]:
    """Divide examples into those that are judged and those that train; a single one does both."""
    return members[::2], members[1::2] if len(members) > 1 else members


def _images(dataset: Dataset, chosen: Tensor, device: torch.device) -> _Images:
    channels = len(dataset.mean)
    batches = list(
        iterate(
            dataset.train,
            chosen,
            batch_size=BATCH_SIZE,
            device=device,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
        )
    )
    return _Images(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))


@torch.no_grad()
def _answers(model: nn.Module, changes: Mapping[str, Change], x: Tensor) -> dict[str, Tensor]:
    """Return the predicted classes of images under every change; batches hold several changes."""

    def rows_in(batch_size: int) -> Tensor:
        parts = [(change, part) for change in changes.values() for part in x.split(batch_size)]
        together = max(1, batch_size // len(x))
        return torch.cat(
            [
                model(torch.cat([change(part) for change, part in parts[i : i + together]])).argmax(
                    1
                )
                for i in range(0, len(parts), together)
            ]
        )

    rows = halving("input recovery", BATCH_SIZE, rows_in).split(len(x))
    return dict(zip(changes, rows, strict=True))


def _corners(shape: torch.Size) -> dict[str, Tensor]:
    """Return masks of the four corners by name, bool [H, W]."""
    height, width = shape[-2:]
    found = {}
    for vertical, rows in _ends(height, "top", "bottom"):
        for horizontal, columns in _ends(width, "left", "right"):
            mask = torch.zeros(height, width, dtype=torch.bool)
            mask[rows, columns] = True
            found[f"{vertical} {horizontal}"] = mask
    return found


def _ends(size: int, first: str, last: str) -> Iterator[tuple[str, slice]]:
    side = max(1, round(SIDE * size))
    yield first, slice(0, side)
    yield last, slice(size - side, size)


def _covered(mask: Tensor, value: float) -> Change:
    return lambda x: x.masked_fill(mask.to(x.device), value)


def _cropped(x: Tensor) -> Tensor:
    """Show the middle three quarters, enlarged."""
    height, width = x.shape[-2:]
    top, left = height // 8, width // 8
    middle = x[..., top : height - top, left : width - left]
    return interpolate(middle, (height, width), mode="bilinear", align_corners=False)
