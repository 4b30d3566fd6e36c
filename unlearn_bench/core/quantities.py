"""Sizes, times and lists as people write and read them: ``10GB``, ``30d``, ``3 h``."""

import re
from collections.abc import Sequence

from unlearn_bench.core.errors import ConfigError

_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST = 365 * 86400.0


def _parse(text: str, units: dict[str, int], flag: str, example: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    unit = units.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise ConfigError(
            f"{flag} {text}: write a number and a unit ({', '.join(units)}), such as {example}"
        )
    return float(found[1]) * unit


def parse_size(text: str, flag: str) -> int:
    """Return the bytes that ``text`` such as ``10GB`` or ``512 MiB`` means.

    Raises:
        ConfigError: If it is not a number with a unit, naming ``flag``.
    """
    return 0 if text.strip() == "0" else int(_parse(text, _BYTES, flag, "10GB"))


def parse_age(text: str, flag: str) -> float:
    """Return the seconds that ``text`` such as ``30d`` or ``12h`` means.

    Raises:
        ConfigError: If it is not a number with a unit, naming ``flag``.
    """
    return _parse(text, _SECONDS, flag, "30d")


def parse_timeout(text: str) -> float:
    """Return the seconds that ``90``, ``90s``, ``10m``, ``2h`` or ``1d`` say.

    Raises:
        ConfigError: If it says no time above zero, or more than a year.
    """
    try:
        seconds = parse_age(f"{text}s" if text.strip()[-1:].isdigit() else text, "--timeout")
    except ConfigError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise ConfigError(
            f"--timeout {text}: give a time above 0 and at most 365d, such as 90s, 10m or 2h"
        )
    return seconds


def size_text(size: float) -> str:
    """Return bytes in the largest unit that leaves a number of at least 1, such as ``1.2 GB``."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{int(size)} B"


def time_text(seconds: float) -> str:
    """Return a time in its two largest units, such as ``1 h 20 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def in_order(names: Sequence[str], most: int = 20) -> str:
    """Return names in their order, a long list cut short with how many there are in all."""
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
