"""Rank of the true label: is the forgotten class only pushed out of the first place?

A model that hides a class behind its output names another class and keeps the true one second. A
model that never saw the class has it anywhere.
"""

import math

from torch import Tensor

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.scores import rank_of_label
from unlearn_bench.measure.metrics.shares import TWO_SIDED, paired_error
from unlearn_bench.measure.outputs import Evaluation, Observed
from unlearn_bench.results.records import Record

SPLITS = ("forget", "test_forget")


def _ranks(seen: Observed, split: str) -> Tensor:
    return rank_of_label(seen[split])


@measures("label_rank")
def label_rank(evaluation: Evaluation) -> list[Record]:
    """Return the mean rank of the true label on F and TF, with its 95 % interval over examples."""
    records = []
    for split in SPLITS:
        ranks, of_retrained = evaluation.both(_ranks, split)
        mean = float(ranks.mean())
        if len(ranks) < 2:
            records.append(Record("label_rank", split, mean))
            continue
        half = float(TWO_SIDED * ranks.std() / math.sqrt(len(ranks)))
        error = None
        if of_retrained is not None:
            error = paired_error([(ranks.numpy(), of_retrained.numpy())])
        low, high = max(1.0, mean - half), mean + half
        records.append(Record("label_rank", split, mean, low, high, gap_error=error))
    return records
