"""A mean over seeds and how far to trust it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The normal distribution's 97.5 % quantile: half of a 95 % interval in standard errors.
Z = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval.

    Attributes:
        mean: Arithmetic mean.
        half_width: Half the interval's width; None for a single seed, unless its error over
            examples is known.
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


def estimate_gap(gaps: Iterable[float], errors: Iterable[float]) -> Estimate | None:
    """Estimate a mean gap to retraining from seeds and from the paired examples under each.

    The interval is ``mean ± t(0.975, n - 1) * sqrt((s^2 + mean(e^2)) / n)``, as in
    :attr:`Sample.square`; of a single seed ``± z(0.975) * e``, where ``e`` is known.

    Args:
        gaps: One per seed; those that are not finite are left out.
        errors: Standard error of each over its examples, NaN where none is known.

    Returns:
        None if no finite gap is left.
    """
    pairs = [(g, e) for g, e in zip(gaps, errors, strict=True) if math.isfinite(g)]
    known = Sample([g for g, _ in pairs], [e if math.isfinite(e) else 0.0 for _, e in pairs])
    if len(pairs) > 1:
        from scipy.special import stdtrit

        n = len(pairs)
        half_width = float(stdtrit(n - 1, 0.975)) * math.sqrt(known.square)
        return Estimate(known.mean, half_width, n)
    if pairs and math.isfinite(pairs[0][1]):
        return Estimate(known.mean, Z * known.errors[0], 1)
    return estimate(known.values)


def paired_p_value(differences: Iterable[float]) -> float:
    """Return the two-sided p-value of a paired t-test of "the mean difference is 0".

    Fewer than two differences cannot contradict anything: the value is then 1. Of ``n`` equal
    ones no spread is known, and the value is the sign test's, ``2 ** (1 - n)``.
    """
    finite = [float(value) for value in differences if math.isfinite(value)]
    n = len(finite)
    if n < 2:
        return 1.0
    mean = math.fsum(finite) / n
    error = _standard_error(finite, mean)
    if error == 0:
        return 1.0 if mean == 0 else 2.0 ** (1 - n)
    from scipy.special import stdtr

    return 2 * float(stdtr(n - 1, -abs(mean / error)))


@dataclass(frozen=True)
class Sample:
    """What one group of seeds gave.

    Attributes:
        values: One per seed, finite.
        errors: Standard error of each over its examples; 0 where none is known.
    """

    values: Sequence[float]
    errors: Sequence[float]

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return math.fsum(self.values) / len(self.values)

    @property
    def square(self) -> float:
        """Squared standard error of the mean over seeds and then examples; at least two seeds.

        ``(s^2 + mean(e^2)) / n``: few seeds of a metric that takes few values may agree by chance,
        and are not exact for that.
        """
        n = len(self.values)
        within = math.fsum(error * error for error in self.errors) / n
        square = _standard_error(self.values, self.mean) ** 2 + within / n
        # Sums in floating point leave a last digit of spread where there is none.
        noise = 1e-9 * max(map(abs, self.values))
        return square if square > noise * noise else 0.0


def paired(differences: Sample) -> tuple[Estimate, float | None]:
    """Estimate a mean difference from pairs, at least two.

    Returns:
        The mean with its 95 % interval, and the two-sided p-value of "it is 0": None where
        neither seeds nor examples give it any error, though it is not 0.
    """
    n = len(differences.values)
    return _tested(differences.mean, math.sqrt(differences.square), n - 1, n)


def welch(first: Sample, second: Sample) -> tuple[Estimate, float | None]:
    """Estimate ``mean(second) - mean(first)`` of independent samples with unequal spreads.

    Args:
        first: At least two seeds.
        second: Likewise.

    Returns:
        The difference with its 95 % interval, n the smaller sample's, and the two-sided p-value
        of "the means are equal", None as in :func:`paired`.

    Source: Welch 1947, Biometrika 34; degrees of freedom by Satterthwaite.
    """
    samples = (first, second)
    total = first.square + second.square
    parts = sum(sample.square**2 / (len(sample.values) - 1) for sample in samples)
    n = min(len(sample.values) for sample in samples)
    freedom = total**2 / parts if parts else n - 1
    return _tested(second.mean - first.mean, math.sqrt(total), freedom, n)


def _tested(mean: float, error: float, freedom: float, n: int) -> tuple[Estimate, float | None]:
    from scipy.special import stdtr, stdtrit

    if error == 0:
        return Estimate(mean, None if mean else 0.0, n), None if mean else 1.0
    half_width = float(stdtrit(freedom, 0.975)) * error
    return Estimate(mean, half_width, n), 2 * float(stdtr(freedom, -abs(mean / error)))


def _standard_error(values: Sequence[float], mean: float) -> float:
    n = len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
