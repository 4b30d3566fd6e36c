"""Membership inference from predicted labels alone, as an interface without scores gives them.

The attacker shows shifted copies of an example (``measure/probes/copies.py``) and counts how many
of them are classified right; the more, the likelier a member.

Source: Choquette-Choo et al. 2021, arXiv:2007.14321. They fit a network to the pattern of right
answers; the count has no parameters to fit.
"""

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.mia import Scores, attack_metrics, attack_records
from unlearn_bench.measure.metrics.probing import probed_of
from unlearn_bench.measure.outputs import Evaluation, Observed
from unlearn_bench.measure.probes.copies import SHIFTS
from unlearn_bench.results.records import Record


@measures(*attack_metrics("mia_label_only"))
def label_only_attack(evaluation: Evaluation) -> list[Record]:
    """Return AUC and true positive rates of the label-only attack, F against TF."""
    return attack_records("mia_label_only", *evaluation.both(_right_of_copies))


def _right_of_copies(seen: Observed) -> tuple[Scores, Scores]:
    """Return the share of right answers over the copies of each example of F and of TF."""
    forget, test_forget = (
        probed_of(seen).copies[split].correct().view(len(SHIFTS), -1).double().mean(0).numpy()
        for split in ("forget", "test_forget")
    )
    return forget, test_forget
