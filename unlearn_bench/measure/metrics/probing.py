"""What probes found in the model itself, beside what its outputs say.

Each number is compared with the retrained model's: a class that was never seen can be read off
good features too, and is learned at some speed.
"""

from scipy.stats import binomtest

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.outputs import Evaluation, Observed, Outputs, Probed
from unlearn_bench.results.records import Record

RENEWED = ("forget", "test_forget")


def _probed(seen: Observed) -> Probed:
    assert seen.probed is not None, "the runner probes every model that it observes"
    return seen.probed


@measures("probe_recall")
def probe_recall(evaluation: Evaluation) -> list[Record]:
    """Return the probe's recall with its 95 % Wilson interval over TF."""
    probed = _probed(evaluation.unlearned)
    if probed.recall is None:
        return [
            Record(
                "probe_recall",
                "test_forget",
                None,
                status="not_applicable",
                reason=probed.no_recall,
            )
        ]
    right = round(probed.recall * probed.recall_of)
    ends = binomtest(right, probed.recall_of).proportion_ci(method="wilson")
    return [Record("probe_recall", "test_forget", probed.recall, float(ends.low), float(ends.high))]


@measures("probe_leak", needs_retrained=True)
def probe_leak(evaluation: Evaluation) -> list[Record]:
    """Return the difference of the recalls."""
    u, g = _probed(evaluation.unlearned), _probed(evaluation.reference)
    if u.recall is None or g.recall is None:
        return [
            Record(
                "probe_leak",
                "test_forget",
                None,
                status="not_applicable",
                reason=u.no_recall or g.no_recall,
            )
        ]
    return [Record("probe_leak", "test_forget", u.recall - g.recall)]


@measures("relearn_time", "relearn_time_features")
def relearning(evaluation: Evaluation) -> list[Record]:
    """Return the steps of relearning, with the model's own head and with a fresh one."""
    probed, records = _probed(evaluation.unlearned), []
    for name in ("relearn_time", "relearn_time_features"):
        found = getattr(probed, name)
        if found is None:
            records.append(
                Record(
                    name,
                    "test_forget",
                    None,
                    status="not_applicable",
                    reason="the model has no head that can be replaced",
                )
            )
            continue
        note = f"censored at {found.steps} steps" if found.censored else ""
        records.append(Record(name, "test_forget", float(found.steps), reason=note))
    return records


@measures("ain", needs_retrained=True)
def anamnesis_index(evaluation: Evaluation) -> list[Record]:
    """Return the ratio of the relearning times."""
    u, g = _probed(evaluation.unlearned).relearn_time, _probed(evaluation.reference).relearn_time
    return [Record("ain", "test_forget", max(u.steps, 1) / max(g.steps, 1))]


@measures("bn_recovery")
def bn_recovery(evaluation: Evaluation) -> list[Record]:
    """Return accuracy on F and TF after re-estimation, each with its Wilson interval.

    Where the model does better with its own statistics an attacker keeps those: false ones may
    be made up for by the affine weights, and estimating them again then breaks the model.
    """
    records = []
    for split in RENEWED:
        outputs = _probed(evaluation.unlearned).renewed.get(split)
        if outputs is None:
            records.append(
                Record(
                    "bn_recovery",
                    split,
                    None,
                    status="not_applicable",
                    reason="the model has no BatchNorm",
                )
            )
            continue
        outputs = max(evaluation.unlearned[split], outputs, key=Outputs.accuracy)
        right = int(outputs.correct().sum())
        ends = binomtest(right, len(outputs)).proportion_ci(method="wilson")
        records.append(
            Record("bn_recovery", split, right / len(outputs), float(ends.low), float(ends.high))
        )
    return records
