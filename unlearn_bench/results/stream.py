"""What is measured of streams: requests that come one after the other. Each metric declared once.

The names of reversal and erosion are those of SAFER, arXiv:2604.19108.
"""

from collections.abc import Mapping
from functools import partial

from unlearn_bench.plugins.metric import MetricInfo

EARLIER_FORGET = "earlier_forget_accuracy"
ALL_FORGET = "all_forget_accuracy"
RELEARN_FIRST = "relearn_time_first"
REVERSAL = "forgetting_reversal"
EROSION = "knowledge_erosion"
TEST_EROSION = "knowledge_erosion_test"
CUMULATIVE_RATIO = "cumulative_time_ratio"
DEARER_FROM = "dearer_from_request"
BATCH_GAP = "batch_gap"

_SAFER = "arXiv:2604.19108"
_Metric = partial(MetricInfo, main=False)
# Over a whole stream, so nothing that one run could be held against retraining by.
_OfStream = partial(_Metric, direction="none", cost="none")

STREAM: Mapping[str, MetricInfo] = {
    info.name: info
    for info in (
        _Metric(
            EARLIER_FORGET,
            "Share of what an earlier request of the stream took whose largest logit is the "
            "label's; one number for each earlier request. In [0, 1].",
            label="Accuracy on what went earlier",
            unit="percent",
        ),
        _Metric(
            ALL_FORGET,
            "The same of all that the requests so far took, together.",
            label="Accuracy on all that went",
            unit="percent",
        ),
        _Metric(
            RELEARN_FIRST,
            "Steps until the model that the last request left has relearned what the first one "
            "took, as relearn_time.",
            cost="that of relearn_time, once a stream",
            label="Relearning steps (first request)",
            heading="Relearning of the\nfirst, steps",
            unit="steps",
        ),
        _OfStream(
            REVERSAL,
            "Most that came back: the largest rise of accuracy on F_j from right after request j "
            "to after any later request k, less retraining's rise where that rises too; at least "
            "0: max over j < k of (u_jk - u_jj) - max(g_jk - g_jj, 0), with u_jk the accuracy of "
            "U_k on F_j and g_jk that of G_k.",
            ideal="that of retrain_other_seed: the largest of several differences is not 0 by "
            "chance",
            source=_SAFER,
            label="Forgetting reversal",
            heading="Reversal,\npoints",
            unit="percent",
        ),
        _OfStream(
            EROSION,
            "Points of retain accuracy, net of retraining's, that are lost with each request: "
            "minus the slope of the least-squares line through U_k - G_k over k = 1, ..., T.",
            ideal="0",
            source=_SAFER,
            label="Knowledge erosion",
            heading="Erosion, points\na request",
            unit="percent",
        ),
        _OfStream(
            TEST_EROSION,
            "The same of test retain accuracy.",
            ideal="0",
            source=_SAFER,
            label="Knowledge erosion (test)",
            heading="Erosion (test),\npoints a request",
            unit="percent",
        ),
        _OfStream(
            CUMULATIVE_RATIO,
            "Seconds of unlearning over all requests, over those of retraining after each.",
            ideal="below 1",
            label="Time of all requests",
            heading="Time of all, %\nof retraining's",
            unit="ratio",
        ),
        _OfStream(
            DEARER_FROM,
            "First request after which unlearning has taken longer, in all, than one retraining "
            "without everything asked so far; none where that never happens.",
            ideal="none",
            label="Dearer than one retraining from request",
            heading="Dearer than one\nretraining from",
            unit="count",
        ),
        _OfStream(
            BATCH_GAP,
            "How much farther from retraining a stream ends than the same requests made at once: "
            "the mean absolute gap over all_forget_accuracy, retain and test retain accuracy "
            "after the last request, minus that of the union, each against its own retraining.",
            ideal="that of retrain_other_seed",
            source="this project",
            label="Batch gap",
            heading="Batch gap,\npoints",
            unit="percent",
        ),
    )
}


def request_split(number: int) -> str:
    """Return what records of an earlier request name as their split, ``request 1`` for one."""
    return f"request {number}"
