"""How long runs will take, from what earlier ones took; nothing is guessed where none is known."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from statistics import fmean

from unlearn_bench.results import RunResult


class Durations:
    """Seconds that unlearning, evaluating and training originals took.

    They are kept by dataset, model and, for unlearning, what was run; of several the mean
    counts.
    """

    def __init__(self) -> None:
        self._unlearning: dict[tuple[str, str, Hashable], list[float]] = defaultdict(list)
        self._evaluating: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._originals: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add_result(self, result: RunResult) -> None:
        """Learn from a finished run."""
        if result.status != "ok":
            return
        seconds = {
            record.metric: record.value for record in result.records if record.value is not None
        }
        where = (result.dataset, result.model)
        if (spent := seconds.get("wall_seconds")) is not None:
            self.add_unlearning(*where, result.method, spent)
        if (spent := seconds.get("wall_seconds_evaluate")) is not None:
            self.add_evaluating(*where, spent)
        if (spent := seconds.get("wall_seconds_original")) is not None:
            self.add_original(*where, spent)

    def add_unlearning(self, dataset: str, model: str, what: Hashable, seconds: float) -> None:
        """Learn what unlearning by ``what``, a label or a method, took."""
        self._unlearning[dataset, model, what].append(seconds)

    def add_evaluating(self, dataset: str, model: str, seconds: float) -> None:
        """Learn what evaluating a model took."""
        self._evaluating[dataset, model].append(seconds)

    def add_original(self, dataset: str, model: str, seconds: float) -> None:
        """Learn what training an original took."""
        self._originals[dataset, model].append(seconds)

    def unlearning(self, dataset: str, model: str, what: Iterable[Hashable]) -> float | None:
        """Return the seconds of the first of ``what`` that is known."""
        known = (self._unlearning.get((dataset, model, name)) for name in what)
        return next((fmean(seconds) for seconds in known if seconds), None)

    def any_unlearning(self, dataset: str, model: str) -> float | None:
        """Return the seconds of unlearning by whatever was run there."""
        seconds = [s for (*where, _), all_ in self._unlearning.items()
                   if where == [dataset, model] for s in all_]  # fmt: skip
        return fmean(seconds) if seconds else None

    def evaluating(self, dataset: str, model: str) -> float | None:
        """Return the seconds of evaluating one model."""
        seconds = self._evaluating.get((dataset, model))
        return fmean(seconds) if seconds else None

    def original(self, dataset: str, model: str) -> float | None:
        """Return the seconds of training one original."""
        seconds = self._originals.get((dataset, model))
        return fmean(seconds) if seconds else None
