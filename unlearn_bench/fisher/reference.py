"""The Fisher diagonal by its definition: slow, obvious, and what the fast code is held to.

Every gradient is taken on its own, one example and one class at a time, on a deep copy.
"""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from unlearn_bench.fisher.columns import draw_labels
from unlearn_bench.fisher.result import FisherDiagonal
from unlearn_bench.fisher.state import borrowed


def reference_diagonal(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    kind: str = "true",
    *,
    samples: int = 1,
    names: Iterable[str] | None = None,
    seed: int = 0,
) -> FisherDiagonal:
    """Compute one of the diagonals defined in :func:`unlearn_bench.fisher.fisher_diagonal`.

    Args:
        model: Classifier, inputs to logits [N, C].
        batches: Pairs of inputs [N, ...] and labels [N].
        kind: ``"true"``, ``"empirical"``, ``"monte_carlo"`` or ``"batch"``.
        samples: Labels drawn per example by ``monte_carlo``.
        names: Parameters to compute; None for all.
        seed: Of the drawn labels.
    """
    with borrowed(model):
        model = copy.deepcopy(model)
    parameters = dict(model.named_parameters())
    parameters = {n: parameters[n] for n in (parameters if names is None else names)}
    for p in parameters.values():
        p.requires_grad_(True)
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
    generator = torch.Generator().manual_seed(seed)

    def add_square(value: Tensor, weight: float | Tensor) -> None:
        gradients = torch.autograd.grad(
            value, list(parameters.values()), retain_graph=True, allow_unused=True
        )
        for total, gradient in zip(totals.values(), gradients, strict=True):
            if gradient is not None:
                total += weight * gradient**2

    examples, steps = 0, 0
    with borrowed(model), torch.enable_grad():
        for x, y in batches:
            # One batched forward: on CPU, torch's eval-mode BatchNorm backward is wrong for a
            # batch of one whose incoming gradient is transposed (seen with torch 2.15).
            log_p = model(x).log_softmax(1)
            examples, steps = examples + len(x), steps + 1
            if kind == "batch":
                add_square(log_p[torch.arange(len(x)), y].mean(), 1.0)
                continue
            drawn = draw_labels(log_p, samples, generator) if kind == "monte_carlo" else None
            for i in range(len(x)):
                if kind == "empirical":
                    add_square(log_p[i, y[i]], 1.0)
                elif drawn is not None:
                    for c in drawn[i]:
                        add_square(log_p[i, c], 1 / samples)
                else:
                    for c in range(log_p.shape[1]):
                        add_square(log_p[i, c], log_p[i, c].detach().exp())
    count = steps if kind == "batch" else examples
    means = {name: total.div_(count) for name, total in totals.items()}
    return FisherDiagonal(means, dict.fromkeys(means, "reference"), examples)


def disagreement(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Largest error of a parameter's diagonal, relative to its norm.

    Some gradients are zero by structure (key biases, for one) and come out as rounding noise;
    so a norm counts as at least 1e-12 of the largest parameter's.

    Args:
        got: Diagonal under test.
        expected: Trusted diagonal of the same parameters.
    """
    largest = max(float(t.norm()) for t in expected.values())
    return max(
        float((got[name] - t).norm()) / max(float(t.norm()), 1e-12 * largest, 1e-300)
        for name, t in expected.items()
    )
