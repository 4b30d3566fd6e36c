"""Who is forgotten, in words: how many of the original's training images, of which classes."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from unlearn_bench.core.quantities import in_order
from unlearn_bench.data.images import Dataset
from unlearn_bench.execution.run import Runner
from unlearn_bench.suite.spec import RunSpec

SHOWN_CLASSES = 10


def forgotten(runs: Iterable[RunSpec], runner: Runner) -> Iterator[str]:
    """Yield a line for every dataset and scenario, of a stream for every request.

    Args:
        runs: Of a plan. Where others are forgotten under another seed, the first one's are told.
        runner: Has the data and divides them.

    Raises:
        UserError: If the data are missing, or the forget set does not exist.
    """
    seen: dict[tuple[str, str], RunSpec] = {}
    for spec in runs:
        seen.setdefault((spec.dataset, spec.place), spec)
    for (name, place), spec in seen.items():
        data, indices = runner.dataset(spec), runner.check_split(spec)
        count, everyone = len(indices.forget), len(indices.train)
        line = f"{name}, {place}: forgets {count:,} of {everyone:,} training images"
        if spec.forget.memorised is not None:
            yield f"{line}, chosen by how far models memorise them"
            continue
        line += f" ({_by_class(data, indices.forget)})"
        if spec.asked.named and data.counted:
            line += f"; indices count {data.counted}"
        yield line


def _by_class(data: Dataset, forget: Tensor) -> str:
    counts = torch.bincount(data.train.labels[forget], minlength=data.num_classes)
    order = counts.sort(descending=True, stable=True).indices.tolist()
    there = [f"{data.classes[label]}: {int(counts[label]):,}" for label in order if counts[label]]
    return in_order(there, SHOWN_CLASSES)
