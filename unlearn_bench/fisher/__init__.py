"""Diagonal of the Fisher information of a classifier: exact per example, any model.

>>> from unlearn_bench.fisher import fisher_diagonal
>>> diagonal = fisher_diagonal(model, loader, kind="empirical")
>>> diagonal["fc.weight"], diagonal.routes["fc.weight"], diagonal.examples

Cost of :func:`fisher_diagonal`, in forward and backward passes over the same batches: about one
for ``"empirical"``, ``"batch"`` and each drawn label; at most (1 + 2 (C - 1)) / 3 for ``"true"``
with C classes, which needs C - 1 backward passes for activations: 5 to 8 for C = 10, 40 to 80 for
C = 100, 400 to 600 for C = 1000. Use ``"monte_carlo"`` with many classes: on a MobileNetV3 with
C = 100 and N = 64, the error of a parameter's diagonal (median, relative norm) is 17 % with one
label and 4 % with 16; with C = 1000 and N = 16 it is 33 % and 8 %. The error of the last layer is
about sqrt(C / (N samples)), since only drawn classes contribute. Memory is that of one batch's
passes plus the result.

Precision: a model in bfloat16 or float16, or under ``torch.autocast``, is evaluated and
differentiated as it is, but squares are taken and summed in float32. On ResNet-18, MobileNetV3 and
ViT-tiny the error of a parameter's diagonal is then 0.3 to 3 % in bfloat16 and 0.1 % in float16
(median, relative norm). Without loss scaling, float16 gradients below 6e-8 vanish. On CUDA, float32
products follow torch's own tf32 settings (``torch.set_float32_matmul_precision``,
``torch.backends.cuda.matmul``, and ``torch.backends.cudnn`` for convolutions); this function does
not change them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import ParameterError, suggestion
from unlearn_bench.core.memory import is_out_of_memory, note_halved, release
from unlearn_bench.core.small_maps import convolving
from unlearn_bench.fisher.columns import KINDS, Columns
from unlearn_bench.fisher.diagonal import Engine
from unlearn_bench.fisher.reference import reference_diagonal
from unlearn_bench.fisher.result import FisherDiagonal
from unlearn_bench.fisher.state import borrowed

__all__ = ["FisherDiagonal", "Kind", "fisher_diagonal", "reference_diagonal"]

Kind = Literal["true", "empirical", "monte_carlo", "batch"]


def fisher_diagonal(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    kind: Kind = "true",
    *,
    samples: int = 1,
    params: Iterable[str] | None = None,
    dtype: torch.dtype | None = None,
    progress: Callable[[int], None] | None = None,
    seed: int = 0,
) -> FisherDiagonal:
    """Compute the Fisher diagonal of ``model`` over ``batches``, in eval mode.

    With N examples in all, and the square taken element by element:

    * ``"true"``: (1/N) sum_i sum_c p(c|x_i) (d log p(c|x_i) / d theta)^2;
    * ``"empirical"``: (1/N) sum_i (d log p(y_i|x_i) / d theta)^2;
    * ``"monte_carlo"``: the true Fisher with ``samples`` labels drawn from p(.|x_i) in place
      of the sum over classes; unbiased, its variance falls as 1 / (N samples);
    * ``"batch"``: the mean over batches of the squared gradient of the batch's mean loss, as
      the official code of SSD (arXiv:2308.07707) has it; no Fisher, kept to reproduce it.

    Cost, memory and half precision: see the module's description.

    The model comes back as it was: parameters, ``.grad``, flags, mode, buffers, hooks, RNG.

    Args:
        model: Classifier, inputs [N, ...] to logits [N, C].
        batches: Pairs of inputs [N, ...] and class labels [N], read once. Labels matter to
            ``"empirical"`` and ``"batch"`` alone.
        kind: Which of the four.
        samples: Labels drawn per example; ``"monte_carlo"`` alone reads it.
        params: Names of the parameters to compute, as in ``model.named_parameters()``; None
            for all, frozen ones included.
        dtype: Type of the returned means, which are summed in float32 at least and rounded once
            at the end; None for each parameter's own, float32 for halves.
        progress: Called after each batch with the number of examples done.
        seed: Of the drawn labels; the global random state is neither read nor moved.

    Returns:
        Parameter name to a tensor of that parameter's shape, with ``.routes`` and
        ``.examples``.

    Raises:
        ParameterError: If an argument is out of range, names an unknown parameter, or
            ``batches`` is empty.
        ModelError: If the model returns no logits [N, C], lets the examples of a batch
            influence each other, or recomputes activations (gradient checkpointing).

    Source: Amari 1998; Kunstner et al. 2019, arXiv:1905.12558, for true against empirical.
    """
    _refuse_unknown(kind, samples)
    names = _chosen(model, params)
    parameters = {name: p for name, p in model.named_parameters() if name in names}
    with borrowed(model), convolving(model), torch.inference_mode(False), torch.enable_grad():
        for name, p in model.named_parameters():
            p.requires_grad_(name in parameters)
        engine = Engine(model, parameters, dtype)
        examples, terms = _sum(engine, batches, kind, samples, seed, progress)
    return FisherDiagonal(engine.means(terms), engine.routes, examples)


def _refuse_unknown(kind: str, samples: int) -> None:
    if kind not in KINDS:
        raise ParameterError(
            f"kind is {kind!r}{suggestion(str(kind), KINDS)}; give one of {', '.join(KINDS)}"
        )
    if samples < 1:
        raise ParameterError(f"samples is {samples}; give 1 or more")


def _sum(
    engine: Engine,
    batches: Iterable[tuple[Tensor, Tensor]],
    kind: Kind,
    samples: int,
    seed: int,
    progress: Callable[[int], None] | None,
) -> tuple[int, int]:
    """Add all batches to the engine; return the number of examples and of terms in the mean."""
    generator = torch.Generator().manual_seed(seed)
    examples, steps = 0, 0
    for x, y in _on(engine.device, batches):
        if kind == "batch":
            engine.add_batch_gradient(x, y)
        else:
            _add(engine, x, lambda labels: Columns(kind, labels, samples, generator), y)
        examples, steps = examples + len(x), steps + 1
        if progress is not None:
            progress(examples)
    if not examples:
        raise ParameterError("batches is empty; give at least one (x, y) pair")
    return examples, steps if kind == "batch" else examples


def _on(
    device: torch.device, batches: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    return ((x.to(device), y.to(device)) for x, y in batches if len(x))


def _add(engine: Engine, x: Tensor, columns: Callable[[Tensor], Columns], y: Tensor) -> None:
    """Add a batch, in halves if memory does not hold it whole: examples do not meet in it."""
    n = len(x)
    try:
        engine.add(x, columns(y))
        return
    except Exception as error:
        if n == 1 or not is_out_of_memory(error):
            raise
    release()  # outside the handler, whose traceback holds on to what did not fit
    note_halved("fisher", n - n // 2)
    for part, labels in ((x[: n // 2], y[: n // 2]), (x[n // 2 :], y[n // 2 :])):
        _add(engine, part, columns, labels)


def _chosen(model: nn.Module, params: Iterable[str] | None) -> list[str]:
    """Names to compute, in the model's order; refuses unknown and non-float ones."""
    parameters = dict(model.named_parameters())
    wanted = set(parameters) if params is None else set(params)
    if not wanted:
        raise ParameterError("no parameters to compute; give names from model.named_parameters()")
    for name in sorted(wanted - set(parameters)):
        raise ParameterError(
            f"the model has no parameter {name!r}{suggestion(name, parameters)};"
            " give names from model.named_parameters()"
        )
    for name in sorted(wanted):
        if not parameters[name].is_floating_point():
            raise ParameterError(
                f"parameter {name!r} has dtype {parameters[name].dtype}; only real floating"
                " types have a Fisher diagonal, so leave it out with params=[...]"
            )
    return [name for name in parameters if name in wanted]
