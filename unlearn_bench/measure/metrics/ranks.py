"""Rank of the true label: is the forgotten class only pushed out of the first place?

A model that hides a class behind its output names another class and keeps the true one second. A
model that never saw the class has it anywhere.
"""

import math

from scipy.stats import norm

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.scores import rank_of_label
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record

SPLITS = ("forget", "test_forget")


@measures("label_rank")
def label_rank(evaluation: Evaluation) -> list[Record]:
    """Return the mean rank of the true label on F and TF, with its 95 % interval over examples."""
    records = []
    for split in SPLITS:
        ranks = rank_of_label(evaluation.unlearned[split])
        mean = float(ranks.mean())
        if len(ranks) < 2:
            records.append(Record("label_rank", split, mean))
            continue
        half = float(norm.ppf(0.975) * ranks.std() / math.sqrt(len(ranks)))
        records.append(Record("label_rank", split, mean, max(1.0, mean - half), mean + half))
    return records
