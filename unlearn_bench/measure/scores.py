"""Scores of single examples, kept with a run's curves: the material of many-model metrics.

A score is phi = z_y - logsumexp(z without y), the logit of the probability of the true class. Each
split keeps a sample of its examples, by their index: the same examples under every seed, as far as
they belong to the split there. With thirds all targets are kept, by their role.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from unlearn_bench.data.splits import Indices
from unlearn_bench.measure.outputs import Observed, Outputs
from unlearn_bench.results.curves import MEMORISATION, SCORES, TARGET_CLASS
from unlearn_bench.results.records import Curve

# Examples of each split whose scores are kept.
_MOST = {"forget": 1000, "retain": 300, "test_forget": 1000, "test_retain": 300}
_ROLES = {"target_kept": "kept", "target_unseen": "unseen", "target_forgotten": "forget"}
_DIGITS = 4


def phi(seen: Outputs) -> Tensor:
    """Return the score of every example, float64 [N]."""
    true = seen.logits.gather(1, seen.labels[:, None])
    others = seen.logits.scatter(1, seen.labels[:, None], -torch.inf)
    return true.squeeze(1) - others.logsumexp(1)


def score_curves(seen: Observed, indices: Indices) -> Iterator[Curve]:
    """Yield one curve per split, x the index into the training or test part, y the score."""
    for split, most in _MOST.items():
        yield _curve(split, getattr(indices, split), phi(seen[split]), most)
    if not len(indices.unseen):
        return
    retained = phi(seen["retain"])
    of_role = {
        "kept": retained[torch.searchsorted(indices.retain, indices.kept)],
        "unseen": phi(seen["unseen"]),
        "forget": phi(seen["forget"]),
    }
    for series, role in _ROLES.items():
        yield _curve(series, getattr(indices, role), of_role[role])
    everyone = torch.cat([indices.kept, indices.unseen, indices.forget])
    kept = seen["retain"].labels[torch.searchsorted(indices.retain, indices.kept)]
    labels = torch.cat([kept, seen["unseen"].labels, seen["forget"].labels])
    order = everyone.argsort()
    yield _curve(TARGET_CLASS, everyone[order], labels[order])


def memorisation_curves(scores: Tensor | None, indices: Indices) -> Iterator[Curve]:
    """Yield by split how far examples are memorised, as a suite's estimate has it, if it has one.

    Args:
        scores: float64 [N], over the training part.
        indices: The scenario's index sets.
    """
    if scores is None:
        return
    for split in ("forget", "retain"):
        members = getattr(indices, split)
        yield _curve(split, members, scores[members], _MOST[split], MEMORISATION)


def _curve(
    series: str, examples: Tensor, scores: Tensor, most: int | None = None, curve: str = SCORES
) -> Curve:
    if most is not None and len(examples) > most:
        # By a hash of the index, so that other members of the split change nobody's place.
        order = (examples * 2_654_435_761 % 2**32).argsort(stable=True)[:most].sort().values
        examples, scores = examples[order], scores[order]
    rounded = (round(score, _DIGITS) for score in scores.tolist())
    return Curve(curve, series, tuple(map(float, examples.tolist())), tuple(rounded))
