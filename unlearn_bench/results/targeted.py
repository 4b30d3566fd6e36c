"""Metrics of scenarios that change the training data: whether the change still has its effect.

Each is measured in its own kind of scenario and recorded in no other.
"""

from functools import partial

from unlearn_bench.plugins.metric import MetricInfo

_OF_CHANGED = partial(
    MetricInfo, cost="none beside the forward pass", splits=("test_forget",), unit="percent"
)

TARGETED = (
    _OF_CHANGED(
        "confusion_rate",
        "Share of test examples of the two confused classes that are taken for the other one of "
        "them: the targeted error. In [0, 1]; for confused scenarios only.",
        source="Goel et al. 2022, arXiv:2201.06640",
        label="Confusion rate",
        short="confusion",
        heading="Confusion\nrate, %",
        forgets=("confused",),
    ),
    _OF_CHANGED(
        "attack_success",
        "Share of test examples of other classes than the target that are taken for it once they "
        "carry the trigger. In [0, 1]; for poisoned scenarios only. Clean accuracy is "
        "test_retain_accuracy.",
        ideal="that of retrain; where only a share of the poison is known, retraining keeps the "
        "backdoor and chance is better",
        source="Gu et al. 2017, arXiv:1708.06733; as forgetting: Goel et al. 2024, "
        "arXiv:2402.14015",
        label="Attack success",
        short="attack success",
        heading="Attack\nsuccess, %",
        forgets=("poisoned",),
    ),
)
