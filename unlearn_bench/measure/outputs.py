"""Outputs of models: logits on each split, and the models that one evaluation compares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Outputs:
    """Logits of a model on one split.

    Attributes:
        split: ``forget``, ``retain``, ``test_forget`` or ``test_retain``.
        logits: float64 [N, C], eval mode, test transform, stored order.
        labels: int64 [N].
    """

    split: str
    logits: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def nll(self) -> Tensor:
        """Return the cross-entropy of every example, float64 [N]: logsumexp(z) - z_y."""
        true = self.logits.gather(1, self.labels[:, None]).squeeze(1)
        return self.logits.logsumexp(1) - true

    def correct(self) -> Tensor:
        """Return for every example whether the largest logit is the label's, bool [N]."""
        return self.logits.argmax(1) == self.labels

    def accuracy(self) -> float:
        """Return the share of examples whose largest logit is the label's."""
        return float(self.correct().double().mean())


@dataclass(frozen=True)
class Relearned:
    """Steps until knowledge was back; ``censored`` if it was not within the cap."""

    steps: int
    censored: bool


@dataclass(frozen=True)
class Recovered:
    """What a small change of the images brought back.

    Attributes:
        share: Of F, classified right under the change that brings most back; where classes are
            forgotten, minus the share of R taken for one of them. In [0, 1].
        change: Its name.
        of: Examples of F that it was judged on.
    """

    share: float
    change: str
    of: int


@dataclass(frozen=True)
class Probed:
    """What probes found in a model, on copies of it.

    Attributes:
        relearn_time: Of the model as it is.
        relearn_time_features: With a fresh classifier; None where it cannot be replaced.
        recall: Of a linear probe on the features, on TF; None where it is not asked for.
        recall_of: Examples that it was measured on.
        no_recall: Why there is no recall.
        renewed: Outputs on examples of F and TF by split, after BatchNorm's statistics were
            estimated again; empty without BatchNorm.
        copies: Outputs on shifted copies of examples of F and TF by split, all examples of the
            first shift first.
        recovered: What small changes of the images bring back; None where it is not asked for.
        layers: Relative distance of each layer's weights to the original's.
        heads: Which of them make up the classifier.
        seconds: CPU seconds by probe.
    """

    relearn_time: Relearned
    relearn_time_features: Relearned | None = None
    recall: float | None = None
    recall_of: int = 0
    no_recall: str = ""
    renewed: Mapping[str, Outputs] = field(default_factory=dict)
    copies: Mapping[str, Outputs] = field(default_factory=dict)
    recovered: Recovered | None = None
    layers: Mapping[str, float] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Observed:
    """What was recorded of one model; metrics never see the model itself.

    Attributes:
        outputs: By split: ``forget``, ``retain``, ``test_forget``, ``test_retain``.
        probed: What probes found in it.
    """

    outputs: Mapping[str, Outputs]
    probed: Probed | None = None

    def __getitem__(self, split: str) -> Outputs:
        return self.outputs[split]


@dataclass(frozen=True)
class Evaluation:
    """Everything that metrics see when one unlearned model is evaluated.

    Attributes:
        unlearned: U, the model under evaluation.
        original: O, which U was unlearned from.
        retrained: G, trained on R alone with the seed of O; None where retraining failed.
        classes: Class names by index.
        random_logits: Logits on F of several freshly initialised models, each [N, C].
        missing: Why there is no G; empty where there is one.
        forget_classes: Classes forgotten whole; empty for sample scenarios.
        seed: Determines the random draws of a metric.
        scope: What kind of scenario it is, as methods name it in ``forgets=``.
        memorisation: How far the examples of F and R are memorised, float64 by split, where F was
            chosen by that.
    """

    unlearned: Observed
    original: Observed
    retrained: Observed | None
    classes: tuple[str, ...]
    random_logits: tuple[Tensor, ...] = ()
    missing: str = ""
    forget_classes: tuple[int, ...] = ()
    seed: int = 0
    scope: str = ""
    memorisation: Mapping[str, Tensor] = field(default_factory=dict)

    def both(self, look: Callable[..., Seen], *where: str) -> tuple[Seen, Seen | None]:
        """Return what ``look(model, *where)`` sees in U, and in G where there is one."""
        retrained = None if self.retrained is None else look(self.retrained, *where)
        return look(self.unlearned, *where), retrained

    def right(self, split: str) -> tuple[Tensor, Tensor | None]:
        """Return which examples U classifies right, bool [N], and which G does."""
        return self.both(lambda seen: seen[split].correct())

    @property
    def reference(self) -> Observed:
        """G, for metrics that cannot do without it."""
        assert self.retrained is not None, "registered with needs_retrained=True"
        return self.retrained
