"""The fast Fisher diagonal: one forward pass, one backward pass per column, rules on the way.

For each batch: run the model once and read the uses of its parameters off the autograd graph
(``graph.py``); for each column of logit gradients (``columns.py``) run torch's backward pass for
activations alone (``backward.py``), and let a rule (``rules.py``) take each operation's output
gradient as it comes by and add up the squares of the per-example parameter gradients. A
parameter used in several places, or through a computation of its own, has its per-example
gradients formed and summed before squaring (``batch.py``); one that no rule covers takes
``fallback.py``.
"""

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.utils.checkpoint import CheckpointError

from unlearn_bench.core.errors import ModelError
from unlearn_bench.fisher.backward import probe
from unlearn_bench.fisher.batch import Batch
from unlearn_bench.fisher.columns import Columns
from unlearn_bench.fisher.fallback import squares_by_example
from unlearn_bench.fisher.graph import Recording, record, shape_of
from unlearn_bench.fisher.layout import Layout, by_construction
from unlearn_bench.fisher.rule import widened


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
            dtype: Of the means; None for each parameter's own, float32 for halves.
        """
        self.model, self.parameters = model, parameters
        self._dtype = dtype
        # Summed in float32 at least, whatever the type asked for.
        self._dtypes = {
            name: torch.promote_types(dtype or p.dtype, torch.float32)
            for name, p in parameters.items()
        }
        self._totals: dict[str, Tensor] = {}
        self._pending: list[tuple[str, Tensor]] = []
        self.routes = dict.fromkeys(parameters, "unused")
        self._signature: list[str] = []
        self._layouts: list[Layout | None] = []

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.parameters.values())).device

    def means(self, count: int) -> dict[str, Tensor]:
        """The sums so far by parameter name, divided by ``count``; the engine is spent."""
        found = {}
        for name, p in self.parameters.items():
            total = self._totals.pop(name, None)
            if total is None:
                total = torch.zeros(p.shape, dtype=self._dtypes[name], device=p.device)
            # Rules leave their sums in whatever order of axes came cheapest.
            found[name] = total.contiguous().div_(count).to(self._dtype or total.dtype)
        return found

    def _take(self, name: str, sums: Tensor) -> None:
        """Keep one batch's sums, which become the engine's own, until the batch is done."""
        self._pending.append((name, sums))

    def commit(self) -> None:
        """Add up what the batch gave: all of it or, where memory ran out on the way, nothing."""
        for name, sums in self._pending:
            if name in self._totals:
                self._totals[name] += sums
            else:
                self._totals[name] = sums.to(self._dtypes[name])
        self._pending.clear()

    def add(self, x: Tensor, columns: Columns) -> None:
        """Add one batch.

        Args:
            x: Inputs, [N, ...].
            columns: Of the same batch.

        Raises:
            ModelError: If the model returns no logits, mixes examples, or checkpoints.
        """
        self._pending.clear()
        try:
            self._add(x, columns)
            self.commit()
        except CheckpointError as error:
            raise ModelError(
                "the model recomputes activations (gradient checkpointing), which may be read but"
                " once; switch it off, for timm models by set_grad_checkpointing(False)"
            ) from error

    def _add(self, x: Tensor, columns: Columns) -> None:
        n = len(x)
        if n == 1:
            # The example twice, the second weighted zero: see the note on BatchNorm in
            # reference.py.
            x = torch.cat([x, x])
        recording = record(self.model, x, self.parameters)
        self._find_layouts(recording)
        logits = recording.logits.detach()
        passes = columns.passes(logits.shape[1])
        batch = Batch(recording, self._layouts, self.parameters, passes, self._take)
        # The rules choose their types themselves.
        with torch.autocast(x.device.type, enabled=False):
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
                self._take(name, widened(gradient).square())
        self.commit()

    def _find_layouts(self, recording: Recording) -> None:
        """Find where the examples are in each use's output, unless the graph is as before."""
        signature = recording.signature()
        if signature == self._signature:
            return
        self._signature = signature
        if by_construction(recording):
            n = len(recording.x)
            self._layouts = [
                Layout(1, shape_of(GradientEdge(use.node, 0)).numel() // n)
                for use in recording.uses
            ]
            return
        small = record(self.model, recording.x.detach()[:3], self.parameters)
        # Some models take other paths for other batch sizes: then probe the batch itself.
        probed = small if small.signature() == signature else recording
        self._layouts = probe(probed)
