"""How often a suite is repeated: originals, and unlearnings from each of them."""

import re
from typing import Annotated, Any

from pydantic import (
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from unlearn_bench.suite.forget import Spec

# What is asked for must be possible: a suite that somebody else wrote is only text.
MAX_SEEDS = 10_000
MAX_UNLEARNINGS = 1_000

_AS_TEXT = re.compile(r"([0-9]{1,9})(?:x([0-9]{1,9}))?")


class Seeds(Spec):
    """Seeds in two stages, written as ``5``, ``5x3`` or ``{originals: 5, unlearning: 3}``.

    Training and unlearning both draw random numbers. One unlearning from each original cannot
    say which of the two makes a method's figures vary; several can.

    Attributes:
        originals: How many originals are trained; each has its own retraining.
        unlearning: How often every method unlearns from each original.

    Source: Lanyon et al. 2025, arXiv:2510.26714.
    """

    originals: Annotated[PositiveInt, Field(le=MAX_SEEDS)] = 1
    unlearning: Annotated[PositiveInt, Field(le=MAX_UNLEARNINGS)] = 1

    @model_validator(mode="before")
    @classmethod
    def _from_number_or_text(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"originals": value}
        if not isinstance(value, str):
            return value
        found = _AS_TEXT.fullmatch(value.strip())
        if found is None:
            raise ValueError(
                "write a number of seeds, or originals x unlearnings from each, such as 5x3"
            )
        return {"originals": int(found[1]), "unlearning": int(found[2] or 1)}

    @model_serializer(mode="wrap")
    def _as_number(self, whole: SerializerFunctionWrapHandler) -> Any:
        """Write a single stage as the number that older results have."""
        return self.originals if self.unlearning == 1 else whole(self)
