"""What probes found in the model itself, beside what its outputs say.

Each number is compared with the retrained model's: a class that was never seen can be read off
good features too, and is learned at some speed.
"""

from scipy.stats import binomtest

from unlearn_bench.measure.metrics import Metric, measures
from unlearn_bench.measure.outputs import Evaluation, Observed, Probed
from unlearn_bench.results.records import Record

RENEWED = ("forget", "test_forget")
_RELEARN = "steps of Adam(1e-3), batch 64, on a copy until accuracy on TF is within 5 points of O's"


def _probed(seen: Observed) -> Probed:
    assert seen.probed is not None, "the runner probes every model that it observes"
    return seen.probed


@measures(
    Metric(
        "probe_recall",
        "Recall on TF of a linear probe on frozen penultimate features, fitted "
        "to half of F and as many of every retained class. In [0, 1]; for classes only.",
        cost="one pass over up to 500 examples a class, and a logistic regression",
        source="Alain and Bengio 2016, arXiv:1610.01644",
    ),
)
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


@measures(
    Metric(
        "probe_leak",
        "probe_recall of U minus that of G: what the features know of the "
        "forgotten class beyond what retraining's do. In [-1, 1].",
        ideal="0",
        cost="that of probe_recall",
        source="this project",
        splits=("test_forget",),
    ),
    needs_retrained=True,
)
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


@measures(
    Metric(
        "relearn_time",
        f"{_RELEARN}; at most 500, then recorded as censored.",
        cost="at most 500 steps of 64 examples and a look at up to 256 of TF before each",
        source="Golatkar et al. 2020, arXiv:1911.04933; stop rule of Tarun et al. 2021, "
        "arXiv:2111.08947",
    ),
    Metric(
        "relearn_time_features",
        "relearn_time with a freshly initialised classifier, one "
        "initialisation for O, U and G, on F and as many of every retained class, until "
        "besides at most 5 % of TR are taken for forgotten classes: what the features still "
        "know, whatever was done to the head.",
        cost="that of relearn_time",
        source="this project",
    ),
)
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


@measures(
    Metric(
        "ain",
        "Anamnesis index max(rt(U), 1) / max(rt(G), 1) of relearn_time: below 1 "
        "knowledge is left, above it the model was driven further than retraining. Above 0.",
        ideal="1",
        cost="none",
        source="Tarun et al. 2021, arXiv:2111.08947",
        splits=("test_forget",),
    ),
    needs_retrained=True,
)
def anamnesis_index(evaluation: Evaluation) -> list[Record]:
    """Return the ratio of the relearning times."""
    u, g = _probed(evaluation.unlearned).relearn_time, _probed(evaluation.reference).relearn_time
    return [Record("ain", "test_forget", max(u.steps, 1) / max(g.steps, 1))]


@measures(
    Metric(
        "bn_recovery",
        "Accuracy on F and TF after BatchNorm's running statistics were "
        "estimated anew on 512 images of R, on a copy. In [0, 1]; not applicable without "
        "BatchNorm. Above retraining's, forgetting was partly contaminated statistics.",
        cost="one pass over 512 examples of R and up to 1,000 each of F and TF",
        source="this project",
    ),
)
def bn_recovery(evaluation: Evaluation) -> list[Record]:
    """Return accuracy on F and TF after re-estimation, each with its Wilson interval."""
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
        right = int(outputs.correct().sum())
        ends = binomtest(right, len(outputs)).proportion_ci(method="wilson")
        records.append(
            Record("bn_recovery", split, right / len(outputs), float(ends.low), float(ends.high))
        )
    return records
