"""Read off the autograd graph of a forward pass where each parameter meets the data.

Rules hang on operations, not on modules: whether a weight is used by ``nn.Conv2d``, a subclass,
a functional call or fused attention, the graph shows one ``ConvolutionBackward0`` or
``AddmmBackward0`` that reads it. Nothing is hooked onto the model, a parameter used twice is
seen to be used twice, and torch itself refuses saved tensors that were changed in place.

A *use* is an edge from an operation that depends on the input to a subgraph that depends on
parameters alone: a bare parameter, its transpose, or anything computed from parameters first
(standardised weights, gathered position biases).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from unlearn_bench.core.errors import ModelError

ACCUMULATE = "torch::autograd::AccumulateGrad"
# Operations that only move elements, one to one, so that squares may be moved in place of them.
_MOVES = {
    f"{name}Backward{n}"
    for name in (
        "T",
        "View",
        "UnsafeView",
        "ReshapeAlias",
        "Transpose",
        "Permute",
        "Unsqueeze",
        "Squeeze",
        "Clone",
        "Alias",
        "Select",
        "Slice",
        "ToCopy",
    )
    for n in range(3)
}
EXPANSIONS = ("ExpandBackward0", "RepeatBackward0")


@dataclass(frozen=True)
class Use:
    """One place where something computed from parameters alone meets the data.

    Attributes:
        node: The operation that reads it, dependent on the input; or the expansion that first
            repeats it for every example.
        slot: Which argument of the operation it is.
        source: The parameter-only side of the edge.
        names: The parameters it is computed from.
        moved: Whether the source is one parameter, at most viewed differently.
    """

    node: Node
    slot: int
    source: GradientEdge
    names: frozenset[str]
    moved: bool


@dataclass(frozen=True)
class Recording:
    """One forward pass.

    Attributes:
        x: The input, [N, ...].
        logits: The output, [N, C].
        uses: Where parameters meet the data.
        children_first: Every operation that depends on the input, inputs before outputs.
        hidden: Parameters whose uses cannot be told from the graph, because the data comes in
            through something without a gradient, such as a comparison.
    """

    x: Tensor
    logits: Tensor
    uses: list[Use]
    children_first: list[Node]
    hidden: frozenset[str] = frozenset()

    def signature(self) -> list[str]:
        """Names of the operations in order; equal for passes of equal structure."""
        return [node.name() for node in self.children_first]


def shape_of(edge: GradientEdge) -> torch.Size:
    """Shape of the tensor at ``edge``."""
    return torch.Size(edge.node._input_metadata[edge.output_nr].shape)


def record(model: nn.Module, x: Tensor, parameters: dict[str, nn.Parameter]) -> Recording:
    """Run ``model`` on ``x`` and find every use of ``parameters``.

    Args:
        model: Classifier in eval mode.
        x: Inputs, [N, ...].
        parameters: Those to look for; each must require a gradient.

    Raises:
        ModelError: If the output is not a tensor [N, C].
    """
    leaf = x.detach()
    if leaf.is_floating_point():
        leaf = leaf.clone().requires_grad_()
        # A model may change its input in place, which torch refuses for leaves.
        logits = model(leaf.clone())
    else:
        logits = model(leaf)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"the model returns {given} for {len(x)} inputs; the Fisher diagonal needs logits"
            " [N, C], so wrap the model in one that returns them"
        )
    if logits.grad_fn is None:
        return Recording(leaf, logits, [], [])
    nodes = _children_first(logits.grad_fn)
    names = {id(p): name for name, p in parameters.items()}
    on_data: dict[Node, bool] = {}
    holds: dict[Node, frozenset[str]] = {}
    for node in nodes:
        below = [child for child, _ in node.next_functions if child is not None]
        variable = getattr(node, "variable", None)
        on_data[node] = (
            variable is leaf
            or any(on_data[child] for child in below)
            # Whole numbers carry no gradient: what looks them up is where the data comes in.
            or (not leaf.requires_grad and node.name() == "EmbeddingBackward0")
        )
        own = frozenset([names[id(variable)]]) if id(variable) in names else frozenset()
        # Sets are only wanted where parameters have not met the data.
        below = [] if on_data[node] else below
        holds[node] = own.union(*(holds[child] for child in below)) if below else own
    uses = [
        _use(node, slot, GradientEdge(child, nr), holds[child], len(x))
        for node in nodes
        if on_data[node]
        for slot, (child, nr) in enumerate(node.next_functions)
        if child is not None and not on_data[child] and holds[child]
    ]
    # An expansion that several operations read is one use: its gradient is the sum of theirs.
    uses = list({(use.node, use.slot): use for use in uses}.values())
    hidden = holds[nodes[-1]] if not on_data[nodes[-1]] else frozenset()
    return Recording(leaf, logits, uses, [node for node in nodes if on_data[node]], hidden)


def roots(nodes: Iterable[Node], wanted: set[Node]) -> list[Node]:
    """The members of ``wanted`` below which there is no other, given nodes children first."""
    above: set[Node] = set()
    found = []
    for node in nodes:
        covered = any(child in above for child, _ in node.next_functions)
        if node in wanted and not covered:
            found.append(node)
        if node in wanted or covered:
            above.add(node)
    return found


def _use(node: Node, slot: int, source: GradientEdge, names: frozenset[str], n: int) -> Use:
    """Describe one edge from data to parameters, entering at an expansion over examples."""
    inner = unmoved(source.node)
    if inner.name() in EXPANSIONS and inner._input_metadata[0].shape[0] == n:
        child, nr = inner.next_functions[0]
        assert child is not None  # The source holds a parameter.
        node, slot, source = inner, 0, GradientEdge(child, nr)
    return Use(node, slot, source, names, unmoved(source.node).name() == ACCUMULATE)


def _children_first(root: Node) -> list[Node]:
    """Every node reachable from ``root``, each after all that it depends on."""
    order: list[Node] = []
    state: dict[Node, bool] = {}
    stack = [root]
    while stack:
        node = stack[-1]
        if node not in state:
            state[node] = False
            stack += [c for c, _ in node.next_functions if c is not None and c not in state]
            continue
        stack.pop()
        if not state[node]:
            state[node] = True
            order.append(node)
    return order


def unmoved(node: Node) -> Node:
    """What ``node`` is a view of, through operations that only move elements."""
    while node.name() in _MOVES and len(node.next_functions) == 1:
        child = node.next_functions[0][0]
        if child is None:
            break
        node = child
    return node
