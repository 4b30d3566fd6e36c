"""Other ways to compute the same Fisher diagonal, each as its own documentation has it.

A peer is a function (model, x, y, kind) -> {parameter name: diagonal}. ``loop`` and ``vmap``
need torch alone; the others come with the extra ``bench``.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import log_softmax, nll_loss
from torch.utils.data import DataLoader, TensorDataset

Diagonal = dict[str, Tensor]
Peer = Callable[[nn.Module, Tensor, Tensor, str], Diagonal]


def loop(model: nn.Module, x: Tensor, y: Tensor, kind: str) -> Diagonal:
    """One example at a time, one backward pass per class."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    totals = [torch.zeros_like(p) for p in parameters]
    for i in range(len(x)):
        log_p = model(x[i : i + 1]).log_softmax(1)[0]
        classes = [int(y[i])] if kind == "empirical" else range(len(log_p))
        for c in classes:
            weight = 1.0 if kind == "empirical" else log_p[c].exp().detach()
            for total, g in zip(
                totals, torch.autograd.grad(log_p[c], parameters, retain_graph=True), strict=True
            ):
                total.addcmul_(g, g * weight)
    return {name: total / len(x) for name, total in zip(names, totals, strict=True)}


def vmapped(model: nn.Module, x: Tensor, y: Tensor, kind: str) -> Diagonal:
    """``vmap`` of ``grad``, 32 examples at a time: the fastest of 4 to 64 on ResNet-18."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def log_p(theta: Diagonal, one: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, (theta, buffers), (one[None],))
        return -nll_loss(log_softmax(logits, 1), label[None])

    def summed(labels: Tensor, weights: Tensor) -> Diagonal:
        totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
        gradients = vmap(grad(log_p), (None, 0, 0))
        for some in torch.arange(len(x)).split(32):
            for name, g in gradients(parameters, x[some], labels[some]).items():
                w = weights[some].view(-1, *[1] * (g.ndim - 1))
                totals[name] += (g.square() * w).sum(0)
        return totals

    if kind == "empirical":
        totals = summed(y, torch.ones(len(x), dtype=x.dtype))
    else:
        p = model(x).softmax(1).detach()
        parts = [summed(torch.full_like(y, c), p[:, c]) for c in range(p.shape[1])]
        totals = {name: sum(part[name] for part in parts) for name in parameters}
    return {name: total / len(x) for name, total in totals.items()}


def nngeometry(model: nn.Module, x: Tensor, y: Tensor, kind: str) -> Diagonal:
    """``FIM(..., PMatDiag, variant="classif_logits")``; its Jacobian of log p for empirical.

    Layers that it does not know are left out, as its ``ignore_unsupported_layers`` does.
    """
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.metrics import FIM
    from nngeometry.object import PMatDiag

    loader = DataLoader(TensorDataset(x, y), batch_size=len(x))
    layers = LayerCollection.from_model(model, ignore_unsupported_layers=True)
    if kind == "true":
        matrix = FIM(model, loader, PMatDiag, layer_collection=layers)
    else:

        def log_p(*d: Tensor) -> Tensor:
            return -nll_loss(log_softmax(model(d[0]), 1), d[1], reduction="none")[:, None]

        backend = TorchHooksJacobianBackend(model, log_p, layer_collection=layers)
        matrix = PMatDiag(backend, examples=loader)
    flat, found, at = matrix.get_diag(), {}, 0
    for key, layer in layers.layers.items():
        for part in ("weight", "bias"):
            shape = getattr(layer, part, None)
            if shape is not None:
                found[f"{key}.{part}"] = flat[at : at + shape.numel()].view(*shape.size)
                at += shape.numel()
    return found


def backpack(model: nn.Module, x: Tensor, y: Tensor, kind: str) -> Diagonal:
    """``DiagGGNExact`` or ``SumGradSquared`` on the model converted by BackPACK."""
    from backpack import backpack as context
    from backpack import extend
    from backpack.extensions import DiagGGNExact, SumGradSquared

    names = [name for name, _ in model.named_parameters()]
    model = extend(model, use_converter=True).eval()
    loss = extend(nn.CrossEntropyLoss(reduction="mean" if kind == "true" else "sum"))
    extension = DiagGGNExact() if kind == "true" else SumGradSquared()
    with context(extension):
        loss(model(x), y).backward()
    field = "diag_ggn_exact" if kind == "true" else "sum_grad_squared"
    scale = 1 if kind == "true" else len(x)
    parameters = list(model.parameters())
    return {n: getattr(p, field) / scale for n, p in zip(names, parameters, strict=True)}


PEERS: dict[str, Peer] = {
    "batch-1 loop": loop,
    "torch.func vmap": vmapped,
    "nngeometry": nngeometry,
    "BackPACK": backpack,
}
