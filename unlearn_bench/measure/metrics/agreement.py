"""Agreement with retraining: how far the predictions of U and G lie apart, example by example.

Two retrainings with different seeds do not agree entirely either: the ideal is their distance,
the value of the control ``retrain_other_seed``, not 0.
"""

import math

import torch
from torch import Tensor

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record

SPLITS = ("forget", "test_retain")


def activation_distance(u: Tensor, g: Tensor) -> Tensor:
    """Euclidean distance of the probabilities, ||p_U - p_G||_2.

    Args:
        u: Logits of U, float64 [N, C].
        g: Logits of G, float64 [N, C].

    Returns:
        float64 [N], in [0, sqrt 2].

    Source: Golatkar et al. 2021, arXiv:2012.13431.
    """
    return (u.softmax(1) - g.softmax(1)).square().sum(1).sqrt()


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) = sum_j p_j (log p_j - log q_j) in nats, from logits; asymmetric.

    Args:
        p: Logits of the reference, float64 [N, C].
        q: Logits of what is compared with it, float64 [N, C].

    Returns:
        float64 [N], at least 0; summed over classes, never averaged over them.
    """
    log_p, log_q = p.log_softmax(1), q.log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1).clamp(min=0)


def js_divergence(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence in base 2: the mean KL of both to their mixture, over log 2.

    Args:
        a: Logits, float64 [N, C].
        b: Logits, float64 [N, C].

    Returns:
        float64 [N], in [0, 1]; symmetric.

    Source: Lin 1991, IEEE Transactions on Information Theory 37(1).
    """
    log_a, log_b = a.log_softmax(1), b.log_softmax(1)
    mixture = torch.logaddexp(log_a, log_b) - math.log(2)
    both = (log_a.exp() * (log_a - mixture) + log_b.exp() * (log_b - mixture)).sum(1)
    return (both / 2 / math.log(2)).clamp(0, 1)


@measures("activation_distance", "js_divergence", "kl_divergence", needs_retrained=True)
def agreement(evaluation: Evaluation) -> list[Record]:
    """Return the three distances between U and G, on F and on TR."""
    records = []
    for split in SPLITS:
        u, g = evaluation.unlearned[split].logits, evaluation.reference[split].logits
        for name, distances in {
            "activation_distance": activation_distance(u, g),
            "js_divergence": js_divergence(u, g),
            "kl_divergence": kl_divergence(g, u),
        }.items():
            records.append(Record(name, split, float(distances.mean())))
    return records
