"""How much of a figure's variance is due to training, and how much to unlearning.

With value y_ij of unlearning j from original i, the random-effects model

    y_ij = mu + a_i + e_ij,    Var(a_i) = training,    Var(e_ij) = unlearning

is fitted by one-way analysis of variance over I originals with n_i unlearnings each, N in all:

    MSW = sum_ij (y_ij - mean_i)^2 / (N - I)
    MSB = sum_i n_i (mean_i - mean)^2 / (I - 1)
    unlearning = MSW
    training = max((MSB - MSW) / n_0, 0),    n_0 = (N - sum_i n_i^2 / N) / (I - 1)

Both are unbiased, but for the truncation at 0: a negative estimate says that originals differ no
more than unlearnings from the same original do.

Source: Searle, Casella and McCulloch 1992, Variance Components, section 3.6.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearn_bench.analysis.pivot import seeds_of
from unlearn_bench.analysis.table import Section


@dataclass(frozen=True)
class Components:
    """The variance of one figure of one method, by where it comes from.

    Attributes:
        training: Variance between originals, in the metric's unit squared.
        unlearning: Variance between unlearnings from the same original, likewise.
        originals: How many originals have a value.
        unlearnings: How many values there are in all.
    """

    training: float
    unlearning: float
    originals: int
    unlearnings: int

    @property
    def unlearning_share(self) -> float | None:
        """Share of unlearning in the variance of a single run; None where nothing varies."""
        total = self.training + self.unlearning
        return self.unlearning / total if total else None


def components(groups: Sequence[Sequence[float]]) -> Components | None:
    """Split the variance of values into that between and that within groups.

    Args:
        groups: For each original the values of its unlearnings; what is not finite is left out.

    Returns:
        None with fewer than two originals, or with one value of each.
    """
    finite = [[v for v in group if math.isfinite(v)] for group in groups]
    finite = [group for group in finite if group]
    sizes = [len(group) for group in finite]
    originals, total = len(finite), sum(sizes)
    if originals < 2 or total == originals:
        return None
    means = [math.fsum(group) / len(group) for group in finite]
    grand = math.fsum(v for group in finite for v in group) / total
    squares = ((v - mean) ** 2 for g, mean in zip(finite, means, strict=True) for v in g)
    within = math.fsum(squares) / (total - originals)
    apart = (n * (mean - grand) ** 2 for n, mean in zip(sizes, means, strict=True))
    between = math.fsum(apart) / (originals - 1)
    effective = (total - sum(n * n for n in sizes) / total) / (originals - 1)
    return Components(max((between - within) / effective, 0.0), within, originals, total)


def split(section: Section, columns: Sequence[str]) -> Mapping[tuple[str, str], Components]:
    """Return the components of every method's figures, by method and column.

    Args:
        section: With several unlearnings from each original; else there is nothing to return.
        columns: Of its table.
    """
    found = {}
    for row in section.table.rows:
        if row.unlearnings > 1:
            own = seeds_of(section.each, row.method)
            for column in columns:
                groups = [part.tolist() for _, part in own[column].groupby(level="seed")]
                parts = components(groups)
                if parts is not None:
                    found[row.method, column] = parts
    return found
