"""Tug of war: one number for forgetting, retaining and generalising as retraining does.

``ToW = (1 - |dFA|) (1 - |dRA|) (1 - |dTA|)`` with dX = acc(U) - acc(G) on F, R and TR. In [0, 1];
1 is retraining itself, and what two retrainings reach is the ideal.

Source: Zhao et al. 2024, arXiv:2406.01257.
"""

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record

SPLITS = ("forget", "retain", "test_retain")


@measures("tug_of_war", needs_retrained=True)
def tug_of_war(evaluation: Evaluation) -> list[Record]:
    """Return the product of the three agreements."""
    product = 1.0
    for split in SPLITS:
        gap = evaluation.unlearned[split].accuracy() - evaluation.reference[split].accuracy()
        product *= 1 - abs(gap)
    return [Record("tug_of_war", "+".join(SPLITS), product)]
