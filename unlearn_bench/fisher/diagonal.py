"""The fast Fisher diagonal: one forward pass, one backward pass per column, rules on the way.

For each batch: run the model once and read the uses of its parameters off the autograd graph
(``graph.py``); for each column of logit gradients (``columns.py``) run torch's backward pass for
activations alone, and let a rule (``rules.py``, ``convolution.py``) take each operation's output
gradient as it comes by and add up the squares of the per-example parameter gradients. A
parameter used in several places, or through a computation of its own, has its per-example
gradients formed and summed before squaring; one that no rule covers takes ``fallback.py``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from unlearn_bench.errors import ModelError
from unlearn_bench.fisher import layout as layouts
from unlearn_bench.fisher.columns import Columns
from unlearn_bench.fisher.convolution import Convolution
from unlearn_bench.fisher.fallback import squares_by_example
from unlearn_bench.fisher.graph import ACCUMULATE, Recording, Use, record, roots, shape_of
from unlearn_bench.fisher.layout import Layout
from unlearn_bench.fisher.outer import BLOCK
from unlearn_bench.fisher.rules import RULES, Rule, UnsupportedError

_RULES: dict[str, Callable[..., Rule]] = {**RULES, "ConvolutionBackward0": Convolution}


class Engine:
    """Adds batches to the sums of squares of one model's parameters.

    Attributes:
        routes: How each parameter's sum was computed last.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, nn.Parameter],
        dtype: torch.dtype | None = None,
    ) -> None:
        """Start at zero.

        Args:
            model: Classifier in eval mode, borrowed for as long as batches are added.
            parameters: Those to compute, each requiring a gradient, the others not.
            dtype: Of the totals; None for each parameter's own, float32 for halves.
        """
        self.model, self.parameters = model, parameters
        self._dtypes = {
            name: dtype or torch.promote_types(p.dtype, torch.float32)
            for name, p in parameters.items()
        }
        self._totals: dict[str, Tensor] = {}
        self.routes = dict.fromkeys(parameters, "unused")
        self._signature: list[str] = []
        self._layouts: list[Layout | None] = []

    def means(self, count: int) -> dict[str, Tensor]:
        """The sums so far by parameter name, divided by ``count``; the engine is spent."""
        found = {}
        for name, p in self.parameters.items():
            total = self._totals.pop(name, None)
            if total is None:
                total = torch.zeros(p.shape, dtype=self._dtypes[name], device=p.device)
            # Rules leave their sums in whatever order of axes came cheapest.
            found[name] = total.contiguous().div_(count)
        return found

    def _take(self, name: str, sums: Tensor) -> None:
        """Add one batch's sums, which become the engine's own."""
        if name in self._totals:
            self._totals[name] += sums
        else:
            self._totals[name] = sums.to(self._dtypes[name])

    def add(self, x: Tensor, columns: Columns) -> None:
        """Add one batch.

        Args:
            x: Inputs, [N, ...].
            columns: Of the same batch.
        """
        n = len(x)
        if n == 1:
            # The example twice, the second weighted zero: see the note on BatchNorm in
            # reference.py.
            x = torch.cat([x, x])
        recording = record(self.model, x, self.parameters)
        self._find_layouts(recording)
        logits = recording.logits.detach()
        passes = columns.passes(logits.shape[1])
        batch = _Batch(recording, self._layouts, self.parameters, passes, self._take)
        for k, v in enumerate(columns.of(logits, 0, n), start=1):
            batch.backward(v, last=k == passes)
        self.routes |= batch.routes
        if batch.left:
            left = {name: p for name, p in self.parameters.items() if name in batch.left}
            self.routes |= dict.fromkeys(left, "fallback, by example")
            del batch, recording
            for name, sums in squares_by_example(self.model, x, columns, left).items():
                self._take(name, sums)

    def add_batch_gradient(self, x: Tensor, y: Tensor) -> None:
        """Add the squared gradient of one batch's mean loss, which is no Fisher."""
        loss = torch.nn.functional.cross_entropy(self.model(x), y)
        gradients = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
        for name, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None:
                self.routes[name] = "gradient of the batch"
                self._take(name, gradient.square())

    def _find_layouts(self, recording: Recording) -> None:
        """Find where the examples are in each use's output, unless the graph is as before."""
        signature = recording.signature()
        if signature == self._signature:
            return
        self._signature = signature
        if layouts.by_construction(recording):
            n = len(recording.x)
            self._layouts = [
                Layout(1, shape_of(GradientEdge(use.node, 0)).numel() // n)
                for use in recording.uses
            ]
            return
        small = record(self.model, recording.x.detach()[:3], self.parameters)
        # Some models take other paths for other batch sizes: then probe the batch itself.
        probed = small if small.signature() == signature else recording
        self._layouts = _probe(probed)


def _probe(recording: Recording) -> list[Layout | None]:
    """Layouts of all uses, by a backward pass for the second example alone."""
    n = len(recording.x)
    found: list[Layout | None] = [None] * len(recording.uses)
    v = torch.zeros_like(recording.logits)
    generator = torch.Generator().manual_seed(0)
    v[1] = torch.randn(v.shape[1], generator=generator).to(v)

    def note(node: Node, g: Tensor) -> None:
        place = layouts.find(g, n)
        for k, use in enumerate(recording.uses):
            if use.node is node:
                found[k] = place

    inputs = _backward(recording, {use.node for use in recording.uses}, v, note, with_input=True)
    if inputs is not None and layouts.mixes(inputs):
        raise ModelError(
            "the model's output for one example depends on the others of its batch, as with"
            " BatchNorm without running statistics; p(c|x) is then undefined, so replace that layer"
        )
    return found


def _backward(
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


class _Batch:
    """One batch on its way through the rules."""

    def __init__(
        self,
        recording: Recording,
        places: list[Layout | None],
        parameters: dict[str, nn.Parameter],
        passes: int,
        deliver: Callable[[str, Tensor], None],
    ) -> None:
        self.recording, self.parameters, self.deliver = recording, parameters, deliver
        self.totals: dict[str, Tensor] = {}
        """Sums of parameters whose per-example gradients are formed, until the last column."""
        self.routes: dict[str, str] = {}
        self.left: set[str] = set()
        """Parameters that no rule covers."""
        self.direct: dict[Node, tuple[Rule, dict[int, Use]]] = {}
        """Operations whose rule sums the squares itself."""
        self.summed: dict[Node, list[tuple[Rule, Use]]] = defaultdict(list)
        """Operations whose per-example gradients must meet others, or a computation, first."""
        self.silent: dict[Node, set[str]] = defaultdict(set)
        """Operations of unknown layout: fine as long as their gradient is zero."""
        self.pending: list[tuple[Rule, Use, Tensor]] = []
        self._assign(places, passes)

    def _assign(self, places: list[Layout | None], passes: int) -> None:
        """Give every use a rule, or its parameters to the fallback."""
        n = len(self.recording.x)
        count: dict[str, int] = defaultdict(int)
        for use in self.recording.uses:
            for name in use.names:
                count[name] += 1
        by_node: dict[Node, list[tuple[Use, Layout | None]]] = defaultdict(list)
        for use, place in zip(self.recording.uses, places, strict=True):
            by_node[use.node].append((use, place))
        for node, entries in by_node.items():
            direct: dict[int, Use] = {}
            for use, place in entries:
                if node.name() not in _RULES:
                    self.left |= use.names
                elif place is None:
                    self.silent[node] |= use.names
                elif use.moved and count[next(iter(use.names))] == 1:
                    direct[use.slot] = use
                    layout = place
                else:
                    self._summed(use, place, n, passes)
            if direct:
                shapes = {slot: shape_of(use.source) for slot, use in direct.items()}
                try:
                    rule = _RULES[node.name()](node, shapes, layout, n, passes)
                except UnsupportedError:
                    for use in direct.values():
                        self.left |= use.names
                else:
                    self.direct[node] = rule, direct
                    for slot, use in direct.items():
                        self.routes[next(iter(use.names))] = rule.routes[slot]

    def _summed(self, use: Use, place: Layout, n: int, passes: int) -> None:
        shapes = {use.slot: shape_of(use.source)}
        try:
            rule = _RULES[use.node.name()](use.node, shapes, place, n, passes)
        except UnsupportedError:
            self.left |= use.names
            return
        self.summed[use.node].append((rule, use))
        self.routes |= dict.fromkeys(use.names, "per-example gradients, summed over uses")

    def backward(self, v: Tensor, *, last: bool) -> None:
        """Add the squares of one column."""
        wanted = {*self.direct, *self.summed, *self.silent}

        def take(node: Node, g: Tensor) -> None:
            if node in self.silent and bool(g.ne(0).any()):
                self.left |= self.silent[node]
            for rule, use in self.summed.get(node, ()):
                self.pending.append((rule, use, g))
            if node in self.direct:
                rule, uses = self.direct[node]
                rule.add(g)
                if last:
                    # Settled at once, so that the layer's input can be freed.
                    del self.direct[node]
                    self._settle(rule, uses)

        retain = not last or bool(self.summed)
        _backward(self.recording, wanted, v, take, retain=retain)
        self._square_pending()
        if last:
            # An operation that no gradient reached has added nothing, or none this time.
            for rule, uses in self.direct.values():
                self._settle(rule, uses)
            for name in self.totals.keys() - self.left:
                self.deliver(name, self.totals[name])

    def _settle(self, rule: Rule, uses: dict[int, Use]) -> None:
        sums = rule.finish()
        for slot, use in uses.items():
            if slot not in sums:
                continue
            (name,) = use.names
            self.deliver(name, _moved_back(use.source, self.parameters[name], sums[slot]))

    def _square_pending(self) -> None:
        """Form, add up and square the per-example gradients of one column."""
        for names, uses in _components(self.pending):
            names -= self.left
            uses = [entry for entry in uses if entry[1].names & names]
            kept = {name: self.parameters[name] for name in sorted(names)}
            size = sum(p.numel() * p.element_size() for p in kept.values())
            step = max(1, 16 * BLOCK // max(1, size))
            n = len(self.recording.x)
            for start in range(0, n, step) if kept else ():
                stop = min(start + step, n)
                sums = {name: p.new_zeros(stop - start, *p.shape) for name, p in kept.items()}
                for rule, use, g in uses:
                    outer = rule.gradients(use.slot, g, start, stop)
                    for name, part in _pulled_back(use, kept, outer).items():
                        sums[name] += part
                for name, part in sums.items():
                    square = part.square_().sum(0)
                    self.totals[name] = (
                        self.totals[name] + square if name in self.totals else square
                    )
        self.pending.clear()


def _moved_back(source: GradientEdge, parameter: nn.Parameter, squares: Tensor) -> Tensor:
    """Bring squares of a moved parameter's gradient into the parameter's own shape."""
    if source.node.name() == ACCUMULATE:
        return squares
    if source.node.name() == "TBackward0" and squares.shape[::-1] == parameter.shape:
        return squares.t()
    (moved,) = torch.autograd.grad([source], [parameter], [squares], retain_graph=True)
    return moved


def _pulled_back(use: Use, parameters: dict[str, nn.Parameter], outer: Tensor) -> dict[str, Tensor]:
    """Per-example gradients of what ``use`` reads, as gradients of the parameters."""
    names = sorted(use.names & parameters.keys())
    if use.source.node.name() == ACCUMULATE:
        return {names[0]: outer}
    rows = [
        torch.autograd.grad(
            [use.source], [parameters[name] for name in names], [one], retain_graph=True
        )
        for one in outer
    ]
    return {
        name: torch.stack(parts) for name, parts in zip(names, zip(*rows, strict=True), strict=True)
    }


def _components(
    pending: list[tuple[Rule, Use, Tensor]],
) -> Iterator[tuple[set[str], list[tuple[Rule, Use, Tensor]]]]:
    """Split pending uses into groups that share no parameter."""
    groups: list[tuple[set[str], list[tuple[Rule, Use, Tensor]]]] = []
    for entry in pending:
        touching = [group for group in groups if group[0] & entry[1].names]
        groups = [group for group in groups if group not in touching]
        names = set(entry[1].names).union(*(group[0] for group in touching))
        groups.append((names, [e for group in touching for e in group[1]] + [entry]))
    yield from groups
