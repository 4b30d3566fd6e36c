"""Data: named sources of images, who is forgotten, and batches on the device.

``datasets.load("cifar10")`` gives a :class:`~unlearn_bench.data.images.Dataset`;
``batches.iterate`` makes one pass over a part of it.
"""
