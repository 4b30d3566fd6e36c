"""The audit's tests: were the forgotten examples trained on, and is their class still known?

Membership. An example's score is ``s(x) = q_U(x) - mean over references G of q_G(x)``: how much
surer the model is of x than models that were never trained on it. Of examples, q is the
probability of the true class, whose differences do not grow with the confidence of both models. Of
whole classes it is the logit of that probability: references know no such class and give it next
to none, of which only the logit still tells one example from another. Members are F, non-members
are test images of the same classes.
The threshold is set on the N non-members such that k = floor(0.01 N) of them lie above it. If
members and non-members cannot be told apart, the number of M members above it follows a
beta-binomial distribution with parameters k + 1 and N - k, whatever the scores; that gives an
exact p-value.

Class knowledge, where whole classes are forgotten: the share of unseen images of these classes
that the model still names, against the reference that names most, by Fisher's exact test.

Source: Watson et al. 2022, arXiv:2111.08440, for calibrated scores; Clopper and Pearson 1934 for
the intervals.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import betabinom, binom, binomtest, fisher_exact
from torch import Tensor

from unlearn_bench.core.seeds import derive
from unlearn_bench.measure.outputs import Outputs
from unlearn_bench.measure.scores import phi

Scores = NDArray[np.float64]

# Declared before anything is looked at.
RATE = 0.01
LEVEL = 0.05
LEAST_NON_MEMBERS = 100
POWER = 0.8


def sureness(outputs: Outputs, *, of_class: bool) -> Tensor:
    """Return how sure a model is of the true class of every example, ``q``, float64 [N].

    Args:
        outputs: What it says.
        of_class: Whether whole classes are forgotten.
    """
    return phi(outputs) if of_class else (-outputs.nll()).exp()


@dataclass(frozen=True)
class Share:
    """A number of examples out of so many, with its exact 95 % interval.

    Attributes:
        count: How many.
        of: Of how many.
    """

    count: int
    of: int

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's 95 % interval."""
        found = binomtest(self.count, self.of).proportion_ci(method="exact")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Attack:
    """What an attack found in one model.

    Attributes:
        found: Members above the threshold, or images that were named.
        p_value: Under the hypothesis that there is nothing to find.
        flagged: Of each member whether it lies above the threshold; empty where no threshold is.
    """

    found: Share
    p_value: float
    flagged: tuple[bool, ...] = ()


def membership(member: Scores, other: Scores) -> Attack:
    """Return how many members an attacker finds at the declared false positive rate.

    Args:
        member: Scores of F, [M], higher means "member".
        other: Scores of non-members, [N], at least :data:`LEAST_NON_MEMBERS`.
    """
    m, n = len(member), len(other)
    allowed = math.floor(RATE * n + 1e-9)
    threshold = np.sort(other)[::-1][allowed]
    flagged = member > threshold
    found = Share(int(flagged.sum()), m)
    p_value = float(betabinom.sf(found.count - 1, m, allowed + 1, n - allowed))
    return Attack(found, p_value, tuple(map(bool, flagged)))


def least_found(members: int, others: int, level: float) -> int:
    """Return the smallest number of members whose finding is significant.

    Args:
        members: M.
        others: N.
        level: Of the test.
    """
    allowed = math.floor(RATE * others + 1e-9)
    counts = np.arange(members + 1)
    p_values = betabinom.sf(counts - 1, members, allowed + 1, others - allowed)
    significant = counts[p_values <= level]
    return int(significant[0]) if len(significant) else members + 1


def smallest_effect(members: int, others: int, level: float) -> float | None:
    """Return the true positive rate that the test finds with a power of 80 %.

    None where even finding every member would not be significant.
    """
    least = least_found(members, others, level)
    if least > members:
        return None
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if binom.sf(least - 1, members, middle) < POWER:
            low = middle
        else:
            high = middle
    return high


def recognition(model: Share, reference: Share) -> Attack:
    """Return whether a model still names more images of the forgotten classes than a reference.

    Args:
        model: Unseen images of these classes that the model names.
        reference: The same of the reference that names most.
    """
    table = [
        [model.count, model.of - model.count],
        [reference.count, reference.of - reference.count],
    ]
    return Attack(model, float(fisher_exact(table, alternative="greater").pvalue))


def matched(forgotten: Tensor, test_labels: Tensor, seed: int) -> Tensor:
    """Draw as many test examples as there are, with the class histogram of F, sorted.

    Args:
        forgotten: Classes of F, [M].
        test_labels: Classes of the test part, [T].
        seed: Determines the draw.
    """
    width = int(max(forgotten.max(), test_labels.max())) + 1
    wanted, there = (labels.bincount(minlength=width) for labels in (forgotten, test_labels))
    present = (wanted > 0).nonzero().squeeze(1)
    times = float((there[present] / wanted[present]).min())
    chosen = []
    for label in present:
        members = (test_labels == label).nonzero().squeeze(1)
        generator = torch.Generator().manual_seed(derive(seed, "audit", int(label)))
        count = math.floor(times * int(wanted[label]) + 1e-9)
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(chosen).sort().values
