"""What stands after the colon of a scenario: ``class:8``, ``random:0.1``, ``indices:FILE``."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unlearn_bench.suite.indices import read_indices


def read_scenario(kind: str, rest: str) -> dict[str, Any] | None:
    """Return the keys of a scenario that is written as one line of text.

    Args:
        kind: The word before the colon.
        rest: What follows it.

    Returns:
        The keys of :class:`~unlearn_bench.suite.forget.Forget`; None where the text is none.

    Raises:
        ValueError: If a file of indices cannot be read.
    """
    if kind == "indices" and rest and not re.fullmatch(r"[-\d\s,]*", rest, re.ASCII):
        if re.fullmatch(r"[-\d\s]*,.*", rest, re.ASCII) and not Path(rest).exists():
            return None  # numbers with something else between them
        return read_indices(Path(rest))
    try:
        if rest and kind in _READERS:
            found = _READERS[kind](rest)
            if all(value not in ("", []) for value in found.values()):
                return found
    except ValueError:
        pass
    return None


def _label(text: str) -> int | str:
    return int(text) if re.fullmatch("-?[0-9]{1,18}", text) else text


def _labels(rest: str) -> list[int | str]:
    return [_label(item.strip()) for item in rest.split(",") if item.strip()]


def _one_class(rest: str) -> dict[str, Any]:
    name, at, share = rest.rpartition("@")
    try:
        part = {"share": float(share)} if at else {}
    except ValueError:  # a class may have an @ in its name
        name, part = rest, {}
    name = (name if part else rest).strip()
    if re.fullmatch(r"[-\d\s]*,[-\d\s,]*", name, re.ASCII):
        raise ValueError("several classes are written classes:1,2")
    # A comma may be part of the name: ImageNet has a class "tench, Tinca tinca".
    return {"classes": [_label(name)] if name else [], **part}


def _share_of(field: str) -> Callable[[str], dict[str, Any]]:
    return lambda rest: {field: float(rest)}


def _group(rest: str) -> dict[str, Any]:
    column, equals, value = rest.partition("=")
    if not (column.strip() and equals and value.strip()):
        raise ValueError("a group is COLUMN=VALUE")
    return {"group": {"column": column.strip(), "value": value.strip()}}


def _memorised(rest: str) -> dict[str, Any]:
    level, _, share = rest.partition(":")
    return {"memorised": {"level": level.strip(), "share": float(share)}}


def _confused(rest: str) -> dict[str, Any]:
    names, _, share = rest.rpartition(":")
    one, other = _labels(names)
    return {"confused": {"classes": [one, other], "share": float(share)}}


def _poisoned(rest: str) -> dict[str, Any]:
    name, _, shares = rest.rpartition(":")
    share, at, known = shares.partition("@")
    (target,) = _labels(name)
    found = {"target": target, "share": float(share)}
    return {"poisoned": found | ({"known": float(known)} if at else {})}


# What follows the colon, by the word before it; a ValueError where it cannot be read.
_READERS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "class": _one_class,
    "classes": lambda rest: {"classes": _labels(rest)},
    "random": _share_of("fraction"),
    "thirds": _share_of("thirds"),
    "indices": lambda rest: {"indices": [int(item) for item in rest.split(",") if item.strip()]},
    "subclass": lambda rest: {"subclass": rest},
    "group": _group,
    "memorised": _memorised,
    "confused": _confused,
    "poisoned": _poisoned,
}
