"""What must not be read while a method is tuned: nothing that its report will be made of.

Tuning has seeds of its own, from :data:`FIRST_SEED` on, which no suite reaches. Inside
:func:`blind` the test part, the seeds of reports, and whatever was made for the true forget set
are refused by those that would give them out: the dataset, the task and the store. A refusal that
somebody catches and hides ends the block all the same.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from unlearn_bench.core.errors import UserError

# A suite has at most 10,000 seeds, from 0 on.
FIRST_SEED = 1_000_000
# In the identity of whatever is made for a surrogate forget set.
SURROGATE = "surrogate"
# What is made without knowing who will be forgotten.
SHARED = ("original", "checkpoint")

_refused: list[str] | None = None


class BlindnessError(UserError):
    """Something was read while tuning that the report is made of."""


@contextmanager
def blind() -> Iterator[None]:
    """Refuse what tuning must not see, inside of the block.

    Raises:
        BlindnessError: At the end, if something was refused inside and nobody said so.
    """
    global _refused
    outer, _refused = _refused, []
    try:
        yield
        if _refused:
            raise BlindnessError(_refused[0])
    finally:
        _refused = outer


def is_blind() -> bool:
    """Whether something is being tuned."""
    return _refused is not None


def refusal(what: str) -> BlindnessError:
    """Return the error for reading ``what``, and remember it until the block ends."""
    message = (
        f"{what} was read during tuning, but is reserved for the report; read only the forget, "
        "retain and validation splits of the context, or `view`"
    )
    if _refused is not None:
        _refused.append(message)
    return BlindnessError(message)


def check_artifact(kind: str, identity: Mapping[str, Any]) -> None:
    """Refuse whatever the store holds of a report: only originals of tuning seeds are shared.

    Raises:
        BlindnessError: If something is being tuned, and this was not made for it.
    """
    if not is_blind():
        return
    seed = identity.get("seed")
    if not isinstance(seed, int) or seed < FIRST_SEED:
        raise refusal(f"a stored {kind} of seed {seed}" if seed is not None else f"stored {kind}")
    if kind not in SHARED and SURROGATE not in identity:
        raise refusal(f"a stored {kind} of the true forget set")
