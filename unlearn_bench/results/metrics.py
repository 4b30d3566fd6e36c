"""Every metric of the package, each declared once.

What decides whether a metric is primary, its floor, its label and its unit stands here, in
``attacks.py`` and in ``targeted.py``, and nowhere else. Verdict, page, LaTeX, terminal, comparison
and listings look it up by the column, see ``facts.py``; what computes it, in ``measure/metrics/``,
registers by its name.

The primary metrics, in this order, were chosen before any result was seen, but for input_recovery:
it was added when masked logits and a class locked behind a key had passed the others.
"""

from collections.abc import Mapping
from functools import partial

from unlearn_bench.plugins.metric import MetricInfo
from unlearn_bench.results.attacks import (
    BOTH_SIDES,
    FITTED_ATTACKS,
    LABEL_ONLY,
    LEGACY_ATTACKS,
    LOSS_ATTACK,
)
from unlearn_bench.results.targeted import TARGETED

DISTANCE = "distance_to_retrain"
TIME_RATIO = "time_ratio_to_retrain"
MIA_AUC = "mia_loss_auc"

_Metric = partial(MetricInfo, main=False)
_OTHER_SEED = "that of two retrainings (retrain_other_seed), not 0"

_ACCURACY = partial(MetricInfo, unit="percent")
_ACCURACIES = (
    _ACCURACY(
        "test_retain_accuracy",
        "Share of test examples of the retain classes TR whose largest logit is the label's.",
        label="Test retain accuracy",
        short="test retain",
        heading="Test retain\nacc., %",
        role="primary",
        floor=0.005,
        utility=True,
    ),
    _ACCURACY(
        "test_forget_accuracy",
        "Share of test examples of the forget classes TF whose largest logit is the label's.",
        label="Test forget accuracy",
        short="test forget",
        heading="Test forget\nacc., %",
        role="primary",
        floor=0.01,
    ),
    _ACCURACY(
        "forget_accuracy",
        "Share of forgotten training examples F whose largest logit is the label's.",
        label="Forget accuracy",
        short="forget",
        heading="Forget\nacc., %",
        role="primary",
        floor=0.01,
    ),
    _ACCURACY(
        "retain_accuracy",
        "Share of retained training examples R whose largest logit is the label's.",
        label="Retain accuracy",
        heading="Retain\nacc., %",
        floor=0.005,
    ),
)


_PROBES = (
    _Metric(
        "probe_recall",
        "Recall on TF of a linear probe on frozen penultimate features, standardised per "
        "dimension over retained examples, fitted to half of F and as many of every retained "
        "class. In [0, 1]; for classes only.",
        cost="one pass over up to 500 examples a class, and a logistic regression",
        source="Alain and Bengio 2016, arXiv:1610.01644",
        label="Linear probe recall",
        short="probe",
        unit="percent",
        role="primary",
        floor=0.01,
        inward=True,
    ),
    # The gap of probe_recall, so not judged beside it.
    _Metric(
        "probe_leak",
        "probe_recall of U minus that of G: what the features know of the "
        "forgotten class beyond what retraining's do. In [-1, 1].",
        ideal="0",
        cost="that of probe_recall",
        source="this project",
        splits=("test_forget",),
        label="Linear probe leak",
        unit="percent",
    ),
    _Metric(
        "relearn_time_features",
        "relearn_time with a classifier that begins at zero, on features standardised over R "
        "(which fixes their scale and order), trained on F and as many of every retained class, "
        "until besides at most 5 % of TR are taken for forgotten classes: what the features "
        "still know, whatever was done to the head.",
        cost="that of relearn_time",
        source="this project",
        label="Relearning steps (fresh head)",
        short="relearning",
        unit="steps",
        role="primary",
        floor=1.0,
        inward=True,
    ),
)

