"""Streams: requests that come one after the other, and how they are written.

``stream:class:1;class:4;random:0.02`` asks for three things, each when the one before has been
granted; ``random:0.01x5`` stands for five requests in a row. ``union:`` before the same list asks
for all of it at once.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

MAX_REQUESTS = 1_000

# A share can be asked for again and again; a class is gone after the first time.
_REPEATED = re.compile(r"(random:.*[0-9.])x([0-9]{1,9})")


def split_requests(text: str) -> list[object]:
    """Return the requests of a text, those that are written with ``xN`` as often as that.

    Raises:
        ValueError: If one is repeated no times, or there are more than :data:`MAX_REQUESTS`.
    """
    return repeated(item.strip() for item in text.split(";") if item.strip())


def repeated(items: Iterable[object]) -> list[object]:
    """Return the items of a list, texts with ``xN`` as often as that.

    Raises:
        ValueError: As :func:`split_requests`.
    """
    requests: list[object] = []
    for item in items:
        found = _REPEATED.fullmatch(item) if isinstance(item, str) else None
        times = int(found[2]) if found else 1
        if not times or len(requests) + times > MAX_REQUESTS:
            raise ValueError(f"a stream has 2 to {MAX_REQUESTS:,} requests")
        requests += [found[1] if found else item] * times
    return requests


def joined(names: Sequence[str]) -> str:
    """Return the text of requests with these names, equal ones in a row written with ``xN``."""
    parts = []
    for name, group in groupby(names):
        times = len(list(group))
        folded = times > 1 and _REPEATED.fullmatch(f"{name}x{times}")
        parts += [f"{name}x{times}"] if folded else [name] * times
    return ";".join(parts)


def requests_of(scenario: str) -> list[str]:
    """Return the names of a stream's requests from the scenario's name; of others, none."""
    kind, _, rest = scenario.partition(":")
    return [str(name) for name in split_requests(rest)] if kind == "stream" else []


def union_of(scenario: str) -> str:
    """Return the name of the scenario that asks at once for what a stream asks for in turn."""
    return f"union:{scenario.partition(':')[2]}"


def reversed_of(scenario: str) -> str:
    """Return the name of the stream that asks for the same in the reverse order."""
    return f"stream:{joined(requests_of(scenario)[::-1])}"
