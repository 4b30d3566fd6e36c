"""What probes found in the model itself, beside what its outputs say.

Each number is compared with the retrained model's: a class that was never seen can be read off
good features too, and is learned at some speed.
"""

from torch import Tensor

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.shares import share, wilson
from unlearn_bench.measure.outputs import Evaluation, Observed, Outputs, Probed
from unlearn_bench.results.records import Record

RENEWED = ("forget", "test_forget")


def probed_of(seen: Observed) -> Probed:
    """Return what probes found in a model."""
    assert seen.probed is not None, "the runner probes every model that it observes"
    return seen.probed


@measures("probe_recall")
def probe_recall(evaluation: Evaluation) -> list[Record]:
    """Return the probe's recall with its 95 % Wilson interval over TF."""
    probed = probed_of(evaluation.unlearned)
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
    ends = wilson(round(probed.recall * probed.recall_of), probed.recall_of)
    return [Record("probe_recall", "test_forget", probed.recall, *ends)]


@measures("probe_leak", needs_retrained=True)
def probe_leak(evaluation: Evaluation) -> list[Record]:
    """Return the difference of the recalls."""
    u, g = probed_of(evaluation.unlearned), probed_of(evaluation.reference)
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
    probed, records = probed_of(evaluation.unlearned), []
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
    u, g = (
        probed_of(evaluation.unlearned).relearn_time,
        probed_of(evaluation.reference).relearn_time,
    )
    return [Record("ain", "test_forget", max(u.steps, 1) / max(g.steps, 1))]


@measures("bn_recovery")
def bn_recovery(evaluation: Evaluation) -> list[Record]:
    """Return accuracy on F and TF after re-estimation, each with its Wilson interval.

    Where the model does better with its own statistics an attacker keeps those: false ones may
    be made up for by the affine weights, and estimating them again then breaks the model.
    """
    records = []
    for split in RENEWED:
        right, reference = evaluation.both(_recovered, split)
        if right is None:
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
        records.append(share("bn_recovery", split, right, reference))
    return records


def _recovered(seen: Observed, split: str) -> Tensor | None:
    """Return who is right under the better of both statistics, bool [N]; None without any."""
    renewed = probed_of(seen).renewed.get(split)
    if renewed is None:
        return None
    return max(seen[split], renewed, key=Outputs.accuracy).correct()


@measures("input_recovery")
def input_recovery(evaluation: Evaluation) -> list[Record]:
    """Return what small changes of the images bring back of F, with its Wilson interval."""
    found = probed_of(evaluation.unlearned).recovered
    if found is None:
        reason = "the images were not changed"
        return [Record("input_recovery", "forget", None, status="not_applicable", reason=reason)]
    low, high = wilson(round(found.share * found.of), found.of)
    low, high = min(found.share, low), max(found.share, high)
    return [Record("input_recovery", "forget", found.share, low, high, reason=found.change)]
