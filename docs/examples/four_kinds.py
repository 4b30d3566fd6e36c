"""Your own network, dataset, metric and method in one file."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from unlearn_bench.api import Access, Data, dataset, method, metric, model


@model("my_net")
def my_net(channels, image_size, num_classes):
    """Two layers."""
    pixels = channels * image_size[0] * image_size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 32), nn.ReLU(), nn.Linear(32, num_classes))


@dataset("my_scans")
def my_scans(root):
    """Bright rows at one of three heights, in noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 120, (300, 1, 8, 8), generator=generator)
    labels = torch.arange(300) % 3
    for image, label in zip(images, labels, strict=True):
        image[0, 3 * label] += 100
    images = images.byte()
    return Data(
        train=(images[:210], labels[:210]),
        test=(images[210:], labels[210:]),
        classes=["high", "middle", "low"],
    )


@metric("my_metric", split="forget", label="Worst loss", unit="score", floor=0.1, inward=True)
def my_metric(seen):
    """Largest loss of a forgotten example."""
    return float(seen.unlearned["forget"].nll().max())


@method("my_method", access=Access.FORGET)
def my_method(model, ctx, *, lr: float = 0.05):
    """Climb the loss on F once.

    Args:
        lr: Step size. Ours.
    """
    for x, y in ctx.forget.batches():
        loss = cross_entropy(model(x), y)
        gradients = torch.autograd.grad(loss, [*model.parameters()])
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.add_(lr * gradient)
        ctx.log(loss=loss)
    return model
