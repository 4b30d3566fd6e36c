"""Outputs: the logits of one model on one split, from which output metrics are computed."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """What a model says about one split.

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
