"""Who is forgotten: the scenario of a suite, in one line of text or as keys of YAML."""

import re
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

from unlearn_bench.core.errors import visible
from unlearn_bench.core.keys import content_key
from unlearn_bench.suite.indices import read_indices

MAX_INDICES = 150_000


class Spec(BaseModel):
    """Base of all specifications: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


def _is_number(text: str) -> bool:
    return bool(re.fullmatch("-?[0-9]{1,18}", text))


class Forget(Spec):
    """Who is forgotten: whole classes, a random fraction, training examples by index, or thirds.

    Written as one line of text: ``class:8``, ``classes:1,2``, ``random:0.1``,
    ``indices:3,14,15``, ``indices:FILE`` (one index into the training part per line) or
    ``thirds:0.1``. Classes may be given by index or by name. With thirds, every example of a
    fixed share of the training part is kept, forgotten or never seen, each in a third of the
    seeds: what attacks by many models need.
    """

    classes: tuple[int | str, ...] = ()
    fraction: float | None = None
    indices: tuple[int, ...] = ()
    thirds: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return cls._parse(value) if isinstance(value, str) else value

    @classmethod
    def _parse(cls, text: str) -> dict[str, Any]:
        kind, _, rest = text.partition(":")
        if kind == "indices" and rest.strip() and not rest.strip()[0].isdigit():
            return {"indices": read_indices(Path(rest.strip()))}
        items = [item.strip() for item in rest.split(",") if item.strip()]
        try:
            if kind == "class" and len(items) == 1 or kind == "classes" and items:
                return {"classes": [int(i) if _is_number(i) else i for i in items]}
            if kind in ("random", "thirds") and len(items) == 1:
                return {"fraction" if kind == "random" else kind: float(items[0])}
            if kind == "indices" and items:
                return {"indices": [int(item) for item in items]}
        except ValueError:
            pass
        text = visible(text if len(text) <= 80 else f"{text[:80]}...")
        raise ValueError(
            f"{text!r} does not say who is forgotten; write class:8, classes:1,2, random:0.1, "
            "indices:3,14, indices:FILE or thirds:0.1"
        )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        shares = {"random": self.fraction, "thirds": self.thirds}
        given = {kind: share for kind, share in shares.items() if share is not None}
        for kind, share in given.items():
            if not 0 < share < 1:
                raise ValueError(f"{kind}:{share:g} is not a fraction between 0 and 1")
        if bool(self.classes) + len(given) + bool(self.indices) != 1:
            raise ValueError("give either classes, a fraction, indices or thirds, and at least one")
        if any(not 0 <= index < 2**53 for index in self.indices):
            raise ValueError("indices count from 0: a negative or huge index names no example")
        if len(self.indices) > MAX_INDICES:
            raise ValueError(
                f"{len(self.indices):,} indices are given, at most {MAX_INDICES:,} are taken; "
                "random:FRACTION forgets more"
            )
        return self

    @model_serializer
    def _to_dict(self) -> dict[str, Any]:
        if self.fraction is not None:
            return {"fraction": self.fraction}
        if self.thirds is not None:
            return {"thirds": self.thirds}
        if self.classes:
            return {"classes": list(self.classes)}
        return {"indices": list(self.indices)}

    @property
    def name(self) -> str:
        """The scenario's name in reports, such as ``class:8``."""
        if self.fraction is not None:
            return f"random:{self.fraction:g}"
        if self.thirds is not None:
            return f"thirds:{self.thirds:g}"
        if self.classes:
            kind = "class" if len(self.classes) == 1 else "classes"
            return f"{kind}:{','.join(str(label) for label in self.classes)}"
        return f"indices:{len(self.indices)}@{content_key(list(self.indices))[:8]}"
