"""A mean over seeds and how far to trust it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % t-interval.

    Attributes:
        mean: Arithmetic mean.
        half_width: Half the interval's width; None for a single seed, which has no interval.
        n: Number of seeds.
    """

    mean: float
    half_width: float | None
    n: int

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.half_width is None else self.mean + self.half_width

    def scaled(self, factor: float) -> "Estimate":
        """Return the same estimate in another unit."""
        half_width = None if self.half_width is None else self.half_width * factor
        return Estimate(self.mean * factor, half_width, self.n)


def estimate(values: Iterable[float]) -> Estimate | None:
    """Estimate the mean of ``values``, one per seed; values that are not finite are left out.

    The interval is ``mean ± t(0.975, n - 1) * s / sqrt(n)`` with the sample deviation ``s``.

    Returns:
        None if no finite value is left.
    """
    finite = [float(value) for value in values if math.isfinite(value)]
    n = len(finite)
    if n == 0:
        return None
    mean = math.fsum(finite) / n
    if n == 1:
        return Estimate(mean, None, 1)
    # scipy.special rather than scipy.stats: the same quantile without a second of import.
    from scipy.special import stdtrit

    return Estimate(mean, float(stdtrit(n - 1, 0.975)) * _standard_error(finite, mean), n)


def paired_p_value(differences: Iterable[float]) -> float:
    """Return the two-sided p-value of a paired t-test of "the mean difference is 0".

    Fewer than two differences cannot contradict anything: the value is then 1.
    """
    finite = [float(value) for value in differences if math.isfinite(value)]
    n = len(finite)
    if n < 2:
        return 1.0
    mean = math.fsum(finite) / n
    error = _standard_error(finite, mean)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    from scipy.special import stdtr

    return 2 * float(stdtr(n - 1, -abs(mean / error)))


def welch(first: Iterable[float], second: Iterable[float]) -> tuple[Estimate, float]:
    """Estimate ``mean(second) - mean(first)`` of independent samples with unequal spreads.

    Args:
        first: At least two finite values.
        second: Likewise.

    Returns:
        The difference with its 95 % interval, n the smaller sample's, and the two-sided p-value
        of "the means are equal".

    Source: Welch 1947, Biometrika 34; degrees of freedom by Satterthwaite.
    """
    from scipy.special import stdtr, stdtrit

    samples = [[float(value) for value in values] for values in (first, second)]
    means = [math.fsum(values) / len(values) for values in samples]
    squares = [_standard_error(v, m) ** 2 for v, m in zip(samples, means, strict=True)]
    change, n = means[1] - means[0], min(map(len, samples))
    error = math.sqrt(sum(squares))
    if error == 0:
        return Estimate(change, 0.0, n), 1.0 if change == 0 else 0.0
    freedom = sum(squares) ** 2 / sum(
        square**2 / (len(values) - 1) for square, values in zip(squares, samples, strict=True)
    )
    half_width = float(stdtrit(freedom, 0.975)) * error
    return Estimate(change, half_width, n), 2 * float(stdtr(freedom, -abs(change / error)))


def _standard_error(values: Sequence[float], mean: float) -> float:
    n = len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
