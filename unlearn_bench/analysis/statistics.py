"""Rules for few seeds, and adjustment for many comparisons. Nothing here imports torch."""

from collections.abc import Sequence

# Below this many seeds methods are compared by whether every seed agrees.
SEEDS_FOR_INFERENCE = 8


def band(retrained: Sequence[float], floor: float) -> float:
    """Return the largest difference between two retrainings of different seeds, or the floor."""
    return max(floor, max(retrained) - min(retrained)) if retrained else floor


def outside_in_every_seed(differences: Sequence[float], width: float) -> bool:
    """Whether every seed's U - G lies beyond the band, on the same side.

    The rule for too few seeds to test. Simulated with normal metrics, it flags another
    retraining by one metric, with the band of all other retrainings, in 3.5 % of cases with 2
    seeds, 0.3 % with 3; with the band of the references alone in 19 %, 3.2 % and, with 4, 0.4 %.
    """
    return len(differences) > 1 and (
        all(d > width for d in differences) or all(d < -width for d in differences)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down rule, order kept.

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2).
    """
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted
