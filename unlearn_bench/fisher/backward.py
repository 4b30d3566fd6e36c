"""Backward passes for activations alone, and what one of them tells about the layout."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from unlearn_bench.core.errors import ModelError
from unlearn_bench.fisher.graph import Recording, roots
from unlearn_bench.fisher.layout import Layout, find, mixes


def pull_back(
    recording: Recording,
    wanted: set[Node],
    v: Tensor,
    take: Callable[[Node, Tensor], None],
    *,
    with_input: bool = False,
    retain: bool = True,
) -> Tensor | None:
    """Pull the column ``v`` back and hand each wanted node's output gradient to ``take``.

    Weight gradients are not computed, since torch computes but what leads to the inputs of a
    gradient call: here the lowest wanted nodes' outputs.

    Returns:
        The gradient of the model's input, if asked for and there is one.
    """
    if recording.logits.grad_fn is None:
        return None
    on_data = set(recording.children_first)
    ends = [node for node in wanted if node not in on_data]
    ends += roots(recording.children_first, wanted)
    handles = [
        node.register_prehook(
            lambda grads, node=node: None if grads[0] is None else take(node, grads[0])
        )
        for node in wanted.difference(ends)
    ]
    edges: list[Any] = [GradientEdge(node, 0) for node in ends]
    with_input = with_input and recording.x.requires_grad
    if with_input:
        edges.append(recording.x)
    try:
        if not edges:
            return None
        found = torch.autograd.grad(
            recording.logits, edges, v, retain_graph=retain, allow_unused=True
        )
    finally:
        for handle in handles:
            handle.remove()
    for node, g in zip(ends, found, strict=False):
        if g is not None:
            take(node, g)
    return found[-1] if with_input else None


def probe(recording: Recording) -> list[Layout | None]:
    """Layouts of all uses, by a backward pass for the second example alone."""
    n = len(recording.x)
    found: list[Layout | None] = [None] * len(recording.uses)
    v = torch.zeros_like(recording.logits)
    generator = torch.Generator().manual_seed(0)
    v[1] = torch.randn(v.shape[1], generator=generator).to(v)

    def note(node: Node, g: Tensor) -> None:
        place = find(g, n)
        for k, use in enumerate(recording.uses):
            if use.node is node:
                found[k] = place

    inputs = pull_back(recording, {use.node for use in recording.uses}, v, note, with_input=True)
    if inputs is not None and mixes(inputs):
        raise ModelError(
            "the model's output for one example depends on the others of its batch, as with"
            " BatchNorm without running statistics; p(c|x) is then undefined, so replace that layer"
        )
    return found
