"""Metrics of single kinds of scenarios: whether changed training data still have their effect.

Each is measured in its own kind of scenario and recorded in no other.
"""

from functools import partial

from unlearn_bench.plugins.metric import MetricInfo

_OF_CHANGED = partial(
    MetricInfo, cost="none beside the forward pass", splits=("test_forget",), unit="percent"
)

# Of the changes that a scenario makes before training: what retraining does not show.
EFFECTS = ("confusion_rate", "attack_success")

TARGETED = (
    _OF_CHANGED(
        "confusion_rate",
        "Share of test examples of the two confused classes that are taken for the other one of "
        "them: the targeted error. In [0, 1]; for confused scenarios only.",
        ideal="that of retrain",
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
    MetricInfo(
        "memorisation",
        "Mean over examples of p(y | x) under a model that saw the example minus that under one "
        "that did not, each trained on half of the data: by it F was chosen, so it is the same for "
        "all methods. In [-1, 1]; for memorised scenarios only.",
        ideal="none: it says what is forgotten",
        cost="two trainings on half of the data, once per original",
        source="Feldman 2020, arXiv:1906.05271; Zhao et al. 2024, arXiv:2406.01257",
        splits=("forget", "retain"),
        label="Memorisation",
        direction="none",
        main=False,
        forgets=("memorised",),
    ),
)
