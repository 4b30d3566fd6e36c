"""Several networks of one architecture that answer together, with the interface of a timm model."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

_INTERFACE = ("forward_features", "forward_head", "get_classifier", "reset_classifier")


class Ensemble(nn.Module):
    """Answers by the mean of its members' softmax, as the logarithm of it.

    Args:
        members: Of one architecture.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to logits [N, classes], whose softmax is the members' mean."""
        return _joint(member(x) for member in self.members)


class FeatureEnsemble(Ensemble):
    """An ensemble whose members have timm's interface; so has it, their features side by side."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__(members)
        widths = [getattr(member, "num_features", 0) for member in self.members]
        self.num_features = sum(width for width in widths if isinstance(width, int))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Map images [N, C, H, W] to the features of each member."""
        return [member.forward_features(x) for member in self.members]  # type: ignore[operator]

    def forward_head(self, features: Sequence[Tensor], pre_logits: bool = False) -> Tensor:
        """Map features to logits or, before the classifiers, to one row per image [N, D]."""
        found = [
            member.forward_head(own, pre_logits=pre_logits)  # type: ignore[operator]
            for member, own in zip(self.members, features, strict=True)
        ]
        return torch.cat([rows.flatten(1) for rows in found], 1) if pre_logits else _joint(found)

    def get_classifier(self) -> tuple[nn.Module, ...]:
        """Return the members' last layers."""
        found: list[nn.Module] = []
        for member in self.members:
            given = member.get_classifier()  # type: ignore[operator]
            found += given if isinstance(given, tuple | list) else [given]
        return tuple(found)

    def reset_classifier(self, num_classes: int) -> None:
        """Give every member a new last layer."""
        for member in self.members:
            member.reset_classifier(num_classes)  # type: ignore[operator]


def joined(members: Sequence[nn.Module]) -> Ensemble:
    """Return the ensemble of these models, with timm's interface if all of them have it."""
    has_features = all(hasattr(member, name) for member in members for name in _INTERFACE)
    return FeatureEnsemble(members) if has_features else Ensemble(members)


def _joint(logits: Iterable[Tensor]) -> Tensor:
    answers = torch.stack([each.log_softmax(1) for each in logits])
    return answers.logsumexp(0) - math.log(len(answers))
