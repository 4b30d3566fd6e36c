"""How long runs will take, from what earlier ones took; nothing is guessed where none is known."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from unlearn_bench.core.keys import canonical_json
from unlearn_bench.results.records import RunResult
from unlearn_bench.store import layout
from unlearn_bench.store.layout import DamagedError
from unlearn_bench.suite.spec import ModelSpec

Where = tuple[str, str]


class Durations:
    """Seconds that unlearning, evaluating and training originals took.

    They are kept by dataset and model (``where``) and, for unlearning, by what was run: a label
    of the suite, or what :func:`variant` gives. Of several the mean counts.
    """

    def __init__(self) -> None:
        self._unlearning: dict[tuple[Where, Hashable], _Mean] = defaultdict(_Mean)
        self._evaluating: dict[Where, _Mean] = defaultdict(_Mean)
        self._originals: dict[Where, _Mean] = defaultdict(_Mean)
        self._any: dict[Where, _Mean] = defaultdict(_Mean)

    def add_result(self, result: RunResult, epochs: int = 1) -> None:
        """Learn from a finished run whose original was trained for so many epochs."""
        if result.status != "ok":
            return
        seconds = {
            record.metric: record.value for record in result.records if record.value is not None
        }
        where = (result.dataset, result.model)
        if (spent := seconds.get("wall_seconds")) is not None:
            self._unlearning[where, result.method].add(spent)
            self._any[where].add(spent)
        if (spent := seconds.get("wall_seconds_evaluate")) is not None:
            self._evaluating[where].add(spent)
        if (spent := seconds.get("wall_seconds_original")) is not None:
            self._originals[where].add(spent / epochs)

    def add_store(self, home: Path, device: str) -> int:
        """Learn from the models of a store that were made on ``device``; return how many."""
        models, views, data = 0, [], {}
        for kind, stored in _specs(home):
            identity, notes = stored["identity"], stored["notes"]
            if "model" not in identity or identity.get("device") != device:
                continue
            if _label(identity) is None:
                continue
            if kind not in ("original", "unlearned"):
                views.append((kind, identity, stored.get("build_seconds")))
                continue
            models += 1
            data[identity["data"]] = identity["dataset"]
            where = (identity["dataset"], str(_label(identity)))
            if kind == "original" and "seconds" in notes:
                spent = notes["seconds"]["wall"]
                self._originals[where].add(spent / identity["recipe"]["epochs"])
            if kind == "unlearned" and "unlearn" in notes["cost"]["seconds"]:
                spent = notes["cost"]["seconds"]["unlearn"]["wall"]
                method = (identity["method"], identity["params"], identity["recipe"])
                for what in variants(*method):
                    self._unlearning[where, what].add(spent)
                    self._any[where].add(spent)
        self._add_views(views, data)
        return models

    def _add_views(self, views: list[tuple[str, Any, float | None]], data: dict[str, str]) -> None:
        """Learn what looking at a model took, where no finished run told it."""
        spent: dict[Where, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for kind, identity, seconds in views:
            dataset = data.get(identity.get("data"))
            # What is not of a model's own weights is looked at once for all.
            if dataset is not None and seconds is not None and "weights" in identity:
                spent[dataset, str(_label(identity))][kind].append(seconds)
        for where, kinds in spent.items():
            if where not in self._evaluating:
                self._evaluating[where].add(sum(map(fmean, kinds.values())))

    def unlearning(self, where: Where, what: Iterable[Hashable]) -> float | None:
        """Return the seconds of the first of ``what`` that is known."""
        known = (self._unlearning.get((where, name)) for name in what)
        return next((seconds.value for seconds in known if seconds is not None), None)

    def any_unlearning(self, where: Where) -> float | None:
        """Return the seconds of unlearning by whatever was run there."""
        known = self._any.get(where)
        return None if known is None else known.value

    def evaluating(self, where: Where) -> float | None:
        """Return the seconds of evaluating one model."""
        known = self._evaluating.get(where)
        return None if known is None else known.value

    def original(self, where: Where, epochs: int = 1) -> float | None:
        """Return the seconds of training one original for so many epochs."""
        epoch = self._originals.get(where)
        return None if epoch is None else epoch.value * epochs


def variants(method: str, params: Any, recipe: Any) -> list[Hashable]:
    """Name what was run: with its recipe, and under any recipe."""
    exactly = (method, canonical_json(params))
    return [(*exactly, canonical_json(recipe)), exactly]


class _Mean:
    """A mean that is asked for once per run that is left: it does not add up all values again."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        self._sum += value
        self._count += 1

    @property
    def value(self) -> float:
        return self._sum / self._count


def _label(identity: Any) -> str | None:
    """Name a model; None where another version made it, with keys that this one does not know."""
    try:
        return ModelSpec.model_validate(identity["model"]).label
    except ValidationError:
        return None


def _specs(home: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    for folder in layout.folders(home):
        if not folder.name.startswith("."):
            try:
                yield folder.parent.name, layout.read_spec(folder)
            except (DamagedError, OSError):
                continue
