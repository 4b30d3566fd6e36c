"""The membership attacks, each declared once; see ``metrics.py``, which puts all in order."""

from functools import partial
from typing import Any

from unlearn_bench.plugins.metric import MetricInfo

_Metric = partial(MetricInfo, main=False)
_NEVER_SEEN = "that of retrain, about 0.5; below it the model over-forgets"


def _attack(
    name: str, what: str, source: str, sees: str = "logits", **auc: Any
) -> tuple[MetricInfo, ...]:
    """Declare what is recorded of an attack on F against TF: its AUC and three rates.

    Args:
        name: Without ``mia_``.
        what: Completes "the attack that".
        source: Where it comes from.
        sees: What the attacker is given.
        auc: More of the AUC's declaration.
    """
    word = name.replace("_", " ")
    for compound in ("two-sided", "label-only"):
        word = word.replace(compound.replace("-", " "), compound)
    word = word.capitalize()
    rates = (("10pct", "10", 0.1, 100), ("1pct", "1", 0.01, 1000), ("0.1pct", "0.1", 0.001, 10000))
    return (
        _Metric(
            f"mia_{name}_auc",
            f"AUC of the attack that {what}; members F, non-members TF. The attacker sees {sees}. "
            "In [0, 1].",
            ideal=_NEVER_SEEN,
            source=source,
            label=f"{word} attack AUC",
            heading=f"{word} attack\nAUC",
            unit="score",
            floor=0.02,
            **auc,
        ),
        *(
            _Metric(
                f"mia_{name}_tpr_at_{key}",
                f"Share of F that the attack finds while accusing {rate:.1%} of TF; unresolved "
                f"with fewer than {needed} examples in TF. In [0, 1].",
                ideal=f"that of retrain, about {rate:g}",
                source=source,
                label=f"{word} attack TPR at {percent} % FPR",
                unit="score",
            )
            for key, percent, rate, needed in rates
        ),
    )


LOSS_ATTACK = (
    *_attack(
        "loss",
        "scores an example by minus its loss",
        "Yeom et al. 2018, arXiv:1709.01604; low rates: Carlini et al. 2022, arXiv:2112.03570",
        short="loss attack",
        role="primary",
        inward=True,
        main=True,
    ),
    _Metric(
        "mia_loss_resolvable_fpr",
        "Smallest false positive rate that TF resolves: 10 over its size.",
        ideal="none: it describes the test",
        label="Loss attack, smallest resolvable FPR",
        unit="score",
        direction="none",
    ),
)

_FITTED_SOURCE = "Song and Mittal 2021, arXiv:2003.10595; fitted as in Kurmanji et al. 2023"
FITTED_ATTACKS = tuple(
    info
    for name, features in {
        "entropy": "entropy",
        "confidence": "confidence",
        "features": "correctness, confidence, entropy, m_entropy, nll",
    }.items()
    for info in _attack(
        name,
        f"fits a logistic regression to {features}, cross-fitted in 5 folds, mean over 10 "
        "divisions",
        _FITTED_SOURCE,
        role="secondary",
    )
)

BOTH_SIDES = (
    *_attack(
        "loss_two_sided",
        "scores an example by |phi - median of unseen examples|, phi = log(p_y / (1 - p_y)), "
        "cross-fitted in 5 folds, mean over 10 divisions: it sees members that are memorised and "
        "members that are taught a wrong label alike",
        "this project; phi: Carlini et al. 2022, arXiv:2112.03570",
        role="secondary",
    ),
    *_attack(
        "loss_density",
        "scores an example by a density ratio in phi = log(p_y / (1 - p_y)), log-linear on "
        "either side of the unseen examples' median, cross-fitted in 5 folds, mean over 10 "
        "divisions",
        "this project; Sugiyama et al. 2012, Density ratio estimation in machine learning",
        role="secondary",
    ),
    _Metric(
        "label_rank",
        "Mean rank of the true label among the logits, 1 for the largest: 2 where it is only "
        "pushed out of the first place. In [1, number of classes].",
        splits=("forget", "test_forget"),
        label="Rank of the true label",
        role="secondary",
        floor=0.1,
    ),
)

LABEL_ONLY = _attack(
    "label_only",
    "counts how many of five copies of an example, itself and its shifts by a pixel, are "
    "classified right; up to 1,000 examples a side",
    "Choquette-Choo et al. 2021, arXiv:2007.14321",
    sees="predicted labels",
    cost="5 passes over up to 1,000 examples each of F and TF",
    role="secondary",
)

_LEGACY = partial(
    MetricInfo,
    cost="support vector machines on up to 1,000 examples a side",
    unit="score",
    role="legacy",
    floor=0.02,
    main=False,
)
LEGACY_ATTACKS = (
    _LEGACY(
        "mia_legacy_entropy_svc",
        "Share of F taken for training examples by SVC(C=3, rbf) on the entropy, fitted to R "
        "against the test part. In [0, 1]. Appendix only: fooled by fakes.",
        ideal="that of retrain, which is not 0",
        source="Chundawat et al. 2023, arXiv:2205.08096; Panda et al. 2025, arXiv:2403.16246",
        label="Legacy entropy SVC",
    ),
    *(
        _LEGACY(
            f"mia_legacy_salun_{name}",
            f"Share of F taken for unseen by SVC(C=3, rbf) on {what}, fitted to R against TR, "
            "stratified by class. In [0, 1]. Appendix only: fooled by fakes.",
            ideal="that of retrain, not 1",
            source="Fan et al. 2023, arXiv:2310.12508",
            label=f"Legacy SalUn attack on {what.removeprefix('the ')}",
        )
        for name, what in {
            "correctness": "correctness",
            "confidence": "the confidence",
            "entropy": "the entropy",
            "m_entropy": "the modified entropy",
        }.items()
    ),
)
