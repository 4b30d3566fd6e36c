"""ZRF, zero retrain forgetting: does the model answer on F as if it had never learned anything?

``ZRF = 1 - mean over F and over random models R of JS(p_U, p_R)``, base 2, in [0, 1]. A freshly
initialised model is what the answers are compared with; one of them is one draw, so several are
averaged. Retraining has learned the other classes and does not answer at random either: its
value is the ideal, not 1.

Source: Chundawat et al. 2023, arXiv:2205.08096, with KL replaced by the JS divergence they define.
"""

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.agreement import js_divergence
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record

RANDOM_MODELS = 5


@measures("zrf")
def zero_retrain_forgetting(evaluation: Evaluation) -> list[Record]:
    """Return ZRF of U on F; unresolved where no model of the architecture can be initialised."""
    if not evaluation.random_logits:
        reason = "this needs freshly initialised models: give build="
        return [Record("zrf", "forget", None, status="unresolved", reason=reason)]
    u = evaluation.unlearned["forget"].logits
    distances = [float(js_divergence(u, logits).mean()) for logits in evaluation.random_logits]
    return [Record("zrf", "forget", 1 - sum(distances) / len(distances))]
