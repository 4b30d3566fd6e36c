"""Which arguments of an architecture a suite may set: numbers, switches and short names.

timm reads weights, which can run code, where some of its arguments lead; those are refused.
"""

import re

MAX_ARGUMENT = 65_536

# Arguments of timm that lead to files or addresses; the rest of an architecture's are numbers,
# switches and short names.
_LEADS_OUT = re.compile("path|file|dir|url|hub|cfg|config|cache|checkpoint|pretrained|weights")
_SHORT_NAME = re.compile("[A-Za-z][A-Za-z0-9_]{0,39}")

Argument = bool | int | float | str


def plain_arguments(args: dict[str, Argument]) -> dict[str, Argument]:
    """Return arguments of an architecture's constructor as they are.

    Raises:
        ValueError: If a name or a value is none that may be passed on.
    """
    for name, value in args.items():
        if not _SHORT_NAME.fullmatch(name) or _LEADS_OUT.search(name.lower()):
            raise ValueError(
                f"argument {name[:40]!r} is not passed on to timm: a suite names "
                "no files, addresses or weights; use --original or pretrained: true"
            )
        if isinstance(value, str) and not _SHORT_NAME.fullmatch(value):
            raise ValueError(
                f"argument {name!r} is {value[:40]!r}; allowed are numbers, true, "
                "false and names of letters, digits and _"
            )
        if not isinstance(value, str) and abs(value) > MAX_ARGUMENT:
            raise ValueError(f"argument {name!r} is larger than {MAX_ARGUMENT:,}")
    return args
