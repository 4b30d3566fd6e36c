"""CIFAR-10 with its first 5,000 training images alone, so that an audit trains in minutes."""

import torch

from unlearn_bench.api import Data, dataset
from unlearn_bench.data.datasets import load

COUNT = 5000


@dataset("cifar10_5k")
def cifar10_5k(root):
    """First 5,000 training images of CIFAR-10, and its whole test part."""
    data = load("cifar10", root=root)
    return Data(
        train=(data.train.images.fetch(torch.arange(COUNT)), data.train.labels[:COUNT]),
        test=(data.test.images.fetch(torch.arange(len(data.test.labels))), data.test.labels),
        classes=data.classes,
        mean=data.mean,
        std=data.std,
    )
