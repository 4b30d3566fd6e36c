"""What only some scenarios have: confusion, a trigger's success, and how far F was memorised.

In scenarios that change the data, TF are test examples changed like F, with the labels that F has:
to take such an example for its label is the effect of the change, and no accuracy to be proud of.
"""

import math

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.shares import share
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record


def _effect(name: str, evaluation: Evaluation) -> list[Record]:
    """Return the share of TF that has the changed label's prediction, with its Wilson interval."""
    return [share(name, "test_forget", *evaluation.right("test_forget"))]


@measures("confusion_rate")
def confusion(evaluation: Evaluation) -> list[Record]:
    """Return the targeted error: test examples of one confused class taken for the other."""
    return _effect("confusion_rate", evaluation)


@measures("attack_success")
def backdoor(evaluation: Evaluation) -> list[Record]:
    """Return how often the trigger turns another class into the target."""
    return _effect("attack_success", evaluation)


@measures("memorisation")
def memorisation(evaluation: Evaluation) -> list[Record]:
    """Return the mean estimate over F and over R, each with its 95 % interval over examples."""
    records = []
    for split in ("forget", "retain"):
        found = evaluation.memorisation[split]
        mean, deviation = float(found.mean()), float(found.std()) if len(found) > 1 else 0.0
        half = 1.96 * deviation / math.sqrt(len(found))
        records.append(Record("memorisation", split, mean, mean - half, mean + half))
    return records