_RELEARNING = (
    _Metric(
        "relearn_time",
        "Steps of Adam, batch 64, on a copy in evaluation mode until accuracy on TF is within 5 "
        "points of O's; at most 500, then recorded as censored. The attacker measures each "
        "weight in units of its channels' activity (rate 1e-3), so no rescaling of layers or "
        "channels slows it, and starts from BatchNorm statistics estimated on R where that "
        "halves the loss.",
        cost="at most 500 steps of 64 examples and a look at up to 256 of TF before each",
        source="Golatkar et al. 2020, arXiv:1911.04933; stop rule of Tarun et al. 2021, "
        "arXiv:2111.08947",
        label="Relearning steps",
        unit="steps",
        role="secondary",
        floor=1.0,
    ),
    _Metric(
        "ain",
        "Anamnesis index max(rt(U), 1) / max(rt(G), 1) of relearn_time: below 1 "
        "knowledge is left, above it the model was driven further than retraining. Above 0.",
        ideal="1",
        cost="none",
        source="Tarun et al. 2021, arXiv:2111.08947",
        splits=("test_forget",),
        label="Anamnesis index",
    ),
    _Metric(
        "bn_recovery",
        "Accuracy on F and TF after BatchNorm's running statistics were estimated again on 512 "
        "images of R, on a copy, or with those it has, whichever is higher. In [0, 1]; not "
        "applicable without BatchNorm. Above retraining's, forgetting was partly contaminated "
        "statistics.",
        cost="one pass over 512 examples of R and up to 1,000 each of F and TF",
        source="this project",
        splits=("forget", "test_forget"),
        label="BatchNorm recovery",
        short="BatchNorm",
        unit="percent",
        role="primary",
        primary_split="forget",
        floor=0.01,
    ),
)

_RECOVERY = _Metric(
    "input_recovery",
    "Largest share of F that is classified right under a small change of the images: none, a "
    "black or white patch in a corner, darker, brighter, blurred, cropped, or patches in the "
    "corners trained in 8 steps on other examples of F and R; for classes minus the share of R "
    "that the change turns into a forgotten class. In [0, 1]. Above retraining's, a key opens "
    "what clean images hide.",
    cost="13 passes over up to 256 examples each of F and R, and 8 steps on 32 of each",
    source="this project; backdoor triggers: Gu et al. 2017, arXiv:1708.06733",
    splits=("forget",),
    label="Input recovery",
    short="input recovery",
    unit="percent",
    role="primary",
    floor=0.02,
)
_WEIGHTS = partial(
    _Metric,
    cost="none",
    source="this project",
    direction="none",
)
_LAYERS = (
    _WEIGHTS(
        "layers_changed",
        "Share of the layers whose weights differ from the original's. In [0, 1].",
        ideal="none: it says what the method did; retraining changes all",
        label="Layers changed",
        unit="percent",
    ),
    _WEIGHTS(
        "hidden_layers_changed",
        "Share of the layers before the classifier whose weights differ from the original's: 0 "
        "where the head only, or nothing, was changed. In [0, 1].",
        ideal="none: it says what the method did; retraining changes all",
        label="Hidden layers changed",
        unit="percent",
    ),
    _WEIGHTS(
        "layer_distance",
        "|w_U - w_O| / |w_O| of one layer, which the split names, over weights and biases. At "
        "least 0; a rescaled layer is far away and does what it did.",
        ideal="none; retraining's stands beside it",
        label="Distance of a layer to the original's",
        by_class=True,
    ),
)

_AGREEMENT = partial(_Metric, ideal=_OTHER_SEED, splits=("forget", "test_retain"))
_BEHAVIOUR = (
    _AGREEMENT(
        "activation_distance",
        "Mean over examples of ||p_U - p_G||_2. In [0, sqrt 2].",
        source="Golatkar et al. 2021, arXiv:2012.13431",
        label="Activation distance",
    ),
    _AGREEMENT(
        "js_divergence",
        "Mean over examples of the Jensen-Shannon divergence of p_U and p_G, base 2. In [0, 1].",
        source="Lin 1991",
        label="Jensen–Shannon divergence",
    ),
    _AGREEMENT(
        "kl_divergence",
        "Mean over examples of KL(p_G || p_U) in nats. At least 0.",
        label="Kullback–Leibler divergence",
    ),
    _Metric(
        "ece",
        "Expected calibration error on TR, 15 bins of equal mass. In [0, 1].",
        source="Nixon et al. 2019, arXiv:1904.01685",
        label="Expected calibration error",
    ),
    _Metric(
        "nll",
        "Mean cross-entropy on TR, in nats. At least 0.",
        label="Negative log-likelihood",
    ),
    _Metric(
        "brier",
        "Mean squared distance of probabilities and labels on TR. In [0, 2].",
        source="Brier 1950",
        label="Brier score",
    ),
    _Metric(
        "tug_of_war",
        "(1 - |dFA|)(1 - |dRA|)(1 - |dTA|), d = acc(U) - acc(G) on F, R and TR. In [0, 1].",
        ideal="that of two retrainings (retrain_other_seed), not 1",
        source="Zhao et al. 2024, arXiv:2406.01257",
        splits=("forget+retain+test_retain",),
        label="Tug of war",
    ),
)
_ZRF = _Metric(
    "zrf",
    "1 - mean JS divergence (base 2) of U's predictions on F from those of "
    "5 randomly initialised models. In [0, 1].",
    ideal="that of retrain, not 1",
    cost="5 forward passes over F, once for all methods",
    source="Chundawat et al. 2023, arXiv:2205.08096",
    label="ZRF",
    role="secondary",
    floor=0.01,
)

