"""Gradients over a whole split: summed, flattened, normalised; gradients of gradients."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode

Loss = Callable[[Tensor, Tensor], Tensor]


def summed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy summed over the batch, so that sums over batches do not depend on them."""
    return cross_entropy(logits, labels, reduction="sum")


def summed_gradient(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Loss = summed_cross_entropy,
) -> dict[str, Tensor]:
    """Return the gradient of a loss summed over all batches, by parameter name.

    The model is taken in the mode it is in, which should be eval; gradients that its parameters
    hold are neither read nor changed.

    Args:
        model: Any.
        batches: (x, y); not augmented, for a score.
        loss: ``(logits, labels) -> scalar``, summed over examples.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    for x, y in batches:
        with torch.enable_grad():
            value = loss(model(x), y)
        found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
        for name, gradient in zip(named, found, strict=True):
            if gradient is not None:
                total[name] += gradient
    return total


def loss_gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return a loss's gradients by the parameters, 0 by those that it does not depend on."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two lists of tensors, each taken as one vector."""
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


class _TwiceDifferentiable(TorchFunctionMode):
    """Replaces what torch gives a first derivative only by the same in plain operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("hardsigmoid", "hardsigmoid_"):
            return (args[0] / 6 + 0.5).clamp(0, 1)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Let gradients of gradients be taken of models that run in the block.

    Fused attention and the hard sigmoid have no second derivative in torch; for the block both
    are computed by plain operations.
    """
    with sdpa_kernel(SDPBackend.MATH), _TwiceDifferentiable():
        yield


def global_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the l2 norm of all tensors taken as one vector."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack([t.norm() for t in tensors]))
    return norm


def by_parameter(model: nn.Module, named: Mapping[str, Tensor]) -> dict[nn.Parameter, Tensor]:
    """Return the same tensors keyed by parameter instead of by name."""
    parameters = dict(model.named_parameters())
    return {parameters[name]: tensor for name, tensor in named.items()}
