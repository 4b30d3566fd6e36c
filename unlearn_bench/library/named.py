"""The splits of a dataset that is known by name, as a suite has them."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import ValidationError

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.core.seeds import derive
from unlearn_bench.data import datasets
from unlearn_bench.data import splits as index_sets
from unlearn_bench.data.images import Dataset
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.toolkit.context import Split


@dataclass(frozen=True)
class Splits:
    """Who is forgotten, who is kept, and what no model has seen.

    Attributes:
        forget: F.
        retain: R.
        validation: V, held out of the training part.
        test: The whole test part.
        scenario: Their name.
    """

    forget: Split
    retain: Split
    validation: Split
    test: Split
    scenario: str


def splits(
    dataset: str,
    forget: str,
    *,
    seed: int = 0,
    validation: float = 0.1,
    root: Path | None = None,
    image_size: int | None = None,
    download: bool = False,
) -> Splits:
    """Return the splits of a dataset as a suite divides it under the same seed.

    Args:
        dataset: A name of `unlearn-bench list datasets`, such as ``cifar10`` or ``parquet:PATH``.
        forget: ``class:8``, ``classes:1,2``, ``random:0.1``, ``indices:FILE`` ...
        seed: Determines what is held out, and who is forgotten at random.
        validation: Share of the training part that is held out.
        root: Folder of the datasets, by default ``data``.
        image_size: Side in pixels to which images are resized.
        download: Whether missing files may be downloaded.

    Raises:
        DataError: If the data are missing, or nobody is forgotten.
        ConfigError: If ``forget`` does not say who is forgotten.
    """
    try:
        scenario = Forget.model_validate(forget)
    except ValidationError as error:
        raise ConfigError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    data = datasets.load(dataset, root=root, image_size=image_size, download=download)
    indices = index_sets.make(
        scenario,
        data.train.labels,
        data.test.labels,
        data.classes,
        validation=validation,
        seed=seed,
        numbers=data.train.numbers,
        attributes=data.attributes,
    )
    everyone = torch.arange(len(data.test.labels))
    parts = {
        name: _split(name, data, getattr(indices, name), seed)
        for name in ("forget", "retain", "validation")
    }
    test = _split("test", replace(data, train=data.test), everyone, seed)
    return Splits(**parts, test=test, scenario=scenario.name)


def _split(name: str, data: Dataset, indices: torch.Tensor, seed: int) -> Split:
    return Split(
        name,
        data,
        indices,
        Recipe(augment="none"),
        device=torch.device("cpu"),
        seed=derive(seed, "library", name),
        ledger=Counter(),
    )
