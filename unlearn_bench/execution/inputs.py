"""The datasets of runs, loaded when first asked for; the last two stay in memory."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from unlearn_bench.data.datasets import Dataset, TensorImages, load, on_device
from unlearn_bench.data.soundness import check_usable
from unlearn_bench.data.sources import Columns
from unlearn_bench.data.surrogate_data import SurrogateData, load_surrogates
from unlearn_bench.suite.spec import Normalize, RunSpec

KEPT_DATASETS = 2


class Inputs:
    """Loads the datasets that runs name, and knows their fingerprints from then on.

    Args:
        device: Where images are put if they fit.
        root: Folder of the datasets.
        download: Whether missing datasets may be downloaded.
        notify: Called with what a user should know of the data.

    Attributes:
        facts: Of every dataset loaded so far, by name: how pixels become inputs, and the order
            of classes.
    """

    def __init__(
        self,
        device: torch.device,
        root: Path | None,
        download: bool,
        notify: Callable[[str], None],
    ) -> None:
        self._device, self._root, self._download = device, root, download
        self._notify = notify
        self._load = lru_cache(maxsize=KEPT_DATASETS)(self._load_now)
        self._fingerprints: dict[tuple[str, int | None, Columns, bool], str] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self._surrogates: dict[tuple[Any, ...], SurrogateData] = {}

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprint of every dataset loaded so far, by name."""
        return {name: fingerprint for (name, *_), fingerprint in self._fingerprints.items()}

    def dataset(self, spec: RunSpec) -> Dataset:
        """Return the run's dataset."""
        return self._load(
            spec.dataset, spec.image_size, spec.normalize, _columns(spec), spec.skip_corrupt
        )

    def fingerprint(self, spec: RunSpec) -> str:
        """Return the fingerprint of the run's dataset."""
        # Known of what was loaded once, also where the device then had no room for it.
        known = self._fingerprints.get(_key(spec))
        return known or self.dataset(spec).fingerprint

    def surrogates(self, spec: RunSpec) -> SurrogateData | None:
        """Return the surrogate images that a run names, None where it names none.

        Raises:
            UserError: If there are none of that name.
        """
        name, tuning = spec.surrogate_data, spec.surrogate is not None
        if name is None:
            return None
        key = name, tuning, _key(spec)
        if key not in self._surrogates:
            own = self.dataset(spec)
            found = load_surrogates(
                name,
                own.sealed() if tuning else own,
                root=self._root,
                download=self._download,
                skip_corrupt=spec.skip_corrupt,
            )
            for note in found.notes:
                self._notify(note)
            self._surrogates = {key: found}  # one set is held at a time
        return self._surrogates[key]

    def surrogate_digest(self, spec: RunSpec) -> str:
        """Return the digest of the surrogate images that a run names; empty where it names none."""
        found = self.surrogates(spec)
        return found.digest if found else ""

    def bytes_held(self, specs: Iterable[RunSpec]) -> int:
        """Return the bytes of images that a process holds at most while it does these runs."""
        sizes = {}
        for spec in specs:
            name = spec.dataset, spec.image_size
            if name not in sizes:
                data = self.dataset(spec)
                images = [part.images for part in (data.train, data.test)]
                sizes[name] = sum(i.nbytes for i in images if isinstance(i, TensorImages))
        return sum(sorted(sizes.values())[-KEPT_DATASETS:])

    def _load_now(
        self,
        name: str,
        image_size: int | None,
        normalize: Normalize | None,
        columns: Columns,
        skip_corrupt: bool,
    ) -> Dataset:
        data = load(
            name,
            root=self._root,
            image_size=image_size,
            download=self._download,
            normalize=normalize,
            columns=columns,
            skip_corrupt=skip_corrupt,
        )
        check_usable(data)
        self._fingerprints[name, image_size, columns, skip_corrupt] = data.fingerprint
        for note in data.notes if name not in self.facts else ():
            self._notify(note)
        self.facts[name] = {"normalization": data.normalization, "classes": list(data.classes)}
        return on_device(data, self._device)


def _key(spec: RunSpec) -> tuple[str, int | None, Columns, bool]:
    return spec.dataset, spec.image_size, _columns(spec), spec.skip_corrupt


def _columns(spec: RunSpec) -> Columns:
    return Columns(spec.label_column, spec.group_column, spec.image_column, spec.split_column)
