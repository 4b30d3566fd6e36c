"""One pass over a part: shuffled, augmented, normalised batches on the device.

Whole batches are cropped and flipped by a single gather, each image in its own way. Images
that already live on the device cost no transfer; others are fetched in the background while
the batch before is being used.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn import functional

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.data.images import Images, Part, TensorImages

AUGMENTATIONS = ("none", "crop", "crop-flip")
SMALL_IMAGE = 64  # pixels; the literature pads images up to this size by 4, larger ones by an 8th
AHEAD = 2  # batches fetched ahead: one ready, one being read


def iterate(
    part: Part,
    indices: Tensor,
    *,
    batch_size: int,
    device: torch.device,
    mean: Sequence[float],
    std: Sequence[float],
    augment: str = "none",
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Make one pass over ``part[indices]``; the last, short batch is kept.

    All random numbers of the pass are drawn when this is called, from ``generator`` and in an
    order that does not depend on ``device``: a pass given up half-way leaves the generator
    as a complete one does, and a CPU generator gives the same pass on every device.

    Args:
        part: Where the images come from.
        indices: int64 [M], which of its images; repetitions are allowed.
        batch_size: Images per batch, at least 1.
        device: Where the batches are wanted.
        mean: Per channel, of pixels scaled to [0, 1].
        std: Per channel, likewise.
        augment: ``"none"``; ``"crop"``: pad with black and cut out a random place, per image;
            ``"crop-flip"``: also mirror every second image, at random.
        generator: Shuffles and augments; without it the images come in order and unchanged.

    Yields:
        x, float32 [B, C, H, W], ``(pixel / 255 - mean) / std``, and y, int64 [B].

    Raises:
        ParameterError: If an argument is out of its range.
    """
    if batch_size < 1:
        raise ParameterError(f"batch_size is {batch_size}; it must be at least 1")
    if augment not in AUGMENTATIONS:
        raise ParameterError(f"augment is {augment!r}; choose from {', '.join(AUGMENTATIONS)}")
    if augment != "none" and generator is None:
        raise ParameterError(f"augment {augment!r} needs a generator; without one use 'none'")
    indices = indices.cpu()
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(part.labels):
        raise ParameterError(f"indices must lie in 0..{len(part.labels) - 1}")

    crops = None
    if generator is not None:
        order = torch.randperm(len(indices), generator=generator, device=generator.device)
        indices = indices[order.cpu()]
        if augment != "none":
            crops = _draw_crops(part.images, len(indices), augment == "crop-flip", generator)
            crops = crops.to(device)
    labels = part.labels[indices].to(device)
    return _batches(part.images, indices, labels, crops, batch_size, device, mean, std)


def _batches(
    images: Images,
    indices: Tensor,
    labels: Tensor,
    crops: Tensor | None,
    batch_size: int,
    device: torch.device,
    mean: Sequence[float],
    std: Sequence[float],
) -> Iterator[tuple[Tensor, Tensor]]:
    # Pixels stay in 0..255 here, so the constants are scaled instead of every image.
    shift = 255 * torch.tensor(mean, device=device).view(-1, 1, 1)
    scale = 1 / (255 * torch.tensor(std, device=device).view(-1, 1, 1))
    if not len(indices):
        return  # splitting nothing would give one empty batch
    start = 0
    for pixels in _fetched(images, indices, batch_size, device):
        end = start + len(pixels)
        if crops is not None:
            pixels = crop_and_flip(pixels, padding(images.shape[1:]), *crops[:, start:end])
        yield pixels.to(torch.float32).sub_(shift).mul_(scale), labels[start:end]
        start = end


def _fetched(
    images: Images, indices: Tensor, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield the uint8 batches on ``device``, read ahead unless they are one gather away."""
    if isinstance(images, TensorImages) and images.device.type == device.type:
        for chosen in indices.to(images.device).split(batch_size):
            yield images.fetch(chosen).to(device)
        return

    pinned = device.type == "cuda"  # lets the copy run while the device still computes

    def fetch(chosen: Tensor) -> Tensor:
        pixels = images.fetch(chosen)
        return pixels.pin_memory() if pinned else pixels

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        waiting: list[Future[Tensor]] = []
        try:
            for chosen in indices.split(batch_size):
                waiting.append(reader.submit(fetch, chosen))
                if len(waiting) > AHEAD:
                    yield waiting.pop(0).result().to(device, non_blocking=pinned)
            while waiting:
                yield waiting.pop(0).result().to(device, non_blocking=pinned)
        finally:
            # The pass may be given up half-way: do not read what nobody wants any more.
            for future in waiting:
                future.cancel()


def padding(size: tuple[int, int]) -> int:
    """Return how far a crop may move an image, in pixels: 4 for small ones, else an eighth."""
    return 4 if max(size) <= SMALL_IMAGE else max(size) // 8


def _draw_crops(images: Images, count: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Draw where each image is cut out and whether it is mirrored: int64 [3, count]."""
    reach = 2 * padding(images.shape[1:]) + 1
    place = torch.randint(reach, (2, count), generator=generator, device=generator.device)
    mirrored = torch.randint(
        2 if flip else 1, (1, count), generator=generator, device=generator.device
    )
    return torch.cat([place, mirrored])


def crop_and_flip(images: Tensor, pad: int, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
    """Pad with zeros, cut each image out at its own place and mirror some of them.

    Args:
        images: [B, C, H, W] of any type.
        pad: Pixels added on each side.
        top: int64 [B], first row of each crop within the padded image, 0 to 2 * pad.
        left: int64 [B], first column, likewise.
        mirrored: int64 [B], 1 where the crop is mirrored left to right, else 0.

    Returns:
        The crops, [B, C, H, W].
    """
    batch, channels, height, width = images.shape
    padded = functional.pad(images, (pad, pad, pad, pad))
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = left[:, None] + torch.where(mirrored[:, None] == 1, width - 1 - columns, columns)
    # One flat gather does crop and flip at once, and is faster than indexing row by row.
    flat = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]
    flat = flat.view(batch, 1, height * width).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, flat).view(images.shape)
