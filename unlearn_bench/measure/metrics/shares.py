"""Shares of examples with their intervals, and how sure the gap to retraining is.

U and G answer the same examples, so what is uncertain about ``mean(u) - mean(g)`` is the mean of
the differences example by example, and not of two independent samples. Where both models treat
every example alike, the gap has no error, however uncertain each share is by itself.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from unlearn_bench.results.records import Record

Values = NDArray[np.float64]

# Standard errors from the middle to either end of a 95 % interval.
TWO_SIDED = float(ndtri(0.975))


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of examples."""
    from scipy.stats import binomtest  # a second of CPU time that scheduling does without

    ends = binomtest(hits, total).proportion_ci(method="wilson")
    return float(ends.low), float(ends.high)


def share(metric: str, split: str, right: Tensor, reference: Tensor | None = None) -> Record:
    """Return the record of a share of examples.

    Args:
        metric: Its name.
        split: The examples.
        right: Which of them count, bool [N].
        reference: The same of the retrained model, bool [N], in the same order; None without one.
    """
    hits, total = int(right.sum()), len(right)
    error = None
    if reference is not None:
        error = paired_error([(right.double().numpy(), reference.double().numpy())])
    return Record(metric, split, hits / total, *wilson(hits, total), gap_error=error)


def paired_error(samples: Sequence[tuple[Values, Values]]) -> float | None:
    """Return the standard error of a difference that is a sum of means over paired examples.

    ``sqrt(sum over samples of var(u - g) / n)``

    Args:
        samples: Of every independent sample of examples what each of its ``n`` contributes to the
            number of U, and to that of G, in the same order.

    Returns:
        None if a sample has fewer than two examples, as one says nothing of its spread, or if one
        model was asked about more of them than the other.
    """
    if any(len(u) < 2 or len(u) != len(g) for u, g in samples):
        return None
    return math.sqrt(math.fsum(float(np.var(u - g, ddof=1)) / len(u) for u, g in samples))
