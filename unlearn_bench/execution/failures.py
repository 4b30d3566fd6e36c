"""What becomes of an error: a failed run with its reason, or the end of the whole suite."""

from collections.abc import Callable
from typing import TypeVar

import torch

from unlearn_bench.core.errors import (
    DataError,
    ModelError,
    OutputError,
    UserError,
    said,
)
from unlearn_bench.core.memory import is_out_of_memory, release
from unlearn_bench.execution.interrupt import Interrupted, telling_apart
from unlearn_bench.results.records import Record

T = TypeVar("T")


class RunFailedError(Exception):
    """A run that ended without a result, told in one line; the suite goes on.

    The exception that a method raised is its ``__cause__``.

    Attributes:
        records: What is known of the run all the same, such as its time.
    """

    def __init__(self, message: str, records: tuple[Record, ...] = ()) -> None:
        super().__init__(message)
        self.records = records


class Failures:
    """Remembers what failed, so that nobody tries it again, and says what an error means.

    Args:
        device: Where models and data are put.

    Attributes:
        reasons: What failed so far, by the key of a run or of an original, with the reason.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reasons: dict[str, str] = {}

    def guard(self, call: Callable[[], T]) -> T:
        """Turn whatever a method raises into a failed run with a one-line reason.

        Missing data, misfit weights and a full disk are no method's fault: they end the suite, as
        Ctrl-C does.
        """
        try:
            with telling_apart():
                return call()
        except (RunFailedError, DataError, ModelError, OutputError, Interrupted):
            raise
        except UserError as error:
            raise RunFailedError(said(error)) from error
        except BaseException as error:  # whatever a method raises: KeyboardInterrupt, SystemExit
            reason = said(error)
            if is_out_of_memory(error):
                release()
                reason = self._memory_reason(error)
            kind = type(error).__name__
            raise RunFailedError(f"{kind}: {reason}" if reason else kind) from error

    def guard_suite(self, look: Callable[[], T]) -> T:
        """Refuse the whole suite where memory does not even suffice for a look at what it needs."""
        try:
            return look()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(f"{type(error).__name__}: {self._memory_reason(error)}") from error

    def _memory_reason(self, error: BaseException) -> str:
        what = "the GPU's" if self._device.type == "cuda" else "the machine's"
        reason = said(error)[:200].rstrip(". ")
        return f"{reason}; " * bool(reason) + (
            f"{what} memory is too small for this run: use fewer --workers, a smaller "
            "recipe.batch_size, --set METHOD.batch_size=... where the method has one, or a "
            "smaller model or image_size"
        )
