"""What each number over many models means: one declaration, for listings and ``show``."""

from collections.abc import Mapping
from functools import partial

from unlearn_bench.plugins.metric import MetricInfo

_Metric = partial(MetricInfo, direction="none", unit="score", main=False)
_SCORES = "none: the scores of single examples that every run keeps"
_QUESTIONS = {
    "privacy": (
        "unlearned models that forgot an example from those that never saw it",
        "0.5, as retraining has",
    ),
    "efficacy": (
        "unlearned models that forgot an example from originals that never saw it",
        "what retraining has, near 0.5",
    ),
    "collateral": (
        "unlearned models that kept an example from originals that kept it",
        "0.5: those who stay are as exposed as before",
    ),
}
_ATTACKS = {
    "lira": (
        "the ratio of two normal densities with a mean per example and one variance for all",
        "Carlini et al. 2022, arXiv:2112.03570",
    ),
    "student": (
        "the ratio of two Student's t densities, each example's variance drawn to the pooled one",
        "BaVarIA, arXiv:2603.11799",
    ),
    "rmia": (
        "the share of unseen examples of its class that an example is likelier than",
        "Zarifzadeh et al. 2024, arXiv:2312.03262",
    ),
    "loss": ("one threshold on the score for all examples", "Yeom et al. 2018, arXiv:1709.01604"),
}
_KLOM = "Georgiev et al. 2024, arXiv:2410.23232"
_QUALITY = "Triantafillou et al. 2024, arXiv:2406.09073"


def _attack(question: str, attack: str) -> tuple[MetricInfo, ...]:
    told, ideal = _QUESTIONS[question]
    how, source = _ATTACKS[attack]
    common = f"of telling {told}, by {how}. Each model is judged by the others; thirds only. "
    common += "The attacker sees logits of all models."
    return (
        _Metric(
            f"{question}_{attack}_auc",
            f"AUC {common} In [0, 1].",
            ideal=ideal,
            cost=_SCORES,
            source=source,
        ),
        *(
            _Metric(
                f"{question}_{attack}_tpr_at_{key}",
                f"True positive rate at {rate} false positives {common} In [0, 1].",
                ideal=rate.replace(" %", " / 100"),
                cost=_SCORES,
                source=source,
            )
            for key, rate in (("1pct", "1 %"), ("10pct", "10 %"))
        ),
    )


MANY: Mapping[str, MetricInfo] = {
    info.name: info
    for info in (
        _Metric(
            "klom",
            "Mean over examples of KL(U || G) of their scores over all seeds, in 20 bins; nats. "
            "At least 0; 16 seeds or more.",
            ideal="its null: that of the same models divided at random",
            cost=_SCORES,
            source=_KLOM,
        ),
        _Metric(
            "klom_p95",
            "95th percentile of the same.",
            ideal="its null",
            cost=_SCORES,
            source=_KLOM,
        ),
        _Metric(
            "forgetting_quality",
            "Mean over F of 2^-b, b the privacy loss of an example in bins of 0.5 by the best "
            "threshold on its scores over all seeds. In (0, 1]; 16 seeds or more. Its interval "
            "takes examples as independent; they share models, so it may be too narrow. Not "
            "multiplied by ratios of accuracy, which stand in columns of their own.",
            ideal="that of one retraining against another, about 0.1 to 0.2",
            cost=_SCORES,
            source=_QUALITY,
        ),
        _Metric(
            "forgetting_quality_ratio",
            "forgetting_quality over that of retrain_other_seed against retrain.",
            ideal="1",
            cost=_SCORES,
            source=_QUALITY,
        ),
        *(info for q in _QUESTIONS for attack in _ATTACKS for info in _attack(q, attack)),
        _Metric(
            "most_exposed",
            "The ten targets that privacy_lira tells best, by index; the value is the AUC of each.",
            ideal="no more than retraining's ten, which chance alone lifts well above 0.5",
            cost=_SCORES,
            source="this project",
        ),
    )
}
