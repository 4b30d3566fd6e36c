"""What single examples look like to an attacker: functions of one row of logits and its label.

No score looks at other examples, so none depends on the batch or on the order.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearn_bench.measure.outputs import Outputs


def entropy(outputs: Outputs) -> Tensor:
    """Entropy of the prediction, -sum_j p_j log p_j, in nats.

    Returns:
        float64 [N], between 0 and log C.
    """
    log_p = outputs.logits.log_softmax(1)
    return -torch.xlogy(log_p.exp(), log_p.exp()).sum(1)


def confidence(outputs: Outputs) -> Tensor:
    """Largest probability, max_j p_j, float64 [N] in [1/C, 1]."""
    return outputs.logits.log_softmax(1).amax(1).exp()


def modified_entropy(outputs: Outputs) -> Tensor:
    """Entropy that knows the label: 0 if it is predicted surely, unbounded if another is.

    ``-(1 - p_y) log p_y - sum over j != y of p_j log(1 - p_j)``

    Returns:
        float64 [N], at least 0.

    Source: Song and Mittal 2021, arXiv:2003.10595.
    """
    log_p = outputs.logits.log_softmax(1)
    # log(1 - p) loses everything where p rounds to 1; only the largest p can, and for it the
    # rest is summed directly.
    log_rest = torch.log1p(-log_p.exp().clamp(max=0.75))
    top = log_p.argmax(1, keepdim=True)
    others = log_p.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    log_rest = log_rest.scatter(1, top, others)
    label = outputs.labels[:, None]
    wrong = -(log_p.exp() * log_rest).scatter(1, label, 0.0).sum(1)
    right = -(log_rest.gather(1, label).exp() * log_p.gather(1, label)).squeeze(1)
    return right + wrong


def rank_of_label(outputs: Outputs) -> Tensor:
    """Rank of the true label among the logits, 1 for the largest, float64 [N].

    Of equal logits each has the mean of their ranks.
    """
    true = outputs.logits.gather(1, outputs.labels[:, None])
    above, equal = (outputs.logits > true).sum(1), (outputs.logits == true).sum(1)
    return above + (equal + 1) / 2.0


def attack_features(outputs: Outputs) -> dict[str, NDArray[np.float64]]:
    """Return correctness, confidence, entropy, modified entropy and nll by name, each [N]."""
    return {
        "correctness": outputs.correct().double().numpy(),
        "confidence": confidence(outputs).numpy(),
        "entropy": entropy(outputs).numpy(),
        "m_entropy": modified_entropy(outputs).numpy(),
        "nll": outputs.nll().numpy(),
    }


def shuffled_rows(rows: NDArray[np.float64], seed: int) -> NDArray[np.intp]:
    """Return a random order of examples that depends on what they are, not on where they stand.

    Args:
        rows: float64 [N, D]; equal rows may change places, which no one can tell.
        seed: Determines the order.

    Returns:
        Indices, [N].
    """
    by_content = np.lexsort(rows.T[::-1])
    return by_content[np.random.default_rng(seed).permutation(len(rows))]
