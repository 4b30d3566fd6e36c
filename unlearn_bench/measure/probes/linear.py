"""Linear probe: can the forgotten class still be read off the penultimate features?

A multinomial logistic regression is fitted to frozen features of half of F and as many
examples of each retained class, and its recall is measured on TF. Features of a model that never
saw the class separate it less well; a fake with untouched weights keeps them as they were.
Each dimension is standardised on retained examples: how large features are written says nothing.
"""

import numpy as np
import torch
from torch import Tensor, nn

from unlearn_bench.core.memory import halving
from unlearn_bench.data.batches import iterate
from unlearn_bench.data.datasets import Dataset, Part
from unlearn_bench.measure.evaluate import BATCH_SIZE
from unlearn_bench.measure.probes.canonical import Standardiser


@torch.no_grad()
def features(
    model: nn.Module, dataset: Dataset, part: Part, indices: Tensor, device: torch.device
) -> Tensor:
    """Return the penultimate features of some examples, float32 [N, D] on the CPU.

    Through timm's own interface: ``forward_head(forward_features(x), pre_logits=True)``.
    """

    def rows_in(batch_size: int) -> Tensor:
        batches = iterate(
            part, indices, batch_size=batch_size, device=device, mean=dataset.mean, std=dataset.std
        )
        rows = []
        for x, _ in batches:
            hidden = model.forward_head(model.forward_features(x), pre_logits=True)  # type: ignore[operator]
            rows.append(hidden.flatten(1).float().cpu())
        return torch.cat(rows)

    return halving("probe features", BATCH_SIZE, rows_in)


def recall(fit: Tensor, labels: Tensor, tested: Tensor, tested_labels: Tensor) -> float:
    """Share of test examples that a probe fitted to other examples assigns to their class.

    Args:
        fit: Features, [N, D].
        labels: Their classes, [N]; at least two different ones.
        tested: Features of examples it has not seen, [M, D].
        tested_labels: Their classes, [M].

    Returns:
        In [0, 1].
    """
    from sklearn.linear_model import LogisticRegression

    fit, tested = fit.double(), tested.double()
    retained = fit[~torch.isin(labels, tested_labels)]
    standardise = Standardiser.of(retained if len(retained) else fit, fit)
    probe = LogisticRegression(max_iter=200).fit(standardise(fit).numpy(), labels.numpy())
    return float(np.mean(probe.predict(standardise(tested).numpy()) == tested_labels.numpy()))
