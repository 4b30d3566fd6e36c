"""Everything a plug-in imports: registration, data access and shared building blocks.

A method is one decorated function::

    from unlearn_bench.api import Access, Context, method

    @method("my_method", access=Access.FORGET, source="arXiv:...")
    def my_method(model, ctx: Context, *, lr: float = 1e-3):
        '''State what it minimises and, under ``Args:``, what each parameter means.'''
        ...
        return model

``model`` is a private copy of the original, in eval mode, on ``ctx.device``: change it in place
and return it, or return another of the same architecture.

A metric is also one decorated function, a pure function of the models' recorded outputs::

    from unlearn_bench.api import Evaluation, metric

    @metric("my_metric", ideal="that of retrain", split="forget", label="My metric")
    def my_metric(seen: Evaluation) -> float:
        '''Largest loss of a forgotten example.'''
        return float(seen.unlearned["forget"].nll().max())

``@measures(MetricInfo(...), ...)`` is its long form, for functions that give several metrics. And
so are a network and a dataset::

    from unlearn_bench.api import Data, dataset, model

    @model("my_net")
    def my_net(channels, image_size, num_classes):
        return MyNet(channels, num_classes)

    @dataset("my_scans")
    def my_scans(root):
        return Data(train=(images, labels), test=(images, labels), classes=["sick", "well"])
"""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from unlearn_bench.core.errors import MethodError
from unlearn_bench.data.plugged import Data
from unlearn_bench.measure.metrics import measures, metric
from unlearn_bench.measure.outputs import Evaluation, Observed, Outputs
from unlearn_bench.plugins.access import Access
from unlearn_bench.plugins.method import Check, Probe
from unlearn_bench.plugins.metric import MetricInfo
from unlearn_bench.plugins.parts import dataset, model
from unlearn_bench.plugins.registry import method
from unlearn_bench.plugins.tunable import Tunable
from unlearn_bench.results.records import Record
from unlearn_bench.toolkit.alignment import aligned, realign, restore_statistics
from unlearn_bench.toolkit.anatomy import (
    TailUnit,
    Targets,
    blocks,
    fan_in,
    features_and_logits,
    heads,
    last_layers,
    matrices,
    norms,
    renew,
    stem,
    tail,
)
from unlearn_bench.toolkit.attacks import Pixels, fgsm, input_gradient, l2_pgd
from unlearn_bench.toolkit.checkpoints import Checkpoints, Restart
from unlearn_bench.toolkit.context import Context, Split, TrainingLog
from unlearn_bench.toolkit.gradients import (
    by_parameter,
    dot,
    global_norm,
    loss_gradients,
    summed_cross_entropy,
    summed_gradient,
    twice_differentiable,
)
from unlearn_bench.toolkit.layer_inputs import layer_inputs, standardised
from unlearn_bench.toolkit.masks import MaskedOptimizer, largest
from unlearn_bench.toolkit.memorisation import heldout_memorisation
from unlearn_bench.toolkit.modes import (
    BatchNormMode,
    accuracy,
    accuracy_exceeds,
    check_finite,
    evaluating,
    training,
)
from unlearn_bench.toolkit.noise import add_noise
from unlearn_bench.toolkit.passes import descend
from unlearn_bench.toolkit.relabelling import (
    PassOrder,
    Pool,
    Relabel,
    relabelled_pass,
    train_relabelled,
    wrong_labels,
)
from unlearn_bench.toolkit.state import State
from unlearn_bench.toolkit.streams import mixed, shuffled
from unlearn_bench.toolkit.surrogate_images import SurrogateKind, surrogate_images
from unlearn_bench.toolkit.teachers import frozen_copy, kl_divergence

Fraction = Annotated[float, Field(ge=0, le=1)]
# Not searched: with the learning rate it makes the step, and one of the two is enough.
Momentum = Annotated[float, Field(ge=0, lt=1), Tunable(tune=False)]

__all__ = [
    "Access",
    "BatchNormMode",
    "Check",
    "Checkpoints",
    "Context",
    "Data",
    "Evaluation",
    "Fraction",
    "MaskedOptimizer",
    "MethodError",
    "MetricInfo",
    "Momentum",
    "NonNegativeFloat",
    "NonNegativeInt",
    "Observed",
    "Outputs",
    "PassOrder",
    "Pixels",
    "Pool",
    "PositiveFloat",
    "PositiveInt",
    "Probe",
    "Record",
    "Relabel",
    "Restart",
    "Split",
    "State",
    "SurrogateKind",
    "TailUnit",
    "Targets",
    "TrainingLog",
    "Tunable",
    "accuracy",
    "accuracy_exceeds",
    "add_noise",
    "aligned",
    "blocks",
    "by_parameter",
    "check_finite",
    "dataset",
    "descend",
    "dot",
    "evaluating",
    "fan_in",
    "features_and_logits",
    "fgsm",
    "frozen_copy",
    "global_norm",
    "heads",
    "heldout_memorisation",
    "input_gradient",
    "kl_divergence",
    "l2_pgd",
    "largest",
    "last_layers",
    "layer_inputs",
    "loss_gradients",
    "matrices",
    "measures",
    "method",
    "metric",
    "mixed",
    "model",
    "norms",
    "realign",
    "relabelled_pass",
    "renew",
    "restore_statistics",
    "shuffled",
    "standardised",
    "stem",
    "summed_cross_entropy",
    "summed_gradient",
    "surrogate_images",
    "tail",
    "train_relabelled",
    "training",
    "wrong_labels",
    "twice_differentiable",
]
