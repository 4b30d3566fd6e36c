"""How far a model is from retraining on a surrogate forget set: what tuning minimises.

The gap, in points::

    gap(U, G') = 100 / |A| * sum over a in A of |a(U) - a(G')|

with U the unlearned model, G' the one retrained without the surrogate F', and A

- accuracy on F', and on a sample of the retained examples;
- accuracy on the validation examples of F's classes, and on the others;
- for examples forgotten one by one, the AUC of the loss attack between F' and validation examples
  of the same classes;
- where the model has BatchNorm, accuracy on F' after its statistics were estimated again on
  retained examples, so that what is only hidden behind them is not rewarded.

Nothing of the test part enters, and nothing of the examples that are to be forgotten in truth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unlearn_bench.core.seeds import derive
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.data.draws import class_matched
from unlearn_bench.data.splits import Indices
from unlearn_bench.measure import evaluate
from unlearn_bench.measure.metrics.mia import auc
from unlearn_bench.measure.outputs import Outputs
from unlearn_bench.measure.probes import batch_norm

# Raise when the figures change: trials are then made again.
VERSION = 1
# Examples of each kind that are looked at, at most. Retained ones are many and hardly differ; the
# statistics of BatchNorm are estimated on the same.
SAMPLE, RETAINED = 2000, 512

Figures = Mapping[str, float]


@dataclass(frozen=True)
class View:
    """What an objective may look at: no test part, and no true forget set.

    Attributes:
        data: Its test part is sealed.
        indices: Of a surrogate.
        device: Where forward passes run.
        seed: One of tuning; determines the samples.
    """

    data: Dataset
    indices: Indices
    device: torch.device
    seed: int

    @property
    def labels(self) -> Tensor:
        """Classes of the training part, [N]."""
        return self.data.train.labels

    def sample(self, members: Tensor, purpose: str, most: int = SAMPLE) -> Tensor:
        """Draw at most ``most`` of some training examples, sorted."""
        generator = torch.Generator().manual_seed(derive(self.seed, "objective", purpose))
        return members[torch.randperm(len(members), generator=generator)[:most]].sort().values

    def outputs(self, model: nn.Module, chosen: Tensor) -> Outputs:
        """Return what a model says of training examples."""
        logits = evaluate.logits(model, self.data, self.data.train, self.device, chosen)
        return Outputs("", logits, self.labels[chosen])

    def seen(self, members: Tensor) -> Tensor:
        """Leave out the examples, and whole classes, that are to be forgotten in truth."""
        indices = self.indices
        hidden = torch.isin(members, indices.hidden)
        if indices.hidden_classes:
            hidden |= torch.isin(self.labels[members], torch.tensor(indices.hidden_classes))
        return members[~hidden]


# Looks at a model and returns figures in [0, 1], which are compared with the retrained model's.
Objective = Callable[[nn.Module, View], Figures]


def figures(model: nn.Module, view: View) -> Figures:
    """Return the figures of ``A`` for one model, each in [0, 1].

    Args:
        model: On the view's device.
        view: What may be looked at.

    Raises:
        MethodError: If a logit is NaN.
    """
    indices, labels = view.indices, view.labels
    forgotten = view.sample(indices.forget, "forget")
    retained = view.sample(view.seen(indices.retain), "retain", RETAINED)
    validation = view.seen(indices.validation)
    said = view.outputs(model, forgotten)
    parts = {"retain_accuracy": retained}
    if indices.forget_classes:
        ours = torch.isin(labels[validation], torch.tensor(indices.forget_classes))
        parts["validation_forget_accuracy"] = validation[ours]
        parts["validation_accuracy"] = validation[~ours]
    else:
        parts["validation_accuracy"] = validation
    found = {"forget_accuracy": said.accuracy()}
    for name, members in parts.items():
        if len(members):
            found[name] = view.outputs(model, view.sample(members, name)).accuracy()
    if not indices.forget_classes:
        matched = class_matched(labels[forgotten], labels[validation], view.seed)
        unseen = view.outputs(model, validation[matched])
        if min(len(said), len(unseen)) > 1:
            found["mia_auc"] = auc(-said.nll().numpy(), -unseen.nll().numpy())[0]
    if batch_norm.has_running_statistics(model):
        renewed = batch_norm.reestimated(model, view.data, retained, view.device)
        found["bn_recovery"] = view.outputs(renewed, forgotten).accuracy()
    return found


def gaps(unlearned: Figures, retrained: Figures) -> dict[str, float]:
    """Return the gap of each figure in points, of those that both models have."""
    return {
        name: 100 * abs(value - retrained[name])
        for name, value in unlearned.items()
        if name in retrained
    }
