"""Train and eval mode for a block, restored afterwards; accuracy and a check for finite losses."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearn_bench.core.errors import MethodError

BatchNormMode = Literal["train", "batch", "eval"]


@contextlib.contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Give every module its own train/eval flag back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode for the block, without gradients, and restore it after."""
    with _modes_kept(model), torch.no_grad():
        model.eval()
        yield


@contextlib.contextmanager
def training(
    model: nn.Module, batch_norm: BatchNormMode = "train", *, dropout: bool = True
) -> Iterator[None]:
    """Put the model in train mode for the block and restore every module after.

    Args:
        model: Any model.
        batch_norm: ``train``: normalise by the batch and update the running statistics, which
            drift towards the batches' classes; ``batch``: normalise by the batch, leave the
            running statistics alone; ``eval``: normalise by the running statistics.
        dropout: Whether dropout, stochastic depth and other random layers are active. Switch it
            off to compare two passes, which would differ mostly by this.

    Raises:
        MethodError: If the block trains BatchNorm on a batch of a single value per channel.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    tracking = [norm.track_running_stats for norm in norms]
    with _modes_kept(model):
        # All but BatchNorm in eval mode, since attention calls dropout without a module for it.
        model.train(dropout)
        for norm in norms:
            norm.train(batch_norm != "eval")
            if batch_norm == "batch":
                norm.track_running_stats = False
        try:
            yield
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise MethodError(
                "BatchNorm cannot normalise a batch of one example by itself: raise batch_size to "
                "at least 2, or, if F has a single example, --set METHOD.batch_norm=eval where the "
                "method has it"
            ) from error
        finally:
            for norm, tracked in zip(norms, tracking, strict=True):
                norm.track_running_stats = tracked


def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the share of examples that the model classifies as labelled, in eval mode."""
    right, total = 0, 0
    with evaluating(model):
        for x, y in batches:
            right += int((model(x).argmax(1) == y).sum())
            total += len(y)
    return right / total


def accuracy_exceeds(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    limit: float,
    total: int,
    within: Callable[[Tensor], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> bool:
    """Whether the share of examples classified as labelled, in eval mode, is above ``limit``.

    Looks at no more batches than the answer takes.

    Args:
        model: Any model.
        batches: Of ``total`` examples together.
        limit: In [0, 1].
        total: Examples.
        within: Gives for each batch [N, ...] the block in which the model sees it.
    """
    right = 0
    with evaluating(model):
        for x, y in batches:
            with within(x):
                right += int((model(x).argmax(1) == y).sum())
            if right / total > limit:
                return True
    return False


def check_finite(loss: Tensor, advice: str) -> None:
    """Stop a method whose loss is NaN or infinite.

    Call it once per pass, not per step: reading a number makes a GPU wait.

    Raises:
        MethodError: With the advice, if the loss is not finite.
    """
    if not torch.isfinite(loss).all():
        raise MethodError(f"the loss is {loss.sum().item()}: {advice}")