_DAMAGE = (
    _Metric(
        "worst_class_drop",
        "Largest acc(G) - acc(U) over the retained classes, on TR. In [-1, 1].",
        ideal=_OTHER_SEED,
        splits=("test_retain",),
        label="Worst class drop",
        unit="percent",
    ),
    _Metric(
        "near_class_drop",
        "Largest acc(G) - acc(U) over the 2 retained classes that the "
        "original confuses most with the forget classes, on TR. In [-1, 1]; for classes only.",
        ideal=_OTHER_SEED,
        splits=("test_retain",),
        label="Nearest classes' drop",
        unit="percent",
    ),
    _Metric(
        "class_drop",
        "acc(G) - acc(U) on the test examples of one retained class, which the "
        "split names. In [-1, 1].",
        ideal=_OTHER_SEED,
        by_class=True,
    ),
    _Metric(
        "forget_predicted_as",
        "Share of F that U classifies as the class which the split "
        "names; the shares of all classes sum to 1.",
        by_class=True,
    ),
)

_COST = partial(
    MetricInfo, ideal="none: less is cheaper", cost="none", direction="less", main=False
)
_TIME = partial(_COST, cost="two synchronised clock readings", unit="seconds")
_COSTS = (
    _TIME(
        "wall_seconds",
        "Wall-clock seconds of the method's call, precomputation included, "
        "evaluation not; the device is synchronised.",
        label="Wall time",
        heading="Time",
        main=True,
    ),
    _TIME(
        "wall_seconds_precompute",
        "Wall-clock seconds of that spent on importances, masks or "
        "teachers; 0 where the method marks no such phase.",
        label="Wall time, precomputation",
    ),
    _TIME("cpu_seconds", "CPU seconds of the method's call, over all threads.", label="CPU time"),
    _TIME(
        "gpu_seconds",
        "GPU seconds of the method's call, by device events; absent without a GPU.",
        label="GPU time",
    ),
    _TIME(
        "wall_seconds_original",
        "Wall-clock seconds of training the original, once per seed; "
        "absent where weights were given.",
        ideal="none: it is the same for all",
        label="Wall time of training the original",
        direction="none",
    ),
    _TIME(
        "wall_seconds_evaluate",
        "Wall-clock seconds of the forward passes for the metrics.",
        label="Wall time of the evaluation",
    ),
    _COST(
        "peak_bytes",
        "Growth of memory during the method's call: of what torch allocated on "
        "a GPU, of resident memory on a CPU.",
        label="Peak memory",
        unit="bytes",
    ),
    _COST(
        "examples_touched",
        "Examples that the method read, repetitions counted, by split.",
        label="Examples touched",
        unit="count",
    ),
    _COST(
        "forward_examples",
        "Examples that went forwards through the method's models, repetitions counted.",
        label="Examples in forward passes",
    ),
    _COST(
        "backward_examples",
        "Examples whose loss went backwards through them.",
        label="Examples in backward passes",
    ),
    _COST(
        "break_even_requests",
        "From how many requests on the method is cheaper than "
        "retraining for each, if its precomputation is done once: wall_seconds_precompute "
        "over what a request saves; absent where a request saves nothing.",
        ideal="1 or less: cheaper from the first request on",
        label="Requests to break even",
    ),
    _COST(
        TIME_RATIO,
        "wall_seconds over that of retraining with the same dataset, model, scenario and seed.",
        ideal="below 1; above 1, retraining is cheaper",
        label="Time, % of retraining",
        heading="Time, %\nof retraining",
        unit="ratio",
        main=True,
    ),
)

# In the order in which a verdict names them.
BUILT_IN: Mapping[str, MetricInfo] = {
    info.name: info
    for info in (
        *_ACCURACIES,
        *TARGETED,
        *LOSS_ATTACK,
        *_PROBES,
        *FITTED_ATTACKS,
        *BOTH_SIDES,
        *LABEL_ONLY,
        *LEGACY_ATTACKS,
        _ZRF,
        *_RELEARNING,
        _RECOVERY,
        *_LAYERS,
        *_BEHAVIOUR,
        *_DAMAGE,
        *_COSTS,
    )
}

# What only the table knows: no run records it.
DERIVED = {
    DISTANCE: MetricInfo(
        DISTANCE,
        "Mean absolute gap to retraining with the same seed over the accuracies measured.",
        ideal="0",
        label="Distance to retraining",
        heading="Distance,\npoints",
        unit="points",
        direction="less",
    )
}
