"""One batch on its way through the rules: who takes which operation, column by column."""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from unlearn_bench.fisher.backward import pull_back
from unlearn_bench.fisher.graph import ACCUMULATE, Recording, Use, shape_of
from unlearn_bench.fisher.layout import Layout
from unlearn_bench.fisher.outer import BLOCK
from unlearn_bench.fisher.rule import HALVES, Rule, UnsupportedError, widened
from unlearn_bench.fisher.rules import RULES


class Batch:
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
        self.left: set[str] = set(recording.hidden)
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
                if node.name() not in RULES:
                    self.left |= use.names
                elif place is None:
                    self.silent[node] |= use.names
                    self.routes |= dict.fromkeys(use.names, "zero gradient")
                elif use.moved and count[next(iter(use.names))] == 1:
                    direct[use.slot] = use
                    layout = place
                else:
                    self._summed(use, place, n, passes)
            if direct:
                shapes = {slot: shape_of(use.source) for slot, use in direct.items()}
                try:
                    rule = RULES[node.name()](node, shapes, layout, n, passes)
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
            rule = RULES[use.node.name()](use.node, shapes, place, n, passes)
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
                self.pending.append((rule, use, widened(g)))
            if node in self.direct:
                rule, uses = self.direct[node]
                rule.add(g)
                if last:
                    # Settled at once, so that the layer's input can be freed.
                    del self.direct[node]
                    self._settle(rule, uses)

        retain = not last or bool(self.summed)
        pull_back(self.recording, wanted, v, take, retain=retain)
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
                sums = {
                    name: widened(p.detach().new_zeros(stop - start, *p.shape))
                    for name, p in kept.items()
                }
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
    node = source.node
    if node.name() == "ToCopyBackward0" and squares.shape == parameter.shape:
        # A cast, as autocast has it.
        node = node.next_functions[0][0] or node
    if node.name() == ACCUMULATE:
        return squares
    if source.node.name() == "TBackward0" and squares.shape[::-1] == parameter.shape:
        return squares.t()
    if source.node._input_metadata[source.output_nr].dtype in HALVES:
        # In units of the largest square, or float16 would lose them on the way.
        unit = squares.max().clamp(min=1e-30)
        (moved,) = torch.autograd.grad([source], [parameter], [squares / unit], retain_graph=True)
        return widened(moved) * unit
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
) -> list[tuple[set[str], list[tuple[Rule, Use, Tensor]]]]:
    """Split pending uses into groups that share no parameter."""
    groups: list[tuple[set[str], list[tuple[Rule, Use, Tensor]]]] = []
    for entry in pending:
        names, uses, apart = set(entry[1].names), [entry], []
        for group in groups:
            if group[0] & names:
                names |= group[0]
                uses = group[1] + uses
            else:
                apart.append(group)
        groups = [*apart, (names, uses)]
    return groups
