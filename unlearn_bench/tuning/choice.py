"""Which of the settings that were tried is taken: the cheapest among the best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from unlearn_bench.analysis.estimate import estimate
from unlearn_bench.suite.tuned import NoiseCheck

# Of a trial that failed before any other gave a number: no gap is larger.
WORST = 100.0


@dataclass(frozen=True)
class Trial:
    """One setting of one method, tried on every surrogate under every tuning seed.

    Attributes:
        number: From 0, which is the published default.
        params: All parameters.
        gaps: In points, by surrogate and seed; None where the run failed.
        seconds: All of its runs together.
        cost: Examples that went through models, forwards and backwards, per run: unlike seconds
            the same whenever it is repeated.
        reason: Why a run failed; empty if none did.
    """

    number: int
    params: Mapping[str, Any]
    gaps: tuple[float | None, ...]
    seconds: float
    cost: float
    reason: str = ""

    @property
    def gap(self) -> float | None:
        """Mean over surrogates and seeds; None if a run failed."""
        known = [gap for gap in self.gaps if gap is not None and math.isfinite(gap)]
        return fmean(known) if known and len(known) == len(self.gaps) else None

    @property
    def error(self) -> float:
        """Standard error of the mean; 0 for a single run, which has none."""
        known = [gap for gap in self.gaps if gap is not None]
        return stdev(known) / math.sqrt(len(known)) if len(known) > 1 else 0.0


def values(trials: Sequence[Trial]) -> list[float]:
    """Return each trial's mean gap, of failed ones the worst that was seen."""
    known = [trial.gap for trial in trials if trial.gap is not None]
    worst = max(known, default=WORST)
    return [worst if trial.gap is None else trial.gap for trial in trials]


def choose(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial whose setting is taken; None if all failed.

    The cheapest of those within one standard error of the best, and in no case one that came out
    worse than the default. Of equally cheap ones the better, then the earlier is taken.
    """
    done = [(trial.gap, trial) for trial in trials if trial.gap is not None]
    if not done:
        return None
    least, best = min(done, key=lambda found: (found[0], found[1].number))
    limit = least + best.error
    default = next((gap for gap, trial in done if trial.number == 0), math.inf)
    limit = min(limit, max(default, least))
    near = [(trial.cost, gap, trial.number, trial) for gap, trial in done if gap <= limit]
    return min(near, key=lambda found: found[:3])[3]


def check(default: Sequence[float | None], tuned: Sequence[float | None]) -> NoiseCheck:
    """Compare the default and the chosen setting where neither was looked at before.

    Args:
        default: Gap per surrogate in points; None where the run failed.
        tuned: Likewise, in the same order.
    """

    def mean(gaps: Sequence[float | None]) -> float | None:
        known = [gap for gap in gaps if gap is not None]
        return fmean(known) if known and len(known) == len(gaps) else None

    pairs = zip(default, tuned, strict=True)
    difference = estimate(t - d for d, t in pairs if d is not None and t is not None)
    return NoiseCheck(
        default=mean(default),
        tuned=mean(tuned),
        difference=difference.mean if difference else None,
        low=difference.low if difference else None,
        high=difference.high if difference else None,
    )
