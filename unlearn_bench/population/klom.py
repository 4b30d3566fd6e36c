"""KLoM, the KL divergence of margins: how far unlearned models lie from retrained ones, by example.

For every example the scores of many unlearned models and of as many retrained ones are put into 20
bins over their joint range, and

    KLoM(x) = KL(U || G) = sum over bins of p log(p / q),  q at least 1e-5

Few models have a large KLoM by chance alone (about 3.8 with 16, 0.3 with 100), so every figure
stands beside what a random division of the same models gives.

Source: Georgiev, Rinberg, Park, Garg, Ilyas, Madry and Neel 2024, Attribute-to-Delete: Machine
Unlearning via Datamodel Matching, arXiv:2410.23232.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_BINS = 20
_CLIP = 100.0
_FLOOR = 1e-5


def klom(unlearned: "Floats", retrained: "Floats") -> "Floats":
    """Return the divergence of each example, in nats, [examples].

    Args:
        unlearned: Scores, [models, examples].
        retrained: Scores of the models to be like, [models, examples].
    """
    u, g = (np.clip(scores, -_CLIP, _CLIP) for scores in (unlearned, retrained))
    both = np.concatenate([u, g])
    low, width = both.min(0), np.ptp(both, axis=0)
    # The upper edge belongs to the last bin.
    scale = _BINS / np.where(width > 0, width, 1.0)
    p, q = (_shares(np.minimum((x - low) * scale, _BINS - 1).astype(np.int64)) for x in (u, g))
    ratio = np.where(p > 0, p, 1.0) / np.maximum(q, _FLOOR)
    return np.asarray((p * np.log(ratio)).sum(0))


def redivided(
    first: "Floats", second: "Floats", rng: np.random.Generator
) -> "tuple[Floats, Floats]":
    """Return the models of both arms divided at random: what chance alone gives."""
    pooled = rng.permutation(np.concatenate([first, second]))
    return pooled[: len(first)], pooled[len(first) :]


def _shares(bins: "NDArray[np.int64]") -> "Floats":
    """Return the share of models in each bin, [bins, examples]."""
    return np.stack([(bins == number).mean(0) for number in range(_BINS)])
